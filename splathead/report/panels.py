"""Pictures of one view: RGB, input, truth and each method's depth, normals and signed error, with shared scales."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import cv2
import numpy as np

from splathead.cameras import Camera
from splathead.config import Config
from splathead.images import DepthMap, encode_normals, load_depth_png, load_maps
from splathead.maps.normals import normals_from_depth
from splathead.report.data import method_order
from splathead.samples import Sample, list_samples, predictions_folder

LAYERS = ("error", "normals", "depth")
NICE_RANGES = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0)
MARGIN_PX = 12
MAX_SIDE_PX = 640
DEPTH_COLOURS, ERROR_COLOURS = "viridis_r", "RdBu_r"


@dataclass(frozen=True)
class ViewMaps:
    """Maps of one view, cut to the head; depths [h, w] float32 in mm, 0 = no surface."""

    sample: Sample
    camera: Camera
    rgba: np.ndarray  # [h, w, 4] uint8, straight alpha
    lr_depth: np.ndarray  # nearest-neighbour enlarged
    target: str
    """what ``truth`` is: surface, render, or empty where there is neither"""
    truth: np.ndarray | None
    methods: dict[str, np.ndarray]
    """method -> depth"""

    @property
    def depth_range(self) -> tuple[float, float]:
        """Depths between which colours span: the nearest 95 % of the truth, else of the input."""
        depth = self.truth if self.truth is not None else self.lr_depth
        near, far = np.quantile(depth[depth > 0], (0.0, 0.95))
        return float(near), float(far)


def available_methods(config: Config) -> list[str]:
    """Methods with predictions, in the order of tables."""
    return sorted((path.name for path in predictions_folder(config).glob("*") if path.is_dir()), key=method_order)


def choose_samples(config: Config) -> list[Sample]:
    """``report.views`` samples: test subjects in turn (by name, not by result), another view of each, one variant."""
    by_subject: dict[str, list[Sample]] = {}
    samples = _predicted_samples(config)
    variants = sorted({sample.variant for sample in samples}, key=lambda name: (not name.startswith("regularised"), name))
    for sample in samples:
        if sample.variant == variants[0]:
            by_subject.setdefault(sample.subject, []).append(sample)
    rotated = [views[i % len(views) :] + views[: i % len(views)] for i, views in enumerate(by_subject.values())]
    rounds = zip_longest(*rotated)
    return [sample for samples in rounds for sample in samples if sample is not None][: config.report.views]


def _predicted_samples(config: Config) -> list[Sample]:
    methods = available_methods(config)
    splits = tuple(config.evaluate.splits)
    return [
        sample
        for sample in list_samples(config, 4, splits=splits)
        if methods and all(sample.prediction_path(config, method).is_file() for method in methods)
    ]


def load_view(config: Config, sample: Sample) -> ViewMaps:
    """Read everything that the report shows of a view."""
    methods = {method: load_depth_png(sample.prediction_path(config, method)) for method in available_methods(config)}
    camera = next(iter(methods.values())).camera
    maps = load_maps(sample.path(config, 4, "_hr.npz"), ("rgb", "alpha", "depth", "mask"))
    low = load_maps(sample.path(config, 4, "_lr.npz"), ("depth", "mask"))
    pair_folder = sample.path(config, 5)
    target = next((name for name in ("surface", "render") if (pair_folder / f"hr_{name}.png").is_file()), "")
    truth = load_depth_png(pair_folder / f"hr_{target}.png").depth if target else None
    coded = _coded_input(config, sample)
    lr_depth = coded.depth if coded else np.where(low["mask"], low["depth"], 0)
    lr_depth = cv2.resize(lr_depth.astype(np.float32), (camera.width, camera.height), interpolation=cv2.INTER_NEAREST)
    box = head_box(maps["mask"].astype(bool) | ((truth > 0) if truth is not None else False))
    return ViewMaps(
        sample, camera.cropped(*box), straight_rgba(maps["rgb"][box], maps["alpha"][box]), lr_depth[box], target,
        None if truth is None else truth[box], {name: depth_map.depth[box] for name, depth_map in methods.items()},
    )  # fmt: skip


def _coded_input(config: Config, sample: Sample) -> DepthMap | None:
    path = sample.path(config, 5) / f"lr_{config.train.lr_input}.png"
    return load_depth_png(path) if path.is_file() else None


def head_box(mask: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of the mask's bounding box with a small margin, inside the image."""
    sides = []
    for axis in (1, 0):
        used = np.flatnonzero(mask.any(axis))
        if not len(used):
            raise ValueError("empty mask: the view shows no head")
        sides.append(slice(max(0, int(used[0]) - MARGIN_PX), min(mask.shape[1 - axis], int(used[-1]) + 1 + MARGIN_PX)))
    return sides[0], sides[1]


def straight_rgba(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Premultiplied colours [H, W, 3] uint8 and alpha [H, W] in 0..1 to straight RGBA uint8."""
    weight = np.clip(alpha.astype(np.float32), 0, 1)[..., None]
    straight = np.clip(rgb / np.maximum(weight, 1 / 255), 0, 255)
    return np.rint(np.concatenate([straight, 255 * weight], axis=-1)).astype(np.uint8)


def nice_error_range(views: Sequence[ViewMaps]) -> float:
    """Range in mm that error colours span in every picture: the next nice number above three quarters of a typical method's."""
    errors = [np.abs(error_map(depth, view.truth))[_both(depth, view.truth)] for view in views if view.truth is not None
              for depth in view.methods.values()]  # fmt: skip
    errors = [np.quantile(error, 0.75) for error in errors if error.size]
    typical = float(np.median(errors)) if errors else 1.0
    return next((value for value in NICE_RANGES if value >= typical), NICE_RANGES[-1])


def _both(depth: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return (depth > 0) & (truth > 0)


def error_map(depth: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Predicted minus true depth [H, W] mm; NaN where either has no surface."""
    return np.where(_both(depth, truth), depth.astype(np.float64) - truth, math.nan)


def coloured(values: np.ndarray, low: float, high: float, colours: str) -> np.ndarray:
    """Values [H, W] as RGBA uint8 through a matplotlib colour map; NaN is transparent."""
    import matplotlib

    share = np.clip((values - low) / max(high - low, 1e-9), 0, 1)
    rgba = matplotlib.colormaps[colours](np.nan_to_num(share), bytes=True)
    rgba[..., 3] = np.where(np.isfinite(values), 255, 0)
    return rgba


def depth_picture(depth: np.ndarray, depth_range: tuple[float, float]) -> np.ndarray:
    """Depth as RGBA; near is bright."""
    return coloured(np.where(depth > 0, depth, math.nan), *depth_range, DEPTH_COLOURS)


def error_picture(depth: np.ndarray, truth: np.ndarray, error_range: float) -> np.ndarray:
    """Signed error as RGBA: blue in front of the truth, red behind it, white right."""
    return coloured(error_map(depth, truth), -error_range, error_range, ERROR_COLOURS)


def normals_picture(depth: np.ndarray, camera: Camera) -> np.ndarray:
    """Normals of a depth map as RGBA: x right, y up, z towards the camera."""
    normals, valid = normals_from_depth(depth, depth > 0, camera, jump=math.inf)
    return np.concatenate([encode_normals(normals), np.where(valid, 255, 0).astype(np.uint8)[..., None]], axis=-1)


def method_picture(view: ViewMaps, method: str, layer: str, error_range: float) -> np.ndarray | None:
    """One layer of :data:`LAYERS` of a method as RGBA; None for the error without a truth."""
    depth = view.methods[method]
    if layer == "depth":
        return depth_picture(depth, view.depth_range)
    if layer == "normals":
        return normals_picture(depth, view.camera)
    return None if view.truth is None else error_picture(depth, view.truth, error_range)


def shrunk(rgba: np.ndarray, max_side_px: int) -> np.ndarray:
    """RGBA [H, W, 4] uint8 at most ``max_side_px`` wide and high; colours are averaged with their alpha."""
    scale = max_side_px / max(rgba.shape[:2])
    if scale >= 1:
        return rgba
    weighted = rgba.astype(np.float32)
    weighted[..., :3] *= weighted[..., 3:] / 255
    weighted = cv2.resize(weighted, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return straight_rgba(weighted[..., :3], weighted[..., 3] / 255)


def data_uri(rgba: np.ndarray, max_side_px: int = MAX_SIDE_PX, quality: int = 88) -> str:
    """RGBA [H, W, 4] uint8 as a WebP data URI, at most ``max_side_px`` wide and high."""
    rgba = shrunk(rgba, max_side_px)
    done, data = cv2.imencode(".webp", cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA), [cv2.IMWRITE_WEBP_QUALITY, quality])
    if not done:
        raise RuntimeError("the picture could not be encoded as WebP")
    return "data:image/webp;base64," + base64.b64encode(data).decode()


def colour_gradient(colours: str, steps: int = 16) -> str:
    """A colour map as a CSS gradient."""
    import matplotlib

    stops = (matplotlib.colors.to_hex(matplotlib.colormaps[colours](i / (steps - 1))) for i in range(steps))
    return f"linear-gradient(90deg, {', '.join(stops)})"
