"""What notebooks 02 to 04 share: a head splatted in seconds, its depth maps, a tiny network, pictures, the study's rows."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib_inline.backend_inline import set_matplotlib_formats

from splathead.cameras import Camera, camera_yaw_elevation
from splathead.config import Config, FitConfig, ModelConfig, PostprocessConfig, TrainConfig
from splathead.evaluation.views import View
from splathead.fitting.optimise import fit_views, preset_config
from splathead.gaussians import Gaussians
from splathead.images import DepthEncoding, DepthMap, encode_normals
from splathead.maps.normals import normals_from_depth
from splathead.maps.pairs import Pair
from splathead.maps.postprocess import clean_view
from splathead.maps.render_subject import render_maps
from splathead.metrics.depth import DepthTruth
from splathead.metrics.zones import ZoneSettings
from splathead.models import architecture_for, architecture_to_dict, create_network, parameter_count
from splathead.prediction import TrainedNetwork
from splathead.raster import RasterSettings
from splathead.raycast import Lighting, RayCaster, shaded_rgba
from splathead.report.study.data import Study, load_study
from splathead.samples import Sample
from splathead.subjects.anny import anny_head
from splathead.subjects.rig import subject_cameras
from splathead.subjects.writer import sparse_cloud
from splathead.training.data import PairSet
from splathead.training.device import create_accelerator
from splathead.training.losses import CODE_STEPS
from splathead.training.pairs import TrainingPair
from splathead.training.trainer import Trainer

SCALE = 4
NORMAL_WEIGHT = TrainConfig.normal_loss_weight * CODE_STEPS
"""The study's weight stands beside a loss in units of the depth range; here it is in steps of the code, so much larger"""
EVAL = Path(__file__).resolve().parents[1] / "eval"


def start() -> None:
    """Settings of every notebook: one thread for tiny tensors, plain pictures."""
    torch.set_num_threads(1)  # more threads would wait for each other
    set_matplotlib_formats("jpeg", pil_kwargs={"quality": 90})  # normals are nearly noise: a fifth of their size as PNG
    plt.rcParams.update({"figure.dpi": 90, "figure.constrained_layout.use": True, "axes.titlesize": 10})
    plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "image.interpolation": "antialiased"})
    plt.rcParams.update({"legend.frameon": False, "legend.fontsize": 9})


@dataclass(frozen=True)
class HeadView:
    """One view of a splatted head: exact depth of the mesh, and depth of the Gaussians rendered at two sizes."""

    camera: Camera
    surface: DepthMap  # [H, W], 16 bits
    render: DepthMap  # [H, W], 16 bits
    low: DepthMap  # [H / 4, W / 4], 16 bits; rendered, not resampled
    maps: dict[str, np.ndarray]  # all cleaned maps at the high resolution, see maps.postprocess.clean_view
    true_normals: np.ndarray  # [H, W, 3]

    def scored(self, lr: DepthMap) -> View:
        """What the evaluation needs to score predictions from the input ``lr``."""
        sample = Sample("head", "regularised-classic", self.camera.name)
        targets = {"render": self.render, "surface": self.surface}
        return View(Config(), sample, Pair(sample, lr, targets, *camera_yaw_elevation(self.camera)))

    def truth(self, lr: DepthMap, target: str = "surface") -> DepthTruth:
        """Truth for ``metrics.depth.evaluate_depth`` of predictions from the input ``lr``."""
        view = self.scored(lr)
        return DepthTruth.build(view.targets[target].depth, self.camera, view.bilinear, view.code, lr.encoding, self.zones)

    @property
    def zones(self) -> ZoneSettings:
        """Pixels of small frames are wide: fewer of them are a silhouette, and depth rises more from one to the next."""
        share = self.camera.width / 1024
        return ZoneSettings(band_px=round(8 * share), jump=4.0 / share)


@dataclass(frozen=True)
class SplattedHead:
    """Gaussians fitted to pictures of a head whose surface is known."""

    caster: RayCaster
    gaussians: Gaussians
    cameras: list[Camera]

    def view(self, index: int) -> HeadView:
        """Depth maps of one of the map cameras."""
        camera = self.cameras[index]
        hits = self.caster.cast(camera)
        depth = hits.depth_map
        small = camera.resized(camera.width // SCALE)
        high, low = self._clean(camera), self._clean(small)
        return HeadView(
            camera,
            _coded(depth, depth > 0, camera, "true surface"),
            _coded(high["depth"], high["mask"], camera, "Gaussians"),
            _coded(low["depth"], low["mask"], small, "Gaussians, low resolution"),
            high,
            hits.normal_map(),
        )

    def _clean(self, camera: Camera) -> dict[str, np.ndarray]:
        maps = render_maps(self.gaussians, camera, RasterSettings(), Config())
        return clean_view(maps, camera, PostprocessConfig(), camera.name)


def splat_head(seed: int, yaws_deg: Sequence[float], size: int) -> SplattedHead:
    """An ``anny`` head, shaded from 18 directions, and Gaussians fitted to these pictures (the preset ``regularised``)."""
    caster, lighting = RayCaster(anny_head(seed)), Lighting.sample(seed)
    rig = subject_cameras(seed, fit_views=18, heldout_views=0, fit_size=224, map_yaws_deg=yaws_deg, map_size=size)
    images = [shaded_rgba(caster, camera, lighting) for camera in rig.fit]
    points, colours = sparse_cloud(caster, rig.fit, lighting, 6000, np.random.default_rng(seed))
    settings = preset_config(FitConfig(iterations=350, max_gaussians=12000), "regularised")
    return SplattedHead(caster, fit_views(images, rig.fit, points, colours, settings, seed=seed), rig.maps)


def _coded(depth: np.ndarray, mask: np.ndarray, camera: Camera, source: str) -> DepthMap:
    encoding = DepthEncoding.from_depth(depth, mask, 16, "mm")
    decoded, mask = encoding.decode(encoding.encode(depth, mask))
    return DepthMap(decoded, mask, encoding, camera, source)


def train_tiny(
    pairs: Sequence[TrainingPair], target: str, *, steps: int, normal_head: bool = False, seed: int = 0
) -> TrainedNetwork:
    """A UNet of the study's form with 8 instead of 32 channels, trained for seconds: for pictures, never for results."""
    model = ModelConfig(base_ch=8, base="bilinear", zero_init=True, normal_head=normal_head)
    settings = TrainConfig(
        model=model, target=target, steps=steps, epochs=1, batch_size=4, grad_accum=1, crop=64, learning_rate=3e-3,
        loss_scale="lsb", normal_target="surface" if normal_head else "", normal_loss_weight=NORMAL_WEIGHT,
    )  # fmt: skip
    architecture = architecture_for(model, scale=SCALE, target=target)
    accelerator = create_accelerator("cpu")
    torch.manual_seed(seed)
    network = create_network("unet", architecture)
    with tempfile.TemporaryDirectory() as folder:
        examples = PairSet(pairs, accelerator.device)
        Trainer(network, examples, None, settings, Path(folder), accelerator=accelerator, seed=seed).run()
    info = {
        "architecture": architecture_to_dict("unet", architecture), "target": target, "lr_input": "notebook", "sha256": "",
        "parameters": parameter_count(network),
    }  # fmt: skip
    return TrainedNetwork(network.eval(), info, accelerator.device)


def study() -> Study | None:
    """The study's committed results; None (and a line that says how to make them) where there are none."""
    if not list(EVAL.glob("paper_*.csv")):
        print("No eval/paper_*.csv here. They are made by\n  python run_pipeline.py --config configs/paper.yaml")
        return None
    return load_study(EVAL, "paper")


def show(axis, picture, title: str = "", **options):
    """An image without axes."""
    shown = axis.imshow(picture, **options)
    axis.set_title(title)
    axis.set_axis_off()
    return shown


def depth_normals(depth: np.ndarray, camera: Camera) -> np.ndarray:
    """Normals [H, W, 3] that a depth map shows, zero where it has none."""
    return normals_from_depth(depth, depth > 0, camera, jump=np.inf)[0]


def normals_picture(normals: np.ndarray) -> np.ndarray:
    """Normals [H, W, 3] as colours, white where there is none."""
    return np.where(np.any(normals != 0, axis=-1, keepdims=True), encode_normals(normals), 255).astype(np.uint8)


def error_map(depth: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Predicted minus true depth [H, W] mm, NaN where either has no surface."""
    return np.where((depth > 0) & (truth > 0), depth.astype(np.float64) - truth, np.nan)
