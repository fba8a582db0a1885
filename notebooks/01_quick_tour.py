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
# # Quick tour: from a head to Gaussians, to depth, to a mesh
#
# One head goes through every step of the pipeline, through the library's own functions: a parametric head, 3D Gaussians
# fitted to views of it, depth maps of the Gaussians, depth with the bits and pixels put back, and a fused mesh. It takes
# about a minute on two CPU cores. One head proves nothing: measured results are in `eval/` and in a run's `report.html`.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from splathead import fusion
from splathead.cameras import orbit_camera
from splathead.config import Config, FitConfig, ModelConfig, PostprocessConfig, TrainConfig
from splathead.fitting.optimise import fit_views, preset_config
from splathead.images import DepthEncoding, DepthMap, encode_normals
from splathead.maps.normals import normals_from_depth
from splathead.maps.postprocess import clean_view
from splathead.maps.render_subject import render_maps
from splathead.metrics.depth import error_statistics
from splathead.metrics.image import psnr
from splathead.metrics.surface import Surface
from splathead.metrics.zones import compute_zones
from splathead.models import architecture_for, architecture_to_dict, create_network
from splathead.prediction import TrainedNetwork, interpolate_depth, load_network
from splathead.raster import RasterSettings, render
from splathead.raycast import Lighting, RayCaster, shaded_rgba
from splathead.report.viewer import signed_distances
from splathead.subjects.anny import anny_head
from splathead.subjects.base import HeadMesh
from splathead.subjects.rig import subject_cameras
from splathead.subjects.writer import sparse_cloud
from splathead.training.data import PairSet
from splathead.training.device import create_accelerator
from splathead.training.pairs import make_pair
from splathead.training.trainer import Trainer

torch.set_num_threads(1)  # the tensors here are tiny: more threads would wait for each other
plt.rcParams.update({"figure.dpi": 90, "figure.constrained_layout.use": True, "axes.titlesize": 10})
plt.rcParams.update({"image.interpolation": "antialiased"})
SEED, SIZE, LOW = 1004, 1024, 256
work = Path(tempfile.mkdtemp(prefix="splathead_tour_"))


def show(axis, picture, title, **options):
    """An image without axes."""
    shown = axis.imshow(picture, **options)
    axis.set_title(title)
    axis.set_axis_off()
    return shown


# %% [markdown]
# ## A head
#
# `anny` samples identity, face shape and expression from a seed; we add skin relief in three bands, hair, and colour. The head
# is in millimetres, +Y up, +Z out of the face. Depth and normals of the mesh are exact, by ray casting.


# %%
def tour_cameras(seed):
    """18 views to fit, one to hold out, three map views."""
    return subject_cameras(seed, fit_views=18, heldout_views=1, fit_size=224, map_yaws_deg=(-35.0, 0.0, 35.0), map_size=SIZE)


head = anny_head(SEED)
caster, lighting = RayCaster(head), Lighting.sample(SEED)
cameras = tour_cameras(SEED)
print(f"{len(head.vertices):,} vertices; {' x '.join(f'{side:.0f}' for side in head.extent_mm)} mm")

front = cameras.maps[1]
truth = caster.cast(front)
box = np.s_[150:-120, 215:-215]
figure, axes = plt.subplots(1, 4, figsize=(11, 3.7))
for axis, yaw in zip(axes, (-50, 0, 50)):
    show(axis, shaded_rgba(caster, orbit_camera(yaw, 5, 512), lighting)[75:-60, 107:-107], f"seen from yaw {yaw} degrees")
show(axes[3], encode_normals(truth.normal_map())[box], "true normals")
plt.show()

# %% [markdown]
# ## Gaussians
#
# 3D Gaussian splatting, fitted to views from all around and started from a sparse noisy cloud; it never sees the mesh. The
# preset `regularised` adds a penalty on the spread of depth along each ray.


# %%
def fit(caster, cameras, seed):
    """Gaussians of a head from shaded views of it."""
    lighting = Lighting.sample(seed)
    images = [shaded_rgba(caster, camera, lighting) for camera in cameras.fit]
    points, colours = sparse_cloud(caster, cameras.fit, lighting, 6000, np.random.default_rng(seed))
    settings = preset_config(FitConfig(iterations=350, max_gaussians=12000), "regularised")
    return fit_views(images, cameras.fit, points, colours, settings, seed=seed)


gaussians = fit(caster, cameras, SEED)
unseen = cameras.heldout[0].resized(512)
photo = shaded_rgba(caster, unseen, lighting).astype(float) / 255
photo = photo[..., :3] * photo[..., 3:]
splatted = render(gaussians, unseen, outputs=("rgb",)).rgb.clamp(0, 1).permute(1, 2, 0).numpy()

figure, axes = plt.subplots(1, 3, figsize=(9, 3.4))
show(axes[0], photo[60:-60, 90:-90], "a view that was not fitted")
show(axes[1], splatted[60:-60, 90:-90], f"{len(gaussians):,} Gaussians: PSNR {psnr(splatted, photo):.1f} dB")
chosen = np.random.default_rng(0).permutation(len(gaussians))[:4000]
x, y, z = gaussians.means[chosen].T.numpy()
axes[2].scatter(x, y, s=1.5, c=gaussians.colours(torch.tensor([0.0, 0.0, 500.0]))[chosen].clamp(0, 1).numpy())
axes[2].set(title="some of their centres, mm", aspect="equal")
plt.show()

# %% [markdown]
# ## Depth maps
#
# The Gaussians are rendered at 1024 and again at 256, cleaned, and the small map is coded with 8 bits: that is what many tools
# hand on. Normals show what grey values hide: splat noise in the large map, steps of the code in the small one.


# %%
def depth_maps(gaussians, cameras):
    """Clean depth of every map view: at full size in 16 bits, and a quarter of it in 8 bits; and the colours."""
    high, low, colours = {}, {}, {}
    for camera in cameras.maps:
        for store, at, bits in ((high, camera, 16), (low, camera.resized(LOW), 8)):
            maps = clean_view(render_maps(gaussians, at, RasterSettings(), Config()), at, PostprocessConfig(), camera.name)
            encoding = DepthEncoding.from_depth(maps["depth"], maps["mask"], bits, "mm")
            depth, mask = encoding.decode(encoding.encode(maps["depth"], maps["mask"]))
            store[camera.name] = DepthMap(depth, mask, encoding, at, "quick tour")
            if store is high:
                colours[camera.name] = maps["rgb"]
    return high, low, colours


def normals_of(depth, camera):
    """Normals of a depth map as colours."""
    return encode_normals(normals_from_depth(depth, depth > 0, camera, jump=np.inf)[0])


splat, coded, colours = depth_maps(gaussians, cameras)
large, small = splat[front.name], coded[front.name]
print(f"one step of the 8-bit code is {small.encoding.lsb:.2f} mm")
figure, axes = plt.subplots(1, 4, figsize=(11, 3.7))
show(axes[0], np.where(large.mask, large.depth, np.nan)[box], "depth of the Gaussians, 1024", cmap="viridis_r")
show(axes[1], normals_of(large.depth, front)[box], "its normals")
show(axes[2], normals_of(small.depth, small.camera)[38:-30, 54:-54], "normals of 256 pixels, 8 bits")
show(axes[3], encode_normals(truth.normal_map())[box], "the true surface")
plt.show()

# %% [markdown]
# ## Super-resolution
#
# Bilinear interpolation, and a network that has learned what surfaces look like. The network of the quick run is used where
# `python run_pipeline.py` has been run; otherwise a very small one is trained here, for ten seconds, on one other head. That is
# enough to learn how far splats lie behind the surface and to smooth, not to know faces.


# %%
def train_small_network():
    """A network trained on three views of another head."""
    other = RayCaster(anny_head(SEED + 1))
    views = tour_cameras(SEED + 1)
    _, inputs, _ = depth_maps(fit(other, views, SEED + 1), views)
    pairs = []
    for camera in views.maps:
        depth = other.cast(camera).depth_map
        encoding = DepthEncoding.from_depth(depth, depth > 0, 16, "mm")
        pairs.append(make_pair(camera.name, inputs[camera.name], DepthMap(depth, depth > 0, encoding, camera, "truth")))
    settings = TrainConfig(
        model=ModelConfig(base_ch=4, base="bilinear", zero_init=True), epochs=20, batch_size=4, grad_accum=1, crop=128,
        crops_per_view=8, learning_rate=3e-3, loss_scale="lsb",
    )  # fmt: skip
    architecture = architecture_for(settings.model, scale=SIZE // LOW, target="surface")
    accelerator = create_accelerator("cpu")
    torch.manual_seed(SEED)
    network = create_network("unet", architecture)
    examples = PairSet(pairs, accelerator.device)
    Trainer(network, examples, None, settings, work / "network", accelerator=accelerator, seed=SEED).run()
    info = {"architecture": architecture_to_dict("unet", architecture), "target": "surface", "lr_input": "8bit", "sha256": ""}
    return TrainedNetwork(network.eval(), info, accelerator.device)


trained = Path("../runs/quick/06_train_depth_sr/unet/model.safetensors")
network = load_network(trained) if trained.is_file() else train_small_network()
network_name = "network of the quick run" if trained.is_file() else "small network"

methods = {
    "Gaussians, 1024 float": splat,
    "bilinear": {name: interpolate_depth(lr, SIZE // LOW, "bilinear") for name, lr in coded.items()},
    network_name: {name: network.predict(lr) for name, lr in coded.items()},
}
true_depth = truth.depth_map
interior = compute_zones(true_depth).interior
figure, axes = plt.subplots(2, 3, figsize=(10, 7))
for column, (name, maps) in zip(axes.T, methods.items()):
    predicted = maps[front.name].depth
    both = interior & (predicted > 0)
    rmse, _, bias = error_statistics((predicted - true_depth)[both])
    show(column[0], normals_of(predicted, front)[box], name)
    error = np.where((predicted > 0) & (true_depth > 0), predicted - true_depth, np.nan)
    title = f"interior: RMSE {rmse:.2f} mm, bias {bias:+.2f} mm"
    shown = show(column[1], error[box], title, cmap="RdBu_r", vmin=-3, vmax=3)
figure.colorbar(shown, ax=axes[1], shrink=0.8, label="behind the surface, mm")
plt.show()

# %% [markdown]
# ## A mesh
#
# The three views of each method are fused into a truncated signed distance field (confidence falls with the angle of
# incidence), its surface is extracted, cleaned, decimated and coloured. One camera and one light for all.

# %%
true_surface = Surface.build(head.vertices, head.faces)
clay = Lighting(0.25, np.array([[-0.5, 0.5, 0.7], [0.8, 0.1, 0.5]]), np.array([0.65, 0.2]))
beside = orbit_camera(24, 4, 640)


def fuse(maps):
    """Depth maps of all views to one coloured mesh."""
    views = [fusion.DepthView(maps[c.name].depth, maps[c.name].mask, c, rgb=colours[c.name]) for c in cameras.maps]
    surface = fusion.largest_component(fusion.extract_surface(fusion.fuse_views(views, voxel=1.0, jump=4.0)))
    mesh = fusion.decimated(surface, 150_000)
    mesh.colours = fusion.vertex_colours(mesh.vertices, views, tolerance=2.0, jump=4.0)
    return mesh


def clay_picture(vertices, faces, colours=None):
    """A shaded picture of a mesh; grey clay unless it has colours."""
    colours = np.full(vertices.shape, 0.82) if colours is None else colours
    return shaded_rgba(RayCaster(HeadMesh(vertices, faces, colours)), beside, clay)[95:-75, 125:-125]


meshes = {name: fuse(maps) for name, maps in methods.items()}
figure, axes = plt.subplots(2, 4, figsize=(11, 7.2))
for column, (name, mesh) in zip(axes.T, meshes.items()):
    share = np.clip(signed_distances(mesh.vertices, true_surface) / 6 + 0.5, 0, 1)
    show(column[0], clay_picture(mesh.vertices, mesh.faces), name)
    show(column[1], clay_picture(mesh.vertices, mesh.faces, plt.get_cmap("RdBu_r")(share)[:, :3]), "distance, ±3 mm")
show(axes[0, 3], clay_picture(head.vertices, head.faces), "true mesh")
final = meshes[network_name]
show(axes[1, 3], clay_picture(final.vertices, final.faces, final.colours / 255), f"{network_name}, coloured")
plt.show()

for suffix in ("ply", "glb"):
    fusion.save_mesh(work / f"head.{suffix}", final, scale="metric")
print(f"{len(final.faces):,} triangles; head.ply and head.glb, in the folder work, open in Blender")

# %% [markdown]
# ## On your own data
#
# ```
# python run_pipeline.py                                         # the whole pipeline on embedded heads, with tables
# python run_pipeline.py --config configs/capture.yaml           # a posed capture
# python scripts/02_reconstruct_gaussians.py --source import --import_path head.ply    # Gaussians you have
# ```
# The README says what each configuration does and where results go.
