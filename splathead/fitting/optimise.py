"""``fit_views``: 3D Gaussian splatting (Kerbl et al. 2023) from posed images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from splathead.cameras import Camera
from splathead.config import FitConfig
from splathead.fitting.densify import DensityControl
from splathead.fitting.initialise import MIN_POINTS, initial_gaussians, scene_extent
from splathead.fitting.losses import Box, LossWeights, subject_box, view_loss
from splathead.fitting.memory import keep_freed_memory
from splathead.fitting.optimiser import GaussianOptimiser
from splathead.gaussians import Gaussians
from splathead.raster import RasterSettings, rasterize

_BACKGROUNDS = {"black": 0.0, "white": 1.0}


@dataclass
class _View:
    """One photo, ready to be compared with."""

    camera: Camera
    target: Tensor  # [4, H, W] uint8 straight alpha
    box: Box  # around the subject
    position: Tensor  # [3] camera centre
    axis: Tensor  # [3] camera z axis in the world
    subject_z: float  # z of the scene's centre: depths are taken relative to it


def fit_views(
    images: Sequence[np.ndarray],
    cameras: Sequence[Camera],
    points: np.ndarray,
    colours: np.ndarray,
    config: FitConfig,
    device: torch.device | str = "cpu",
    *,
    backend: str = "auto",
    seed: int = 0,
    unit: str = "mm",
    progress: Callable[[int, float], None] | None = None,
) -> Gaussians:
    """Gaussians that reproduce the images, optimised from a sparse point cloud.

    Deterministic on a CPU: the same inputs and seed give the same bits with any number of threads.

    Args:
        images: [H, W, 4] uint8 RGBA with straight alpha, or [H, W, 3] RGB (then every pixel is subject); sizes may differ.
        cameras: one for each image, of its size; any intrinsics.
        points: [N, 3] world points, sparse and noisy as structure from motion gives them; N at least 4, of which
            ``config.max_gaussians`` random ones are used if there are more.
        colours: [N, 3] their colours in 0..1.
        config: see :class:`splathead.config.FitConfig`; its ``presets`` are not looked at
            (:func:`preset_config` applies one).
        device: where the fit runs.
        backend: rasteriser, see :mod:`splathead.raster.registry`.
        seed: of the view order, backgrounds and splits.
        unit: of the points and cameras, "mm" or "scene". The depth regulariser's thresholds assume mm.
        progress: called every 100 steps with the step and the loss.

    Returns:
        Gaussians on the CPU, detached, at most ``config.max_gaussians``.

    Errors: ValueError for images, cameras or points that do not fit together; RuntimeError when the loss
    stops being finite, or nothing is left.
    """
    points, colours = _check_cloud(points, colours)
    if not images or len(images) != len(cameras):
        raise ValueError(f"{len(images)} images for {len(cameras)} cameras, expected the same number, at least one")
    if torch.device(device).type == "cpu":
        keep_freed_memory()
    views = [_prepare_view(image, camera, points, device) for image, camera in zip(images, cameras)]
    extent = scene_extent(cameras, points)
    rng = np.random.default_rng(seed)
    if len(points) > config.max_gaussians:
        chosen = np.sort(rng.choice(len(points), config.max_gaussians, replace=False))
        points, colours = points[chosen], colours[chosen]
    start = initial_gaussians(points, colours, sh_degree=config.sh_degree, extent=extent, unit=unit, start=config.start)
    optimiser = GaussianOptimiser(start.to(device), config, extent)
    density = DensityControl(optimiser, config, extent, rng)
    order = _view_order(len(views), rng)
    for step in range(config.iterations):
        optimiser.set_progress(step / config.iterations)
        loss = _optimise_view(optimiser, density, views[next(order)], config, step, _background(config, rng), backend, extent)
        if (step + 1) % 100 == 0:
            value = float(loss.detach())
            if not np.isfinite(value):
                raise RuntimeError(f"the fit's loss became {value} by step {step + 1}; lower the learning rates")
            if progress is not None:
                progress(step + 1, value)
    density.prune()
    if not len(optimiser):
        raise RuntimeError("the fit ended without any Gaussian above prune_opacity: do cameras, images and points agree?")
    return optimiser.gaussians(config.sh_degree).detach().to("cpu")


def _optimise_view(
    optimiser: GaussianOptimiser, density: DensityControl, view: _View, config: FitConfig, step: int,
    background: Tensor, backend: str, extent: float,
) -> Tensor:  # fmt: skip
    """One step on one view; returns the loss."""
    gaussians = optimiser.gaussians(active_sh_degree(config, step))
    depth_weight = config.depth_variance_regulariser if step >= config.depth_from * config.iterations else 0.0
    features = _features(gaussians, view, with_depth=depth_weight > 0)
    collecting = density.collecting(step)
    offset = gaussians.means.new_zeros(len(gaussians), 2, requires_grad=True) if collecting else None
    raster = rasterize(gaussians, features, view.camera, RasterSettings(), backend, means2d_offset=offset)
    weights = LossWeights(config.ssim_weight, depth_weight)
    loss = view_loss(raster.features, raster.alpha, view.target, background, weights, view.box)
    if config.scale_regulariser > 0:
        loss = loss + config.scale_regulariser * gaussians.scales.mean() / extent
    if config.opacity_regulariser > 0:
        loss = loss + config.opacity_regulariser * gaussians.opacities.mean()
    loss.backward()
    if collecting:
        density.collect(offset.grad, raster.radii, view.camera)
    optimiser.step()
    density.after_step(step)
    return loss


def preset_config(config: FitConfig, preset: str) -> FitConfig:
    """The configuration of a preset: ``vanilla`` starts from balls, as published, and has no depth regulariser;
    ``regularised`` is ``config`` itself. ``few_views`` is ``vanilla`` (of :func:`preset_cameras`), ``few_gaussians`` is
    ``regularised`` with a lower bound."""
    if preset == "regularised":
        return config
    if preset in ("vanilla", "few_views"):
        return replace(config, depth_variance_regulariser=0.0, start="balls")
    if preset == "few_gaussians":
        return replace(config, max_gaussians=min(config.few_gaussians, config.max_gaussians))
    raise ValueError(f"fit preset {preset!r}, expected vanilla, regularised, few_views or few_gaussians")


def preset_cameras(cameras: Sequence[Camera], config: FitConfig, preset: str) -> list[Camera]:
    """Those of the fit views that a preset is fitted to: all, for ``few_views`` ``config.few_views`` of them (or all of fewer).

    They are spread evenly over the list, the first one among them and the last one not: the ends of a list that goes around the
    head are neighbours. Of the generated heads' 30 views, 8 so chosen leave gaps of 90 degrees of yaw on average; 8 from the
    first to the last leave 146, as these strides fall in step with the rig's golden angle.
    """
    if preset != "few_views" or len(cameras) <= config.few_views:
        return list(cameras)
    return [cameras[index * len(cameras) // config.few_views] for index in range(config.few_views)]


def active_sh_degree(config: FitConfig, step: int) -> int:
    """Harmonics in use at a step: one more degree at equal intervals over the first half of the fit."""
    return min(config.sh_degree, int(2 * (config.sh_degree + 1) * step / config.iterations))


def _features(gaussians: Gaussians, view: _View, *, with_depth: bool) -> Tensor:
    """Columns to composite [N, 3 or 5]: colour, and z and z^2 relative to the subject's plane."""
    colours = gaussians.colours(view.position)
    if not with_depth:
        return colours
    z = (gaussians.means * view.axis).sum(1, keepdim=True) - view.subject_z
    return torch.cat([colours, z, z * z], dim=1)


def _view_order(count: int, rng: np.random.Generator) -> Iterator[int]:
    """Every view once in random order, again and again."""
    while True:
        yield from rng.permutation(count).tolist()


def _background(config: FitConfig, rng: np.random.Generator) -> Tensor:
    """Colour [3] behind the subject for one step."""
    if config.background == "random":
        return torch.from_numpy(rng.random(3, dtype=np.float32))
    return torch.full((3,), _BACKGROUNDS[config.background])


def _check_cloud(points: np.ndarray, colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    points, colours = np.asarray(points, dtype=np.float64), np.asarray(colours, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or len(points) < MIN_POINTS:
        raise ValueError(f"point cloud of shape {points.shape}, expected [N, 3] with N at least {MIN_POINTS}")
    if colours.shape != points.shape:
        raise ValueError(f"point colours of shape {colours.shape}, expected {points.shape}")
    if not (np.isfinite(points).all() and np.isfinite(colours).all()):
        raise ValueError("point cloud with NaN or infinity, expected finite positions and colours")
    return points, colours.clip(0, 1)


def _prepare_view(image: np.ndarray, camera: Camera, points: np.ndarray, device: torch.device | str) -> _View:
    where = f"image of camera {camera.name!r}"
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (3, 4):
        raise ValueError(f"{where}: {image.dtype} of shape {image.shape}, expected uint8 [H, W, 3 or 4]")
    if image.shape[:2] != (camera.height, camera.width):
        raise ValueError(f"{where}: {image.shape[1]}x{image.shape[0]} px, the camera says {camera.width}x{camera.height}")
    if image.shape[2] == 3:
        image = np.concatenate([image, np.full_like(image[..., :1], 255)], axis=2)
    if not image[..., 3].any():
        raise ValueError(f"{where}: its alpha is zero everywhere, so there is nothing to fit")
    target = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    return _View(
        camera, target.to(device), subject_box(target[3] > 0),
        torch.from_numpy(camera.position).float().to(device), torch.from_numpy(camera.rotation[2].copy()).float().to(device),
        float(points.mean(0) @ camera.rotation[2]),
    )  # fmt: skip
