# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Training a depth super-resolution network
#
# Stage 06 learns to take 8-bit 256x256 splat depth to the true 1024x1024 surface. This notebook does the same on
# analytic heads of 256x256 pixels, small enough for a CPU in seconds: look at a pair, train, read the curves, interrupt and
# resume, overfit one sample. The numbers below say how the tools behave, not how good the method is: those are in `eval/`.

# %%
import tempfile
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from splathead.config import ModelConfig, TrainConfig
from splathead.maps.normals import normals_from_depth
from splathead.metrics.zones import ZoneSettings
from splathead.models import architecture_for, create_network, parameter_count
from splathead.prediction import interpolate_depth
from splathead.synthetic import synthetic_view
from splathead.training.data import PairSet
from splathead.training.device import create_accelerator
from splathead.training.pairs import make_pair
from splathead.training.trainer import Trainer, validation_rmse_mm

torch.set_num_threads(1)  # tiny crops: more threads would wait for each other
plt.rcParams.update({"figure.dpi": 90, "axes.spines.top": False, "axes.spines.right": False, "image.interpolation": "nearest"})
work = Path(tempfile.mkdtemp(prefix="splathead_training_"))
cpu = torch.device("cpu")

# %% [markdown]
# ## A pair
#
# The input is what a splat render leaves after 8-bit coding: 1.2 mm behind the surface, noisy, in steps. The target is the
# surface. Errors are in mm over the *interior*, away from silhouettes, where nearly all squared error would otherwise sit.

# %%
view = synthetic_view(seed=100, yaw_deg=20.0, size=256)
surface = view["surface"]
bilinear = interpolate_depth(view["lr_8bit"], 4, "bilinear")


def shaded(depth_map):
    """Depth as a surface lit from the upper left: shows steps and noise that grey values hide."""
    normals, valid = normals_from_depth(depth_map.depth, depth_map.mask, depth_map.camera, jump=np.inf)
    return np.where(valid, np.clip(normals @ [-0.5, -0.5, -0.7], 0.05, 1), np.nan)


def head_box(mask, margin=3):
    """Rows and columns that a mask uses."""
    return tuple(slice(max(i[0] - margin, 0), i[-1] + margin + 1) for i in (np.flatnonzero(mask.any(axis)) for axis in (1, 0)))


def show(axis, image, title, **options):
    shown = axis.imshow(image, **options)
    axis.set_title(title, fontsize=10)
    axis.axis("off")
    return shown


box = head_box(surface.mask)
figure, axes = plt.subplots(1, 4, figsize=(10, 3.6), layout="constrained")
low = view["lr_8bit"]
show(axes[0], np.where(low.mask, low.depth, np.nan)[head_box(low.mask, 1)], "input: 8 bit, 64x64", cmap="magma_r")
show(axes[1], shaded(bilinear)[box], "bilinear, shaded", cmap="gray", vmin=0, vmax=1)
show(axes[2], shaded(surface)[box], "surface, shaded", cmap="gray", vmin=0, vmax=1)
both = surface.mask & bilinear.mask
error = np.where(both, bilinear.depth - surface.depth, np.nan)
shown = show(axes[3], error[box], "bilinear - surface, mm", cmap="RdBu_r", vmin=-3, vmax=3)
figure.colorbar(shown, ax=axes[3], shrink=0.8)
plt.show()


# %% [markdown]
# ## Training
#
# The network is the study's UNet (7,765,409 parameters at base 32) with a small base, a bilinear base image and a
# zero-initialised output, so that it starts exactly at bilinear interpolation. Crops are centred on the head. What an epoch
# shows depends on the seed and the epoch's number alone.


# %%
def pairs(seeds, size=256):
    """Pairs of analytic heads. Pixels of small frames are wide, so what counts as a depth jump grows with them."""
    made, zones = [], ZoneSettings(band_px=2, jump=4.0 * 1024 / size)
    for seed in seeds:
        maps = synthetic_view(seed, 12.0 * (seed % 5 - 2), size)
        made.append(make_pair(f"head {seed}", maps["lr_8bit"], maps["surface"], zones))
    return PairSet(made, cpu)


settings = TrainConfig(
    model=ModelConfig(base_ch=4, base="bilinear", zero_init=True), target="surface", epochs=16, batch_size=4, grad_accum=1,
    crop=64, crops_per_view=2, learning_rate=5e-3, loss_scale="lsb",
)  # fmt: skip
train, val = pairs(range(8)), pairs([20, 21])


def trainer(folder, settings=settings, train=train, val=val):
    """A trainer with a freshly initialised network."""
    torch.manual_seed(0)
    network = create_network(settings.model.name, architecture_for(settings.model, scale=4, target=settings.target))
    return Trainer(network, train, val, settings, work / folder, accelerator=create_accelerator("cpu"))


run = trainer("whole")
start = validation_rmse_mm(run.network, val)
report = run.run()
print(f"{parameter_count(run.network):,} parameters, {report.seconds:.1f} s, {report.images_per_second:.0f} crops/s")
print(f"interior RMSE on validation heads: bilinear {start:.3f} mm -> {report.val_rmse_mm:.3f} mm (epoch {report.best_epoch})")


# %%
def curves(log, axes, label, **style):
    """Loss, validation error and learning rate by epoch."""
    epochs = [row["epoch"] for row in log]
    for axis, key in zip(axes, ("train_loss", "val_rmse_mm", "learning_rate")):
        axis.plot(epochs, [row[key] for row in log], label=label, **style)


figure, axes = plt.subplots(1, 3, figsize=(10, 2.8), layout="constrained")
curves(report.log, axes, "UNet", color="tab:blue", marker="o", markersize=3)
axes[1].axhline(start, color="0.5", linestyle="--", label="bilinear")
axes[1].scatter([report.best_epoch], [report.val_rmse_mm], color="tab:red", zorder=3, label="kept weights")
axes[1].legend(frameon=False)
for axis, title in zip(axes, ("training loss, 8-bit steps", "validation RMSE, mm (interior)", "learning rate")):
    axis.set(title=title, xlabel="epoch", ylim=(0, None))
plt.show()

# %% [markdown]
# ## Killed and resumed
#
# A checkpoint is one safetensors file with everything in it: weights, best weights, optimiser moments, generator states, the
# log. Here a training is interrupted in the middle of an epoch and started again: on a CPU the result is equal to the bit.


# %%
class Killed(Exception):
    """Stands in for SIGKILL."""


interrupted = trainer("resumed")
real_step = interrupted.step


def step(group, made):
    """Die in the middle of the sixth epoch."""
    if interrupted.progress.step == 5 * interrupted.steps_per_epoch + 2:
        raise Killed
    real_step(group, made)


interrupted.step = step
try:
    interrupted.run()
except Killed:
    print("killed at optimiser step", interrupted.progress.step)

resumed = trainer("resumed")
again = resumed.run()
same = all(torch.equal(a, b) for a, b in zip(run.network.state_dict().values(), resumed.network.state_dict().values()))
print("weights equal to the uninterrupted run's, to the bit:", same)
assert same

figure, axes = plt.subplots(1, 3, figsize=(10, 2.8), layout="constrained")
curves(report.log, axes, "uninterrupted", color="tab:blue", linewidth=4, alpha=0.35)
curves(again.log, axes, "killed and resumed", color="tab:red", linestyle=":")
for axis, title in zip(axes, ("training loss, 8-bit steps", "validation RMSE, mm (interior)", "learning rate")):
    axis.axvline(5 + 2 / interrupted.steps_per_epoch, color="0.6", linewidth=0.8)
    axis.set(title=title, xlabel="epoch", ylim=(0, None))
axes[0].legend(frameon=False)
plt.show()

# %% [markdown]
# ## Overfitting one sample
#
# The first thing to try when a network does not learn: one view, until it is known by heart. It should reach far below
# bilinear; if not, the fault is in the data, the loss or the learning rate, not in the amount of data.

# %%
one = pairs([3], size=64)
memorise = replace(
    settings, model=ModelConfig(base_ch=8, base="bilinear", zero_init=True), epochs=200, batch_size=1, crop=0,
    crops_per_view=1, learning_rate=3e-3, validate_every=10, checkpoint_every=200,
)  # fmt: skip
overfit = trainer("overfit", memorise, one, one)
before = validation_rmse_mm(overfit.network, one)
known = overfit.run()
print(f"interior RMSE: bilinear {before:.3f} mm -> {known.val_rmse_mm:.3f} mm")

with torch.no_grad():
    batch = one.batch(overfit.plan(0)[0], 0)
    prediction = overfit.network(batch.lr_depth01)
inside = batch.mask[0, 0] > 0
errors = {}
torch.manual_seed(0)
untrained = create_network("unet", architecture_for(memorise.model, scale=4, target="surface")).eval()
with torch.no_grad():
    for name, network in (("bilinear", untrained), ("overfitted", overfit.network)):
        difference = (network(batch.lr_depth01) - batch.target01)[0, 0] * one.pairs[0].lr.range
        errors[name] = np.where(inside, difference, np.nan)

figure, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained", width_ratios=[1.4, 1, 1])
measured = [row for row in known.log if row["val_rmse_mm"] is not None]
axes[0].semilogy([row["epoch"] for row in measured], [row["val_rmse_mm"] for row in measured], marker="o", markersize=3)
axes[0].axhline(before, color="0.5", linestyle="--")
axes[0].axhline(before / 5, color="0.5", linestyle=":")
axes[0].text(200, before, "bilinear", va="bottom", ha="right")
axes[0].text(200, before / 5, "a fifth", va="bottom", ha="right")
axes[0].set(title="interior RMSE on the one sample, mm", xlabel="epoch", ylim=(0.1, 8), yticks=[0.1, 0.3, 1, 3])
axes[0].yaxis.set_major_formatter("{x:g}")
axes[0].yaxis.set_minor_formatter("")
for axis, (name, values) in zip(axes[1:], errors.items()):
    shown = show(axis, values[head_box(inside.numpy())], f"{name} - surface, mm", cmap="RdBu_r", vmin=-3, vmax=3)
figure.colorbar(shown, ax=axes[2], shrink=0.8)
plt.show()

# %% [markdown]
# ## In full
#
# ```
# python scripts/06_train_depth_sr.py                                     # configs/quick.yaml: a small base, on a CPU
# python scripts/06_train_depth_sr.py --config configs/laptop_8gb.yaml    # the study's training on one 8 GB GPU
# accelerate launch scripts/06_train_depth_sr.py ...                      # several GPUs
# ```
# Weights, `model.json`, `log.csv` and `training.csv` lie in `runs/<config>/06_train_depth_sr/<method>/`.
