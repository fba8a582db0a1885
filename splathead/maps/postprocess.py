"""Stage 04: rendered maps become clean ones: mask, floaters, holes, normals from depth, nose-relative depth, photo."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from splathead.cameras import Camera, load_cameras
from splathead.config import Config, PostprocessConfig
from splathead.images import load_maps, save_maps, write_png
from splathead.maps.align import NOSE_TIP, LandmarkDetector, align_subject_photo, depth_at, image_landmarks
from splathead.maps.bilateral import joint_bilateral_normals
from splathead.maps.clean import REFERENCE_WIDTH, clean_mask
from splathead.maps.contact_sheet import contact_sheet, preview_row
from splathead.maps.fill import fill_nearest, fill_smooth
from splathead.maps.normals import normals_from_depth
from splathead.maps.render_subject import pack_normals
from splathead.samples import stage_folder, subject_folder, subject_info

DEPTH_MAPS = ("depth", "depth_median")
HALO_PX = 9
"""Colour, alpha and splat normals are kept this far beyond the mask (at 1024): a silhouette's soft edge is a guide."""

LARGE_HOLE_SIGMA_PX = 8.0
"""Smoothing of large holes filled from the nearest pixel, at 1024."""


def postprocess_subject(config: Config, subject: str, out_dir: Path, detector: LandmarkDetector | None = None) -> None:
    """Clean every view of every variant of one subject: stage 03's names plus ``mask`` and ``depth_normal`` in each npz.

    With ``postprocess.nose_relative`` also ``depth_nose`` (depth minus the nose tip's, mm), with ``postprocess.align``
    also ``<view>_photo.png`` (the photo on the view's grid) and ``<view>_photo.json`` (the alignment). ``detector``
    finds landmarks for these where subject.json has none.
    """
    source = stage_folder(config, 3) / subject
    variants = sorted(path.parent for path in source.glob("*/cameras.json"))
    if not variants:
        raise FileNotFoundError(f"{source}: no <variant>/cameras.json; run scripts/03_render_maps.py first")
    info = subject_info(config, subject)
    for variant in variants:
        folder, rows = out_dir / variant.name, []
        for camera in load_cameras(variant / "cameras.json"):
            where = f"subject {subject}, {variant.name}, view {camera.name}"
            high, low = _clean_pair(variant, camera, config.postprocess, where)
            if config.postprocess.nose_relative:
                _add_nose_relative(high, low, _nose_depth(info, camera, high, detector, where))
            save_maps(folder / f"{camera.name}_hr.npz", high)
            save_maps(folder / f"{camera.name}_lr.npz", low)
            rows.append(preview_row(high, ("rgb", "mask", "depth", "normal", "depth_normal")) + preview_row(low, ("depth",)))
        write_png(folder / "preview.png", contact_sheet(rows))
        if config.postprocess.align:
            align_subject_photo(subject_folder(config, subject), info, variant, folder, detector)
        shutil.copyfile(variant / "cameras.json", folder / "cameras.json")


def _clean_pair(variant: Path, camera: Camera, settings: PostprocessConfig, where: str) -> list[dict[str, np.ndarray]]:
    """Clean high- and low-resolution maps of one view."""
    pair = []
    for suffix, name in (("hr", "high resolution"), ("lr", "low resolution")):
        maps = load_maps(variant / f"{camera.name}_{suffix}.npz")
        pair.append(clean_view(maps, camera.resized(maps["alpha"].shape[1]), settings, f"{where} ({name})"))
    return pair


def clean_view(
    maps: Mapping[str, np.ndarray], camera: Camera, settings: PostprocessConfig, where: str
) -> dict[str, np.ndarray]:
    """Clean maps of one view, all [H, W, ...] of ``camera``'s size.

    Adds ``mask`` [H, W] bool and ``depth_normal`` [H, W, 3] int8 (normals of the clean depth, times 127). Depth,
    median depth and depth variance are zero outside of the mask; colour, alpha and splat normals end a little
    outside of it. Depth in filled holes is interpolated in float; the other maps stay as rendered there.
    ValueError naming ``where`` when nothing is left.
    """
    box = _bounding_box(maps["alpha"] > 0)
    crop = {name: value[box] for name, value in maps.items()}
    alpha, scale = crop["alpha"].astype(np.float32), camera.width / REFERENCE_WIDTH
    median = crop.get("depth_median", crop["depth"])
    parts = clean_mask(alpha, np.where(median > 0, median, crop["depth"]), settings, camera.width)
    mask = parts.mask
    if not mask.any():
        raise ValueError(
            f"{where}: empty mask after clean-up: {int((alpha > settings.alpha_threshold).sum())} pixels have alpha above "
            f"postprocess.alpha_threshold = {settings.alpha_threshold} (largest alpha {alpha.max(initial=0):.3f}), "
            "and none is left after removing floaters and small components; is the head in view?"
        )
    halo = _dilate(mask, max(1, round(HALO_PX * scale)))
    for name, value in crop.items():
        crop[name] = _keep(value, halo if name in ("rgb", "alpha", "normal") else mask)
    for name in DEPTH_MAPS:
        if name in crop:
            known = parts.known & (crop[name] > 0)
            holes = (parts.known | parts.small_holes) & ~known
            crop[name] = _fill(crop[name], known, holes, parts.large_holes, scale)
    crop["mask"] = mask
    crop["depth_normal"] = _depth_normals(crop, _cropped_camera(camera, box), settings)
    return {name: _uncrop(value, box, maps["alpha"].shape) for name, value in crop.items()}


def _fill(depth: np.ndarray, known: np.ndarray, small: np.ndarray, large: np.ndarray, scale: float) -> np.ndarray:
    filled = fill_smooth(depth, known, small)
    return fill_nearest(filled, known | small, large, LARGE_HOLE_SIGMA_PX * scale) if large.any() else filled


def _depth_normals(crop: Mapping[str, np.ndarray], camera: Camera, settings: PostprocessConfig) -> np.ndarray:
    normals, valid = normals_from_depth(crop["depth"], crop["mask"], camera, jump=math.inf)
    if settings.bilateral:
        normals = joint_bilateral_normals(normals, valid, crop["rgb"])
    return pack_normals(normals)


def _bounding_box(used: np.ndarray) -> tuple[slice, slice]:
    """Box around the used pixels with one pixel of margin inside the image; the whole image when none is used."""
    if not used.any():
        return slice(0, used.shape[0]), slice(0, used.shape[1])
    sides = []
    for axis, size in ((1, used.shape[0]), (0, used.shape[1])):
        index = np.flatnonzero(used.any(axis))
        sides.append(slice(max(0, index[0] - 1), min(size, index[-1] + 2)))
    return sides[0], sides[1]


def _cropped_camera(camera: Camera, box: tuple[slice, slice]) -> Camera:
    rows, columns = box
    return replace(
        camera, width=columns.stop - columns.start, height=rows.stop - rows.start,
        cx=camera.cx - columns.start, cy=camera.cy - rows.start,
    )  # fmt: skip


def _keep(value: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """``value`` [H, W, ...] inside of ``mask``, zero outside; a copy."""
    half = value.dtype == np.float16  # which OpenCV does not copy
    kept = cv2.copyTo(value.view(np.uint16) if half else value, mask.astype(np.uint8))
    return kept.view(np.float16) if half else kept


def _uncrop(value: np.ndarray, box: tuple[slice, slice], shape: tuple[int, int]) -> np.ndarray:
    full = np.zeros((*shape, *value.shape[2:]), dtype=value.dtype)
    full[box] = value
    return full


def _dilate(mask: np.ndarray, radius_px: int) -> np.ndarray:
    side = 2 * radius_px + 1
    return cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)).astype(bool)


def _nose_depth(
    info: Mapping, camera: Camera, maps: Mapping[str, np.ndarray], detector: LandmarkDetector | None, where: str
) -> float:
    """z of the nose tip in mm: of the known vertex, else under the detector's pixel."""
    known = info.get("landmarks", {}).get(NOSE_TIP)
    if known is not None:
        return float(camera.project(np.asarray([known], dtype=np.float64))[1][0])
    found = image_landmarks(None, maps["rgb"], detector, where)
    if NOSE_TIP not in found:
        raise ValueError(f"{where}: the landmark detector gives {sorted(found)}, expected {NOSE_TIP!r} among them")
    return depth_at(maps["depth"], maps["mask"], found[NOSE_TIP], f"{where}, nose tip")


def _add_nose_relative(high: dict[str, np.ndarray], low: dict[str, np.ndarray], nose_z: float) -> None:
    for maps in (high, low):
        maps["depth_nose"] = np.where(maps["mask"], maps["depth"] - np.float32(nose_z), 0).astype(np.float32)
