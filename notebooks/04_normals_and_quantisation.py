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
# # Normals and quantisation
#
# Two questions of the study on one splatted head, small enough for a CPU: what do the bits of the input cost, and which
# normals are worth learning from? Maps are 512x512 from 128x128 here. One head proves nothing; the study's own figures
# are at the end.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Image, Markdown, display
from quick_head import SCALE, depth_normals, error_map, normals_picture, show, splat_head, start, study, train_tiny

from splathead.ablations.normal_targets import bilateral_normals
from splathead.images import DepthEncoding, DepthMap
from splathead.maps.degrade import downsample
from splathead.maps.low_resolution import requantised
from splathead.maps.render_subject import NORMAL_SCALE, pack_normals
from splathead.metrics.depth import evaluate_depth
from splathead.prediction import interpolate_depth, variational_prediction
from splathead.report.figures import METHOD_COLOURS, figure_bytes
from splathead.report.study.ablation_tables import NORMAL_SOURCES, normals_table
from splathead.report.study.figures import bits_figure
from splathead.report.typeset import markdown
from splathead.training.pairs import make_pair, prepare_input

start()
head = splat_head(seed=1004, yaws_deg=(0.0, -45.0, -20.0, 20.0, 45.0), size=512)
views = [head.view(index) for index in range(5)]
view = views[0]
surface, camera = view.surface, view.camera
rows, columns = (np.flatnonzero(surface.mask.any(axis)) for axis in (1, 0))
box = np.s_[rows[0] + 45 : rows[0] + 305, columns[0] - 4 : columns[-1] + 5]  # the face

# %% [markdown]
# ## How many bits?
#
# A code of *n* bits has 2^n - 2 steps between the nearest and the farthest depth. Two inputs are coded with 4 to 12 bits:
# the *exact* surface, averaged over cells, where the code is the only fault; and the Gaussians' render, where it is one
# fault of several. Both are enlarged by bilinear interpolation and by the variational method, which knows how wide a step
# is.

# %%
exact, exact_mask = downsample(surface.depth, surface.mask, SCALE, "area")
exact_encoding = DepthEncoding.from_depth(exact, exact_mask, 16, "mm")
sources = {
    "exact surface": DepthMap(exact, exact_mask, exact_encoding, view.low.camera, "exact"),
    "splat render": view.low,
}
enlarge = {
    "bilinear": lambda lr: interpolate_depth(lr, SCALE, "bilinear"),
    "variational": lambda lr: variational_prediction(lr, SCALE),
}
BITS = (4, 5, 6, 7, 8, 10, 12)
found = {}
for source, lr in sources.items():
    for bits in BITS:
        coded = requantised(lr, bits)
        truth = view.truth(coded)
        for method, run in enlarge.items():
            found[source, method, bits] = evaluate_depth(run(coded).depth, truth)["interior"]

figure, axes = plt.subplots(1, 2, figsize=(10, 3.4))
panels = (
    ("rmse", "interior RMSE, mm", (0.3, 0.5, 1, 2, 3)),
    ("normal_error", "error of normals, degrees", (6, 8, 10, 15, 20, 30)),
)
for axis, (metric, label, ticks) in zip(axes, panels):
    for source, style in (("exact surface", "o-"), ("splat render", "s--")):
        for method in enlarge:
            values = [getattr(found[source, method, bits], metric) for bits in BITS]
            axis.plot(BITS, values, style, color=METHOD_COLOURS[method], ms=4, label=f"{method}, {source}")
    axis.set(xlabel="bits of the input", title=label, yscale="log", xticks=BITS)
    axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_yticks([], minor=True)
axes[1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
plt.show()

# %% [markdown]
# With few bits the variational method is far ahead, most of all in normals: it may cross a step anywhere, while
# interpolation has to follow the staircase. With many bits there is nothing left to gain, and between the two it can
# smooth away a little more relief than it saves. From splats (dashed), millimetres soon stop improving with more bits,
# because the bias and noise of the Gaussians are larger than the step; normals stop later. Steps show in normals long
# before they show in millimetres.
#
# ## Steps seen as normals
#
# The exact surface with 5 to 12 bits. As pictures of depth the four would look the same; as normals, interpolated steps
# are terraces, flat with a ramp at every edge. The variational surface has no terraces, only less relief the wider the
# steps are.

# %%
figure, axes = plt.subplots(2, 4, figsize=(8.4, 5.2))
for row, method in zip(axes, enlarge):
    for axis, bits in zip(row, (5, 6, 8, 12)):
        depth = enlarge[method](requantised(sources["exact surface"], bits))
        show(axis, normals_picture(depth_normals(depth.depth, camera))[box], f"{method}, {bits} bits")
plt.show()

# %% [markdown]
# ## Normals of splats
#
# Gaussians have normals of their own: the shortest axis of each, blended as colours are. The published study used them to
# supervise a network and found that they hurt. Four candidates, with the angle to the true normals over the interior:
# splat normals, the same smoothed by a joint bilateral filter (as published), normals of the Gaussians' depth, and
# normals of the 8-bit input after bilinear interpolation.
#
# Splat normals are smooth and miss all relief; normals of splat depth have relief, but the wrong one. Smoothing what is
# smooth already changes little. The input itself is no worse a source than any of them.

# %%
low8 = requantised(view.low, 8)
inside = view.truth(low8).zones.interior
true_normals = view.true_normals
candidates = {
    "splat normals": view.maps["normal"] / NORMAL_SCALE,
    "splat normals, bilateral": bilateral_normals(view.maps),
    "of splat depth": depth_normals(view.render.depth, camera),
    "of 8-bit depth, bilinear": depth_normals(interpolate_depth(low8, SCALE, "bilinear").depth, camera),
}


def angles_deg(normals):
    """Angle [H, W] to the true normals; NaN where either is unknown."""
    length = np.linalg.norm(normals, axis=-1) * np.linalg.norm(true_normals, axis=-1)
    cosine = np.divide((normals * true_normals).sum(-1), length, out=np.full(length.shape, np.nan), where=length > 0.5)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


figure, axes = plt.subplots(2, 5, figsize=(10, 5))
for column, (name, normals) in zip(axes.T, candidates.items()):
    angle = angles_deg(normals)
    show(column[0], normals_picture(normals * surface.mask[..., None])[box], name)
    title = f"mean {np.nanmean(angle[inside]):.1f}°,\nmedian {np.nanmedian(angle[inside]):.1f}°"
    shown = show(column[1], np.where(surface.mask, angle, np.nan)[box], title, cmap="magma", vmin=0, vmax=45)
show(axes[0, 4], normals_picture(true_normals)[box], "true normals")
axes[1, 4].set_axis_off()
figure.colorbar(shown, ax=axes[1, 4], location="left", shrink=0.8, label="angle to the truth, degrees")
plt.show()

# %% [markdown]
# ## A normal head, with and without
#
# The UNet may predict normals beside depth from the same features; the head costs few parameters and is thrown away
# afterwards. Whether depth gains depends on the normals that it is taught. Three tiny networks, equal but for that, are
# trained for a few seconds on four views and scored on the fifth, which none has seen. Above: what the head itself
# predicts (without a head: the normals of the depth). Below: the error of the depth.

# %%
targets = {"none": lambda v: None, "surface": lambda v: pack_normals(v.true_normals), "splat": lambda v: v.maps["normal"]}
truth = view.truth(low8)
bilinear = interpolate_depth(low8, SCALE, "bilinear").depth
depths, normals = {"bilinear": bilinear}, {"bilinear": depth_normals(bilinear, camera)}
for kind, normals_of in targets.items():
    pairs = [make_pair(v.camera.name, requantised(v.low, 8), v.surface, normals=normals_of(v)) for v in views[1:]]
    trained, name = train_tiny(pairs, "surface", steps=200, normal_head=kind != "none"), NORMAL_SOURCES[kind]
    depths[name] = trained.predict(low8).depth
    normals[name] = depth_normals(depths[name], camera)
    if kind != "none":
        with torch.no_grad():
            _, heads_own = trained.network(torch.from_numpy(prepare_input(low8).depth01)[None, None], with_normals=True)
        normals[name] = heads_own[0].permute(1, 2, 0).numpy() * surface.mask[..., None]

figure, axes = plt.subplots(2, len(depths), figsize=(9.4, 5.2))
for column, (name, depth) in zip(axes.T, depths.items()):
    show(column[0], normals_picture(normals[name])[box], name)
    shown = show(column[1], error_map(depth, surface.depth)[box], cmap="RdBu_r", vmin=-3, vmax=3)
figure.colorbar(shown, ax=axes[1], shrink=0.8, label="behind the surface, mm")
plt.show()
lines = ["| normals from | interior RMSE, mm | bias, mm | error of the depth's normals, ° |", "|---|---:|---:|---:|"]
for name, depth in depths.items():
    inside = evaluate_depth(depth, truth)["interior"]
    lines.append(f"| {name} | {inside.rmse:.3f} | {inside.bias:+.3f} | {inside.normal_error:.2f} |")
display(Markdown("\n".join(lines)))

# %% [markdown]
# In seconds the heads learn the broad shape of a face and no relief. All three networks have learned to move the surface
# forward, and hardly anything else; what the table tells apart is mostly how far (its bias). One head cannot rank sources
# of normals. The study's table does, over all test heads and with intervals. `DSINE` normals come from an image network
# whose weights are not part of this repository.
#
# ## What the study says

# %%
published = study()
figure = published and bits_figure(published)
if figure:
    display(Image(figure_bytes(figure, "png")))

# %%
table = published and normals_table(published)
if table:
    display(Markdown(markdown(table)))
