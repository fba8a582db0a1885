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
# # Degradations: where low-resolution depth comes from
#
# Super-resolution is trained on pairs, and the small map of a pair is usually *made* from the large one: shrunk with some
# kernel, perhaps with noise, perhaps quantised. The study that we rebuild trained on five such degradations and found
# that a network trained on one loses several decibels on another. But none of the five was what a user has: a map
# *rendered* at low resolution. Here one view is degraded in every way and rendered for real, and two tiny networks meet
# all of them.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image, Markdown, display
from quick_head import SCALE, error_map, show, splat_head, start, study, train_tiny

from splathead.config import CrossConfig
from splathead.images import save_depth_png
from splathead.maps.degrade import KERNELS
from splathead.maps.low_resolution import load_low_resolution, requantised
from splathead.metrics.depth import evaluate_depth
from splathead.prediction import interpolate_depth
from splathead.report.figures import figure_bytes
from splathead.report.study.ablation_tables import causes_table, degradation_label
from splathead.report.study.matrix_figures import cross_figure
from splathead.report.typeset import markdown
from splathead.training.pairs import make_pair

start()
NAMES = CrossConfig().degradations
head = splat_head(seed=1004, yaws_deg=(0.0, -45.0, -20.0, 20.0, 45.0), size=1024)
views = [head.view(index) for index in range(5)]

# %% [markdown]
# ## The kernels
#
# Along one axis, a low-resolution pixel is a weighted mean of high-resolution pixels. `area` averages the four under it.
# `bicubic` as the published study used it (OpenCV's `INTER_CUBIC`) looks at four pixels whatever the factor: for a factor
# of four that is nearly a point sample, and everything finer aliases. `bicubic_antialiased` is the same curve, widened by
# the factor. A rasteriser does none of these: it evaluates the Gaussians at the centre of each pixel, after widening them
# a little.

# %%
figure, axes = plt.subplots(1, 3, figsize=(10, 2.2), sharey=True)
x = np.linspace(-8, 8, 801)
for axis, name in zip(axes, ("area", "bicubic", "bicubic_antialiased")):
    support, widened, weight = KERNELS[name]
    values = weight(x / SCALE) / SCALE if widened else weight(x)
    axis.fill_between(x, values, color="tab:blue", alpha=0.3)
    axis.plot(x, values, color="tab:blue")
    axis.axvspan(-SCALE / 2, SCALE / 2, color="0.9", zorder=0)
    axis.set(title=degradation_label(name), xlabel="high-resolution pixels")
axes[0].set_ylabel("weight")
plt.show()

# %% [markdown]
# ## One map, seven inputs
#
# All inputs of one view, by the functions that the study's stage 09 uses. `render 16-bit` and `render 8-bit` are the real
# low-resolution render; the others are computed from the 1024 render of the same Gaussians. Below: what each differs from
# the real render in float, in millimetres.

# %%
store = tempfile.TemporaryDirectory()


def inputs_of(view):
    """Every input of a view, read from files as in a run."""
    folder = Path(store.name) / "head" / "regularised-classic" / view.camera.name
    maps = {"hr_render": view.render, "lr_16bit": view.low, "lr_8bit": requantised(view.low, 8)}
    for name, depth_map in maps.items():
        save_depth_png(folder / f"{name}.png", depth_map)
    return {name: load_low_resolution(folder, name) for name in NAMES}


inputs = [inputs_of(view) for view in views]
front = inputs[0]
real = front["16bit"]
rows, columns = (np.flatnonzero(real.mask.any(axis)) for axis in (1, 0))
box = np.s_[rows[0] - 2 : rows[0] + 160, columns[0] - 3 : columns[-1] + 4]
figure, axes = plt.subplots(1, len(NAMES), figsize=(12.5, 2.9))
for axis, name in zip(axes, NAMES):
    if name == "16bit":
        picture = np.where(real.mask, real.depth, np.nan)
        show(axis, picture[box], "real render\n(its depth)", cmap="viridis_r", interpolation="nearest")
    else:
        difference = error_map(front[name].depth, real.depth)
        options = {"cmap": "RdBu_r", "vmin": -3, "vmax": 3, "interpolation": "nearest"}
        shown = show(axis, difference[box], degradation_label(name).replace(" ", "\n", 1), **options)
figure.colorbar(shown, ax=axes, shrink=0.8, label="minus real render, mm")
plt.show()

# %% [markdown]
# Three things can be seen. Noise of 2 % of the depth range is several millimetres: it drowns everything else, and no
# splat render looks like that. The 8-bit code is a fine pattern, far smaller. And the three kernels hardly differ from
# each other, but all of them from the real render, and to one side: it lies in front, most of all on slopes. That is not
# resampling. Classic rasterisation widens every Gaussian by the same part of a pixel, and a pixel is four times as wide
# at 256, so what is in front covers more of what is behind it.
#
# The same as numbers: enlarged bilinearly, how far each input is from the real render, and how far from the splats' own
# 1024 depth.

# %%
view = views[0]
reference = interpolate_depth(real, SCALE, "bilinear").depth
inside = view.truth(real, "render").zones.interior & (reference > 0)
heads = ("input", "differs from the real render, RMS mm", "bilinear against the splats' own 1024 depth, RMSE mm")
table = [f"| {' | '.join(heads)} |", "|---|---:|---:|"]
for name in NAMES:
    large = interpolate_depth(front[name], SCALE, "bilinear").depth
    both = inside & (large > 0)
    apart, error = (np.sqrt(np.mean((large - other)[both] ** 2)) for other in (reference, view.render.depth))
    table.append(f"| {degradation_label(name)} | {apart:.3f} | {error:.3f} |")
display(Markdown("\n".join(table)))

# %% [markdown]
# ## Two tiny networks, seven tests
#
# A UNet with 8 instead of 32 channels in its first level is trained for a few seconds on four views of this head: once on
# un-antialiased bicubic input, as published, and once on the real 8-bit render. Both learn the published target, the
# splats' own 1024 depth. Then each gets every input of a fifth view. This is a demonstration on one head, not a result.

# %%
TRAINED_ON = ("bicubic", "8bit")
networks = {}
for name in TRAINED_ON:
    pairs = [make_pair(v.camera.name, found[name], v.render) for v, found in zip(views[1:], inputs[1:])]
    networks[name] = train_tiny(pairs, "render", steps=160)

scores = {}
truth = view.truth(front["8bit"], "render")  # one peak and one set of pixels for every input
for tested in NAMES:
    maps = {f"trained on {degradation_label(name)}": networks[name].predict(front[tested]) for name in TRAINED_ON}
    maps["bilinear"] = interpolate_depth(front[tested], SCALE, "bilinear")
    for line, found in maps.items():
        scores[line, tested] = evaluate_depth(found.depth, truth)["interior"].psnr

lines = list(dict.fromkeys(line for line, _ in scores))
matrix = np.array([[scores[line, tested] for tested in NAMES] for line in lines])
figure, axis = plt.subplots(figsize=(9, 2.7))
shown = axis.imshow(matrix, cmap="viridis", aspect="auto")
for (i, j), value in np.ndenumerate(matrix):
    colour = "white" if value < (matrix.min() + matrix.max()) / 2 else "black"
    weight = "bold" if lines[i] == f"trained on {degradation_label(NAMES[j])}" else "normal"
    axis.text(j, i, f"{value:.1f}", ha="center", va="center", color=colour, weight=weight)
axis.set_xticks(range(len(NAMES)), [degradation_label(name).replace(" ", "\n", 1) for name in NAMES], fontsize=8)
axis.set_yticks(range(len(lines)), lines)
axis.spines[:].set_visible(False)
axis.tick_params(length=0)
axis.set_xlabel("applied to")
figure.colorbar(shown, label="interior PSNR, dB")
plt.show()

# %% [markdown]
# Bold: the input that a network was trained on. Down a column the input is the same and the training differs; along a row
# the training is the same and the input differs.
#
# - On resampled input, bilinear interpolation alone nearly gives the splats' own depth back, and the network trained
#   there has learned nothing beyond that. On a real render it is as lost as bilinear is.
# - The network trained on the real render has learned that the input lies in front, and moves it back. It helps where
#   that is so and hurts where it is not: the errors below change sign.
# - Noise is poor for everyone, since neither network has seen any, and an average over the whole matrix is mostly about
#   it.

# %%
figure, axes = plt.subplots(1, 4, figsize=(11, 3.4))
detail = np.s_[4 * box[0].start + 90 : 4 * box[0].start + 610, 4 * box[1].start : 4 * box[1].stop]
pictures = {
    f"{degradation_label(name)} network\non {degradation_label(tested)}": networks[name].predict(front[tested]).depth
    for name in TRAINED_ON for tested in TRAINED_ON
}  # fmt: skip
for axis, (title, depth) in zip(axes, pictures.items()):
    shown = show(axis, error_map(depth, view.render.depth)[detail], title, cmap="RdBu_r", vmin=-2, vmax=2)
figure.colorbar(shown, ax=axes, shrink=0.8, label="minus splats' 1024, mm")
plt.show()

# %% [markdown]
# ## What the study says
#
# Full-size UNets, one for each of the seven inputs, over all test heads and both kinds of fit: the matrix, and what the
# mean drop over the five degradations is made of.

# %%
results = study()
figure, table = (results and make(results) for make in (cross_figure, causes_table))
if figure:
    display(Image(figure_bytes(figure, "png")))
if table:
    display(Markdown(markdown(table)))
