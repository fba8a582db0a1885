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
# # Baselines: what can be had without training
#
# A 256x256 depth map with 8 bits is enlarged four times. Interpolation is the obvious way, and a strong one: a network is
# worth having only as far as it beats these. One head is splatted here on the spot, and every training-free method of the
# study is looked at from four sides: surface, error, one scan line, and the F-score. One head proves nothing; the study's
# own table is at the end.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown, display
from quick_head import SCALE, depth_normals, error_map, normals_picture, show, splat_head, start, study

from splathead.maps.low_resolution import requantised
from splathead.metrics.depth import evaluate_depth
from splathead.metrics.mesh import CURVE_MM, MeshSettings, SurfaceTruth, evaluate_mesh
from splathead.metrics.surface import Surface
from splathead.models.interpolation import fit_offset
from splathead.prediction import interpolate_depth, load_network, variational_prediction
from splathead.report.data import method_label
from splathead.report.figures import LINE_STYLES, METHOD_COLOURS
from splathead.report.study.main_tables import main_table
from splathead.report.typeset import markdown
from splathead.results import threshold_text

start()
head = splat_head(seed=1004, yaws_deg=(-35.0, 0.0, 35.0), size=1024)
views = [head.view(index) for index in range(3)]
inputs = [requantised(view.low, bits=8) for view in views]
view, low = views[1], inputs[1]
surface = view.surface.depth
print(f"{len(head.gaussians):,} Gaussians; one step of the 8-bit code is {low.encoding.lsb:.2f} mm")

# %% [markdown]
# ## The input
#
# The Gaussians are rendered at 256x256 and the depth is coded with 8 bits between its own nearest and farthest value. As
# a picture of depth that looks perfect. Normals show more: the bumps are steps of the code and noise of the splats.
# Beside it, what the Gaussians say at 1024 in float (no steps, more noise), and the surface that the head really has.

# %%
top = int(view.surface.mask.any(1).argmax())
left, right = (int(edge) for edge in np.flatnonzero(view.surface.mask.any(0))[[0, -1]])
box = np.s_[top + 90 : top + 610, left - 8 : right + 8]  # the face
small_box = tuple(slice(side.start // SCALE, side.stop // SCALE) for side in box)
figure, axes = plt.subplots(1, 4, figsize=(11, 3.5))
show(axes[0], np.where(low.mask, low.depth, np.nan)[small_box], "input: depth, 256, 8 bits", cmap="viridis_r")
show(axes[1], normals_picture(depth_normals(low.depth, low.camera))[small_box], "input: normals")
show(axes[2], normals_picture(depth_normals(view.render.depth, view.camera))[box], "Gaussians, 1024, float")
show(axes[3], normals_picture(depth_normals(surface, view.camera))[box], "true surface")
plt.show()

# %% [markdown]
# ## The methods
#
# - **nearest**, **bilinear**, **bicubic** interpolate the decoded values.
# - **bilinear + offset** adds one constant, because splat depth lies behind the surface. The study fits it on the
#   training heads; here it comes from the two other views of this head.
# - **variational** looks for a smooth surface whose cell means stay near half a step of the code: between two steps the
#   code does not care, so smoothness may decide. Beyond half a step leaving costs, more and more, but is not forbidden.
# - **raw splat depth** is not an upsampler: the Gaussians rendered at 1024 in float, for comparison.
#
# Networks join where their weights are found in `runs/` (`python scripts/06_train_depth_sr.py --config
# configs/paper.yaml`).

# %%
def interior_error(view, lr):
    """Target minus bilinear in the interior, mm: what the offset is fitted on."""
    inside = view.truth(lr).zones.interior
    return (view.surface.depth - view.scored(lr).bilinear)[inside]


offset_mm = fit_offset([interior_error(*pair) for pair in zip(views[::2], inputs[::2])])
methods = {
    "raw_splat": view.render,
    "nearest": interpolate_depth(low, SCALE, "nearest"),
    "bilinear": interpolate_depth(low, SCALE, "bilinear"),
    "bicubic": interpolate_depth(low, SCALE, "bicubic"),
    "bilinear_offset": interpolate_depth(low, SCALE, "bilinear", offset_mm),
    "variational": variational_prediction(low, SCALE),
}
trained = Path("../runs/paper/06_train_depth_sr")
for name in ("edsr", "unet", "unet_normals", "sgnet"):
    weights = trained / f"{name}-surface" / "model.safetensors"
    if weights.is_file():
        network = load_network(weights)
        methods[name] = network.predict(low, {guide: view.maps[guide] for guide in network.guides})
depths = {name: view.scored(low).filled(found.depth, view.surface.mask) for name, found in methods.items()}
print(f"offset {offset_mm:+.2f} mm; methods: {', '.join(method_label(name) for name in methods)}")

# %% [markdown]
# ## Surfaces and errors
#
# Above: normals of each result. Below: its signed error, red behind the true surface, blue in front of it. Most of the
# face is red for all but the offset: the bias of splat depth, which no interpolation can see; narrow hollows (mouth, eyes,
# nostrils) are blue, as splats bridge them. What differs between the methods
# is fine relief: blocks and terraces for nearest, ripples for bilinear and bicubic, and far fewer of them for the
# variational method, which keeps what the code is sure of and smooths what lies within half a step of it.

# %%
def pictures(names):
    """A row of normals and a row of errors."""
    figure, axes = plt.subplots(2, len(names), figsize=(2.3 * len(names) + 0.7, 6))
    for column, name in zip(axes.T, names):
        show(column[0], normals_picture(depth_normals(depths[name], view.camera))[box], method_label(name))
        shown = show(column[1], error_map(depths[name], surface)[box], cmap="RdBu_r", vmin=-3, vmax=3)
    figure.colorbar(shown, ax=axes[1], shrink=0.8, label="behind the surface, mm")
    plt.show()


pictures(["nearest", "bilinear", "bicubic", "variational"])

# %%
pictures(["bilinear_offset", "raw_splat", *(name for name in ("unet", "sgnet") if name in methods)])

# %% [markdown]
# ## One scan line
#
# A horizontal line of pixels across the forehead, and a part of it enlarged. Grey boxes are the input: a cell is four
# pixels wide, and its code allows any value within half a step. The bilinear curve connects the middles of the boxes and
# so inherits their staircase; the variational one uses the room inside of them, and a little beyond where the relief asks
# for it. The true surface (black) need not lie in the boxes: they hold what the *splats* render.

# %%
row = top + 210
columns = np.flatnonzero(view.surface.mask[row])
first = (columns[0] + len(columns) // 5) // SCALE * SCALE
part = np.arange(first, first + 72)
figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), width_ratios=[1, 1.7])
axes[0].plot(columns, surface[row, columns], color="black", lw=1, label="true surface")
axes[0].plot(columns, depths["nearest"][row, columns], color=METHOD_COLOURS["nearest"], lw=1, label="nearest")
axes[0].axvspan(part[0], part[-1], color="0.9")
axes[0].set(title=f"row {row}", xlabel="pixel", ylabel="depth, mm")
for first in part[::SCALE]:
    middle, half = depths["nearest"][row, first], low.encoding.lsb / 2
    axes[1].fill_between([first - 0.5, first + SCALE - 0.5], middle - half, middle + half, color="0.88", lw=0)
for name in ("nearest", "bilinear", "bicubic", "variational", "bilinear_offset", "raw_splat"):
    style = "steps-mid" if name == "nearest" else "default"
    line = {"color": METHOD_COLOURS[name], "ls": LINE_STYLES.get(name, "-"), "lw": 1.4, "drawstyle": style}
    axes[1].plot(part, depths[name][row, part], label=method_label(name), **line)
axes[1].plot(part, surface[row, part], color="black", lw=1.8, label="true surface")
axes[1].set(title="the shaded part: boxes are what the 8-bit code allows", xlabel="pixel")
axes[1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
for axis in axes:
    axis.invert_yaxis()  # near is up
axes[0].legend()
plt.show()

# %% [markdown]
# ## Numbers of this view
#
# The *interior* is everything farther than 8 pixels from silhouettes and depth jumps, the *silhouette* is the rest: few
# pixels, nearly all of the squared error of the whole. *Violations* are cells whose mean leaves the interval of the code;
# the offset leaves it on purpose.

# %%
truth = view.truth(low)
lines = [
    "| method | interior RMSE, mm | bias, mm | normals, ° | violations, % | silhouette RMSE, mm | full RMSE, mm |",
    "|---|---:|---:|---:|---:|---:|---:|",
]
for name, depth in depths.items():
    scores = evaluate_depth(depth, truth)
    inside = scores["interior"]
    cells = [f"{inside.rmse:.3f}", f"{inside.bias:+.3f}", f"{inside.normal_error:.2f}"]
    cells += [f"{100 * inside.interval_violation:.1f}"]
    cells += [f"{scores[zone].rmse:.2f}" for zone in ("silhouette", "full")]
    lines.append(f"| {method_label(name)} | {' | '.join(cells)} |")
display(Markdown("\n".join(lines)))

# %% [markdown]
# ## F over the threshold
#
# Depth becomes a mesh; *precision* is the share of its vertices within a distance τ of the true surface, *recall* the
# share of the true surface within τ of the mesh, and F their harmonic mean. A number at one τ says little: at a fine τ
# everything behind the surface scores nothing whatever its shape, at a coarse one everything scores 1. Curves of
# different methods may be compared only at the same τ (see `05_paper_figures` for what happens otherwise).

# %%
true_mesh = Surface.build(head.caster.mesh.vertices, head.caster.mesh.faces)
mesh_truth = SurfaceTruth.from_mesh(true_mesh, surface, view.camera, MeshSettings(samples=30_000, vertex_stride=4))
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True)
for name, depth in depths.items():
    found = evaluate_mesh(depth, view.surface.mask, mesh_truth)
    for axis, zone in zip(axes, ("interior", "full")):
        curve = [found[zone].f_score[threshold_text(tau, "mm")] for tau in CURVE_MM]
        axis.plot(CURVE_MM, curve, LINE_STYLES.get(name, "-"), color=METHOD_COLOURS[name], label=method_label(name))
for axis, title in zip(axes, ("interior", "full view")):
    axis.set(title=title, xlabel="threshold τ, mm", xlim=(0, 2), ylim=(0, 1))
axes[0].set_ylabel("F-score")
axes[1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
plt.show()

# %% [markdown]
# ## What the study says
#
# The same measures over all test heads, both kinds of fit, with networks, from the committed results.

# %%
results = study()
table = results and main_table(results, "surface")
if table:
    display(Markdown(markdown(table)))
