"""Stage 03: every map of every view of one subject, at high and low resolution, both rendered."""

from __future__ import annotations

import contextlib
from pathlib import Path

import cv2
import numpy as np

from splathead.cameras import Camera, load_cameras, save_cameras
from splathead.config import Config
from splathead.images import save_maps, write_png
from splathead.maps.contact_sheet import contact_sheet, preview_row
from splathead.samples import stage_folder, subject_folder

NORMAL_SCALE = 127
"""Normals are stored as int8: components times this."""


def list_fits(config: Config, subject: str) -> list[str]:
    """Reconstructions of a subject that stage 02 made; an error when there is none."""
    folder = stage_folder(config, 2) / subject
    fits = sorted(path.parent.name for path in folder.glob("*/gaussians.ply"))
    if not fits:
        raise FileNotFoundError(f"{folder}: no <fit>/gaussians.ply; run scripts/02_reconstruct_gaussians.py first")
    return fits


def map_cameras(config: Config, subject: str) -> list[Camera]:
    """The subject's map cameras, at high resolution."""
    return load_cameras(subject_folder(config, subject) / "cameras_maps.json")


def render_subject_maps(config: Config, subject: str, out_dir: Path) -> None:
    """Write ``<fit>-<mode>/{<view>_hr.npz, <view>_lr.npz, cameras.json, preview.png}`` for one subject.

    The low-resolution maps are rendered through the resized camera, never resampled.
    """
    from splathead.devices import raster_device
    from splathead.ply import load_gaussians_ply
    from splathead.raster import RasterSettings

    cameras = map_cameras(config, subject)
    for fit in list_fits(config, subject):
        gaussians = load_gaussians_ply(stage_folder(config, 2) / subject / fit / "gaussians.ply")
        gaussians = gaussians.to(raster_device(config.device, config.render.backend))
        for mode in config.render.modes:
            folder = out_dir / f"{fit}-{mode}"
            settings = RasterSettings(antialiased=mode == "antialiased")
            rows = []
            for camera in cameras:
                high = render_maps(gaussians, camera, settings, config)
                low = render_maps(gaussians, camera.resized(config.render.lr_size), settings, config)
                save_maps(folder / f"{camera.name}_hr.npz", high)
                save_maps(folder / f"{camera.name}_lr.npz", low)
                rows.append(preview_row(high) + preview_row(low, ("depth",)))
            save_cameras(folder / "cameras.json", cameras)
            write_png(folder / "preview.png", contact_sheet(rows))


def render_maps(
    gaussians, camera: Camera, settings, config: Config, turn: contextlib.AbstractContextManager | None = None
) -> dict[str, np.ndarray]:
    """All maps of one view as numpy arrays ready for :func:`splathead.images.save_maps`.

    Keys: ``alpha`` [H, W] float16; ``depth``, ``depth_variance`` and (``render.median``) ``depth_median`` [H, W]
    float32 in mm and mm^2; ``rgb`` [H, W, 3] uint8 over black; ``normal`` [H, W, 3] int8 (times 127, camera axes).
    Everything is zero where alpha <= 1/255. ``turn``: held while the rasteriser works, not while its maps are packed.
    """
    import torch

    from splathead.raster import render

    outputs = ["rgb", "depth", "depth_variance", "normal"] + ["depth_median"] * config.render.median
    with turn or contextlib.nullcontext(), torch.no_grad():
        rendered = render(gaussians, camera, outputs=outputs, settings=settings, backend=config.render.backend)
        maps = {name: getattr(rendered, name).cpu().numpy() for name in ["alpha", *outputs]}
    return pack_maps(maps)


def pack_maps(maps: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rendered float maps (colours and normals [3, H, W]) in the stored layout and types; see :func:`render_maps`."""
    alpha = maps["alpha"].astype(np.float16)
    covered = (alpha.astype(np.float32) > 1 / 255).astype(np.uint8)
    packed = {"alpha": np.where(covered, alpha, np.float16(0))}
    for name in ("depth", "depth_median", "depth_variance"):
        if name in maps:
            packed[name] = cv2.copyTo(maps[name].astype(np.float32), covered)
    colour = cv2.merge([cv2.convertScaleAbs(np.maximum(plane, 0), alpha=255) for plane in maps["rgb"]])
    packed["rgb"] = cv2.copyTo(colour, covered)
    packed["normal"] = cv2.copyTo(cv2.merge(list(pack_normals(maps["normal"]))), covered)
    return packed


def pack_normals(normals: np.ndarray) -> np.ndarray:
    """Unit normals (any layout) as int8."""
    scaled = normals * np.float32(NORMAL_SCALE)
    return np.rint(scaled, out=scaled).astype(np.int8)
