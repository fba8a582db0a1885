"""A depth map as input: read, enlarged, freed of its code's steps."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from splathead.depth_files import DepthReading, load_depth
from splathead.enhance.enlarge import CPU, enlarge_method, method_weights
from splathead.enhance.flags import DEPTH, errors_with_flags
from splathead.enhance.options import EnhanceOptions
from splathead.enhance.views import EnhancedView
from splathead.images import DepthMap
from splathead.maps.normals import normals_from_depth
from splathead.models.splat_surface import outlier_weight
from splathead.prediction import interpolate_depth
from splathead.result_view.folder import unit_label

DEPTH_OPTIONS = ("near", "far", "hfov", "rgb", "values", "white_is_near", "no_surface")
ASPECT_TOLERANCE = 0.01
"""Relative difference of proportions that rounding to whole pixels may leave between a photo and its depth"""
MOSTLY = 0.98
"""Share of pixels with a surface from which on the background is probably one of them"""
FLAT = 0.01
"""Part of near to far within which all depth can hardly be meant"""
HOLLOW = 1 / 4
"""Part of the range of depth by which the middle of a solid thing does not lie behind its outline (eval/LOG.md, 2026-11-29)"""


def read_depth(path: Path, options: EnhanceOptions) -> tuple[DepthMap, list[str]]:
    """The user's map, and what was understood.

    Errors: those of :func:`splathead.depth_files.load_depth`, with the tool's flags.
    """
    with errors_with_flags(path, DEPTH):
        depth_map = _load(path, options)
    encoding, camera = depth_map.encoding, depth_map.camera
    unit = unit_label(encoding.unit)
    code, step = f"{encoding.bits}-bit code, depth", f", a step of the code {encoding.lsb:.4g} {unit}"
    if depth_map.floats:
        code, step = "float depth,", ""
    lines = [
        f"depth map of {camera.width}x{camera.height} pixels, {code} {encoding.near:.6g} to {encoding.far:.6g} {unit}, "
        f"field of view {camera.hfov_deg:.4g} degrees",
        f"surface on {100 * depth_map.mask.mean():.3g} % of the picture{step}",
    ]
    return depth_map, lines + _notes(depth_map, options)


def _load(path: Path, options: EnhanceOptions) -> DepthMap:
    reading, unit_mm = None, options.scale_mm
    near, far = (value if value is None or not unit_mm else value * unit_mm for value in (options.near, options.far))
    if options.given("values", "white_is_near", "no_surface", "scale_mm"):
        of_codes = near is not None or far is not None  # then they carry the scale
        reading = DepthReading(
            values=options.values, white_is_near=options.white_is_near, unit="mm" if unit_mm else "scene",
            no_surface=options.no_surface,
            scale=None if of_codes or not unit_mm else unit_mm,
        )  # fmt: skip
    return load_depth(path, near, far, options.hfov, reading)


def _notes(depth_map: DepthMap, options: EnhanceOptions) -> list[str]:
    """What the user should know or check."""
    encoding, notes = depth_map.encoding, []
    if encoding.unit == "scene":
        notes.append("NOTE: unit unknown, meshes keep the numbers; --scale_mm gives mm per unit (metres: --scale_mm 1000)")
    elif encoding.nominal:
        notes.append("NOTE: the file says that its millimetres are a guess")
    if depth_map.mask.mean() > MOSTLY:
        notes.append("NOTE: almost every pixel has a surface; if the background has its own number, give it as --no_surface")
    elif _hollowness(depth_map) > HOLLOW:
        notes.append("NOTE: the middle lies behind the outline, as if inside out: should --white_is_near be set, or left out?")
    if _flat(depth_map, options):
        run = "floats run from 0 to 1" if depth_map.floats else "integers run over all that their type has"
        turned = "" if options.white_is_near else "; where large is near, set --white_is_near"
        notes.append(f"NOTE: all depth lies within 1 % of --near to --far, between which {run}{turned}")
    return notes


def _flat(depth_map: DepthMap, options: EnhanceOptions) -> bool:
    """Whether values that run from near to far use next to nothing of that range."""
    if options.near is None or options.far is None:
        return False
    found = depth_map.depth[depth_map.mask]
    return float(np.ptp(found)) < FLAT * (options.far - options.near) * (options.scale_mm or 1.0)


def _hollowness(depth_map: DepthMap) -> float:
    """How far the middle of what is seen lies behind its outline, as a part of the range of depth; below 0 for most things."""
    mask = depth_map.mask
    inside = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    outline, middle = mask & (inside <= max(2, inside.max() / 10)), mask & (inside >= inside.max() / 2)
    low, high = np.percentile(depth_map.depth[mask], (5, 95))
    if high <= low:
        return 0.0
    return float(np.median(depth_map.depth[middle]) - np.median(depth_map.depth[outline])) / float(high - low)


def enhance_depth(depth_map: DepthMap, options: EnhanceOptions, device: torch.device = CPU) -> tuple[EnhancedView, list[str]]:
    """The map enlarged to at least ``options.resolution`` by a whole factor, and lines on what was done.

    ``device``: of a network.
    """
    side = max(depth_map.camera.width, depth_map.camera.height)
    scale = max(1, -(-options.resolution // side))
    name = options.method_for("depth")
    if name == "splat_surface":
        raise ValueError(f"--method {name} needs Gaussians, the input is a depth map; expected splathead or variational")
    found = enlarge_method(name, device)(depth_map, scale, None)
    after, error = found.depth_map, found.expected_error
    before = interpolate_depth(depth_map, scale, "nearest")
    rgb = None if options.rgb is None else _read_rgb(options.rgb, after)
    confidence = _facing(after) if error is None else outlier_weight(error, after.mask)
    view = EnhancedView(after.camera, before, after, confidence.astype(np.float32), rgb)
    width, height = after.camera.width, after.camera.height
    size = f"enlarged {scale} times to {width}x{height}" if scale > 1 else f"large enough with {width}x{height} pixels"
    lines = [f"method: {options.method_name('depth')}; {size}"]
    if method_weights(name) is not None:
        lines.append("NOTE: the network moves depth forward: right for depth rendered from splats, wrong for any other")
    return view, lines


def _facing(depth_map: DepthMap) -> np.ndarray:
    """[H, W] cosine between surface and ray: what is seen at a slant is measured worse. 0 where there is no normal."""
    normals, valid = normals_from_depth(depth_map.depth, depth_map.mask, depth_map.camera, jump=np.inf)
    rays = depth_map.camera.ray_directions()
    cosine = np.abs(np.einsum("hwc,hwc->hw", normals, rays)) / np.linalg.norm(rays, axis=-1)
    return np.where(valid & depth_map.mask, np.clip(cosine, 0, 1), 0)


def _read_rgb(path: Path, depth_map: DepthMap) -> np.ndarray:
    """Colours [H, W, 3] uint8 on the map's grid. ValueError for another aspect ratio or an unreadable file."""
    from splathead.photos.read import read_photo

    rgb = read_photo(path).rgb
    height, width = depth_map.depth.shape
    if abs(rgb.shape[1] / rgb.shape[0] / (width / height) - 1) > ASPECT_TOLERANCE:
        raise ValueError(f"{path}: {rgb.shape[1]}x{rgb.shape[0]} pixels, expected the depth's proportions, {width}x{height}")
    smaller = rgb.shape[1] > width
    return cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
