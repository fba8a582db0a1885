"""Views around a head: rendered, cleaned, enhanced, each with a confidence."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from splathead.cameras import MM_PER_UNIT, RIG_RADIUS_UNITS, Camera, orbit_camera
from splathead.config import Config
from splathead.devices import networks_in_memory
from splathead.enhance.device_choice import Devices
from splathead.enhance.enlarge import Enlarge, enlarge_method, method_weights, own_factor
from splathead.enhance.head import Head
from splathead.enhance.options import EnhanceOptions
from splathead.enhance.sampling import KNOWN_SIDE, Sampling, reduced
from splathead.fusion import DepthView
from splathead.gaussians import Gaussians
from splathead.images import DepthMap
from splathead.maps.render_subject import render_maps
from splathead.models.splat_surface import SplatMaps, SplatSurfaceSettings, outlier_weight, splat_confidence, splat_surface
from splathead.subjects.importer import visible_extent
from splathead.threads import prepare

DIRECTIONS = (
    (0, 0), (40, 25), (-40, 25), (75, -20), (-75, -20), (135, 15), (-135, 15), (180, 40), (20, -20), (-20, -20), (0, 45),
    (90, 0), (-90, 0), (110, 20), (-110, 20), (180, 50),
)  # fmt: skip
"""Yaw and elevation in degrees of the views, the most telling ones first: the face, the sides, the back, from below, above.
Of the first eight three look down on the crown and two up under the jaw, which have larger holes otherwise (eval/LOG.md,
2026-11-29 and 2026-11-30)"""
STEP_BACK = 1.1
"""Factor by which cameras move away until the head fits"""
_one_gpu_render = threading.Lock()
"""The CUDA rasterisers load, and may compile, their kernels at the first call: two threads must not begin that together"""
NETWORKS_PER_GPU = 4
"""Views of 1024 pixels that the network is applied to at a time, where the GPU's memory is enough: most of its turn is the
CPU's, which makes inputs and maps"""


@dataclass(frozen=True)
class EnhancedView:
    """One view, all maps [H, W] of its camera's size; depth in the unit of ``after``, which is mm but for some depth maps."""

    camera: Camera
    before: DepthMap
    after: DepthMap
    confidence: np.ndarray  # float32 in 0..1
    rgb: np.ndarray | None  # [H, W, 3] uint8

    def depth_view(self, *, enhanced: bool) -> DepthView:
        """What fusion takes; the raw depth has no confidence."""
        depth_map = self.after if enhanced else self.before
        return DepthView(
            depth_map.depth, depth_map.mask, self.camera, confidence=self.confidence if enhanced else None, rgb=self.rgb
        )


@dataclass(frozen=True)
class Renders:
    """Clean maps of one view of the Gaussians."""

    camera: Camera
    high: dict[str, np.ndarray]  # at the camera's size
    guides: dict[str, np.ndarray] | None  # at the size that a method for low-resolution depth enlarges to
    low: dict[str, np.ndarray] | None  # at the size that it starts from


def view_cameras(head: Head, options: EnhanceOptions) -> list[Camera]:
    """Cameras around the head, as many as asked for, at FaceLift's distance or farther away (see ``fitting_cameras``)."""
    return fitting_cameras(head, DIRECTIONS[: options.views], options.resolution, RIG_RADIUS_UNITS * MM_PER_UNIT)


def fitting_cameras(head: Head, directions: Sequence[tuple[float, float]], side: int, radius: float) -> list[Camera]:
    """Cameras at these yaws and elevations in degrees, with pictures of ``side`` pixels, ``radius`` mm from the origin, or all
    of them farther away where the head would not fit into one of the pictures."""
    low, high = visible_extent(head.gaussians)
    corners = np.stack(np.meshgrid(*zip(low, high)), axis=-1).reshape(-1, 3)
    while True:
        cameras = [orbit_camera(yaw, elevation, side, radius=radius) for yaw, elevation in directions]
        if all(_in_picture(camera, corners) for camera in cameras):
            return cameras
        radius *= STEP_BACK


def _in_picture(camera: Camera, points: np.ndarray) -> bool:
    pixels, z = camera.project(points)
    return bool((z > 0).all() and (pixels >= 0).all() and (pixels <= (camera.width, camera.height)).all())


def prepare_rasteriser(options: EnhanceOptions, device: torch.device | None) -> None:
    """On a GPU: begin to load the rasteriser's kernels, and what cleans its maps, beside other work."""
    if device is not None and device.type == "cuda":
        prepare(render_once, options.backend, device)


def render_once(backend: str, device: torch.device) -> dict[str, np.ndarray]:
    """Clean maps of a ball."""
    config = Config()
    config.render.backend = backend
    ball = Gaussians(
        torch.zeros(1, 3), torch.full((1, 3), 4.0), torch.tensor([[1.0, 0, 0, 0]]), torch.full((1,), 9.0), torch.zeros(1, 1, 3)
    )
    return _clean_maps(ball.to(device), orbit_camera(0.0, 0.0, KNOWN_SIDE), config)[0]


def enhance_views(
    head: Head, options: EnhanceOptions, jobs: int, cameras: Sequence[Camera], where: str = ""
) -> tuple[list[EnhancedView], list[str]]:
    """The views of these cameras, and a line on what was removed from them, which says ``where`` they are.

    ``jobs`` views are worked on at a time; the result does not depend on it.
    """
    devices = Devices.of(options, "splats")
    config = Config(seed=options.seed)
    config.render.backend = options.backend
    name = options.method_for("splats")
    sampling = None if name in FROM_FULL else Sampling.of(options.resolution, own_factor(name))
    method = FROM_FULL.get(name) or functools.partial(_from_low, enlarge_method(name, devices.network), sampling)
    with (
        ThreadPoolExecutor(_networks_at_once(options, devices.network)) as turns,
        ThreadPoolExecutor(min(jobs, len(cameras))) as pool,
    ):
        if method_weights(name) is not None:
            method = functools.partial(_in_turn, turns, method)
        work = _Work(head.gaussians.to(devices.raster), config, sampling, method)
        found = pool.map(work.view, cameras)
        found = list(tqdm(found, total=len(cameras), desc=f"enhance{where}", unit="view", dynamic_ncols=True))
    views, removed = [view for view, _ in found], sum(dropped for _, dropped in found)
    share = removed / max(1, sum(int(view.before.mask.sum()) for view in views))
    return views, [f"floaters and specks removed from the views{where}: {removed:,} pixels ({100 * share:.2g} % of the head's)"]


def _networks_at_once(options: EnhanceOptions, device: torch.device) -> int:
    """Views that the network is applied to at a time; alone it uses all of a CPU, and its memory is needed once."""
    if device.type == "cpu":
        return 1
    return max(1, min(NETWORKS_PER_GPU, networks_in_memory(device)) * 1024**2 // max(options.resolution, 1024) ** 2)


@dataclass(frozen=True)
class _Work:
    """What is done for every view, by several threads."""

    gaussians: Gaussians
    config: Config
    sampling: Sampling | None
    """None: the method needs no low-resolution render"""
    method: Method

    def view(self, camera: Camera) -> tuple[EnhancedView, int]:
        """The view enhanced, and how many pixels of it were taken for floaters."""
        sampling = self.sampling
        low = None if sampling is None else self._clean(camera.resized(sampling.low))  # the quick one first
        high, dropped = _clean_maps(self.gaussians, camera, self.config)
        guides = None
        if sampling is not None:
            guides = high if sampling.reduction == 1 else self._clean(camera.resized(sampling.side))
        return _enhance_view(Renders(camera, high, guides, low), method=self.method, jump=self.config.pairs.jump_mm), dropped

    def _clean(self, camera: Camera) -> dict[str, np.ndarray]:
        return _clean_maps(self.gaussians, camera, self.config)[0]


def _in_turn(turns: Executor, method: Method, view: Renders, jump: float) -> tuple[np.ndarray, np.ndarray]:
    return turns.submit(method, view, jump).result()


def _clean_maps(gaussians: Gaussians, camera: Camera, config: Config) -> tuple[dict[str, np.ndarray], int]:
    """Clean maps of a view, and how many pixels of it were taken for floaters."""
    from splathead.maps.postprocess import clean_view
    from splathead.raster import RasterSettings

    turn = _one_gpu_render if gaussians.means.is_cuda else None
    rendered = render_maps(gaussians, camera, RasterSettings(), config, turn)
    solid = (rendered["alpha"] > config.postprocess.alpha_threshold) & (rendered["depth"] > 0)
    clean = clean_view(rendered, camera, config.postprocess, f"view {camera.name}")
    return clean, int((solid & ~clean["mask"].astype(bool)).sum())


Method = Callable[[Renders, float], tuple[np.ndarray, np.ndarray]]
"""(renders of a view, jump in mm) -> depth [H, W] in mm, 0 = nothing, and how far it is to be trusted, [H, W] in 0..1"""


def _surface(view: Renders, jump: float) -> tuple[np.ndarray, np.ndarray]:
    return splat_surface(SplatMaps.of_clean(view.high, view.camera), SplatSurfaceSettings(jump=jump)), _by_spread(view)


def _raw(view: Renders, _jump: float) -> tuple[np.ndarray, np.ndarray]:
    return view.high["depth"], _by_spread(view)


def _from_low(enlarge: Enlarge, sampling: Sampling, view: Renders, jump: float) -> tuple[np.ndarray, np.ndarray]:
    camera = view.camera.resized(sampling.low)
    source = DepthMap.of_float(view.low["depth"], view.low["mask"].astype(bool), camera, "render")
    found = enlarge(source, sampling.factor, view.guides)
    kept = found.depth_map.mask & view.guides["mask"].astype(bool)
    depth = np.where(kept, found.depth_map.depth, 0)
    depth = np.where(view.high["mask"].astype(bool), reduced(depth, sampling.reduction, jump), 0)
    if found.expected_error is None:
        return depth, _by_spread(view)
    error = reduced(np.where(kept, found.expected_error, 0), sampling.reduction, np.inf)
    return depth, np.clip(view.high["alpha"], 0, 1) * outlier_weight(error, depth > 0)


def _by_spread(view: Renders) -> np.ndarray:
    return splat_confidence(SplatMaps.of_clean(view.high, view.camera), view.high["alpha"].astype(np.float32))


FROM_FULL = {"splat_surface": _surface, "raw": _raw}
"""Methods that need no low-resolution render"""


def _enhance_view(view: Renders, *, method: Method, jump: float) -> EnhancedView:
    camera, high = view.camera, view.high
    depth, confidence = method(view, jump)
    mask = (depth > 0) & high["mask"].astype(bool)
    before = DepthMap.of_float(high["depth"], high["mask"].astype(bool), camera, "raw splat depth")
    after = DepthMap.of_float(depth, mask, camera, "enhanced")
    alpha = np.maximum(high["alpha"].astype(np.float32), 1 / 255)
    rgb = np.clip(high["rgb"] / alpha[..., None] + 0.5, 0, 255).astype(np.uint8)
    return EnhancedView(camera, before, after, np.where(mask, confidence, 0).astype(np.float32), rgb)
