"""``.splat`` of antimatter15's viewer: 32 bytes a Gaussian, no header.

Position and standard deviations (three float32 each), red, green, blue and opacity (8 bits each, colour = 0.5 + C0 f_dc),
quaternion w x y z (8 bits each, (code - 128) / 128). No harmonics. The writer rounds the bytes down, so that a decoded
colour, opacity or quaternion component lies up to one step below the original; viewers draw them as decoded here.

Source: convert.py and main.js of antimatter15/splat (MIT), which define the format.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from splathead.gaussians import SH_C0
from splathead.splat_formats.builder import CHUNK_ROWS, GaussianBuilder, LoadOptions, SplatFile, opacity_logit

ROW = np.dtype([("position", "<f4", 3), ("scale", "<f4", 3), ("colour", "u1", 4), ("rotation", "u1", 4)])
LAYOUT = ".splat"

_SAMPLE_ROWS = 256
_FLAT_LOG_SCALE = -20.0  # where SuperSplat's writer, too, clamps an extent of zero


def is_dot_splat(path: Path) -> bool:
    """Whether the file's size and first rows are those of a ``.splat``: there is no other mark."""
    size = Path(path).stat().st_size
    if size == 0 or size % ROW.itemsize:
        return False
    rows = np.fromfile(path, ROW, _SAMPLE_ROWS)
    floats = np.concatenate([rows["position"], rows["scale"]], axis=1)
    if not np.isfinite(floats).all() or np.abs(floats).max() > 1e7 or rows["scale"].min() < 0:
        return False
    length = np.linalg.norm(_quaternions(rows), axis=1)
    return bool((np.abs(length - 1) < 0.1).mean() > 0.9)  # some writers store a degenerate rotation as it came


def read_dot_splat(path: Path, options: LoadOptions) -> SplatFile:
    """Read a ``.splat``. ValueError, without the file's name, for a wrong size, count or value."""
    size = Path(path).stat().st_size
    if size % ROW.itemsize:
        raise ValueError(f"{size} bytes, expected a multiple of {ROW.itemsize} (truncated .splat?)")
    count = size // ROW.itemsize
    options.check_count(count)
    builder, flat = GaussianBuilder(count, 0, options), 0
    with Path(path).open("rb") as stream:
        while len(rows := np.fromfile(stream, ROW, CHUNK_ROWS)):
            is_flat = rows["scale"] == 0
            flat += int(is_flat.any(axis=1).sum())
            with np.errstate(invalid="ignore"):  # the logarithm of a negative extent is NaN, which the builder reports
                log_scales = np.log(np.where(is_flat, np.float32(math.exp(_FLAT_LOG_SCALE)), rows["scale"]))
            colour = rows["colour"] / np.float32(255)
            builder.add(
                means=rows["position"],
                log_scales=log_scales,
                quaternions=_quaternions(rows),
                opacity_logits=opacity_logit(colour[:, 3]),
                sh=((colour[:, :3] - 0.5) / SH_C0)[:, None],
            )
    notes = (f"{flat} Gaussians with an extent of 0, set to exp({_FLAT_LOG_SCALE:g})",) if flat else ()
    return builder.finish(LAYOUT, notes=notes)


def _quaternions(rows: np.ndarray) -> np.ndarray:
    return (rows["rotation"].astype(np.float32) - 128) / 128
