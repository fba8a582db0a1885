"""High-resolution maps of the same view that may guide a network: what they are, and their form as tensors.

``rgb``, ``alpha`` and ``normal`` are stored by stage 04 beside the depth maps. The others are made of its maps, of the camera
and of the low-resolution input (:func:`view_guides`), in the input's own unit of depth, so that a network needs to know neither
focal length nor distance. Small integers or half floats in memory; networks see float32 in about -1..1. Never among them:
high-resolution depth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from splathead.images import DepthMap
from splathead.maps.normals import slopes_of_normals
from splathead.maps.render_subject import NORMAL_SCALE
from splathead.metrics.zones import bounding_box
from splathead.models.interpolation import upsample, upsample_depth
from splathead.training.losses import CODE_STEPS
from splathead.training.pairs import prepare_input

GUIDE_CHANNELS = {"rgb": 3, "alpha": 1, "normal": 3, "slope": 3, "spread": 1, "cover": 1}
"""Guide -> channels. rgb: colour over black in 0..1; alpha: 0..1; normal: splat normals in camera axes, unit length or 0;
slope: the depth slopes along x and y that the splat normals imply, in 8-bit code steps per pixel, and how much the normal faces
the camera (its cosine; 0 = unknown); spread: standard deviation of depth along the ray, in 8 code steps; cover: share of a
pixel that the low-resolution mask covers."""

OF_INPUT = ("cover",)
"""Guides that the low-resolution input itself gives: a network that takes no others is still of input track A"""

STORED_MAPS = {"slope": ("normal",), "spread": ("depth_variance",), "cover": ()}
"""Guide -> maps of stage 04 that it is made of, where that is not one of its own name"""

MIRRORED = ("normal", "slope")
"""Guides whose first channel changes its sign when a view is mirrored"""

MAX_SLOPE = 8.0
"""Code steps per pixel at which slopes are cut; a slope of 80 degrees on a head in FaceLift's frame is about 4"""

_SCALE = {"rgb": 255.0, "alpha": 1.0, "normal": float(NORMAL_SCALE), "slope": 1.0, "spread": 8.0, "cover": 255.0}


def guide_channels(names: Sequence[str]) -> int:
    """Number of channels of the stacked guides; an unknown name is a ValueError."""
    unknown = [name for name in names if name not in GUIDE_CHANNELS]
    if unknown:
        raise ValueError(f"guide {unknown[0]!r}, expected one of {', '.join(GUIDE_CHANNELS)}")
    return sum(GUIDE_CHANNELS[name] for name in names)


def stored_maps(names: Sequence[str]) -> tuple[str, ...]:
    """Maps of stage 04 that these guides are made of."""
    return tuple(dict.fromkeys(source for name in names for source in STORED_MAPS.get(name, (name,))))


def beside_input(names: Sequence[str]) -> tuple[str, ...]:
    """Those of the guides that the low-resolution input does not give itself."""
    return tuple(name for name in names if name not in OF_INPUT)


def guide_tensor(
    stored: Tensor,  # [B, H, W] or [B, H, W, C] as view_guides returns it, stacked
    name: str,
) -> Tensor:  # [B, C, H, W] float32
    """One guide of several views as networks see it."""
    values = stored.to(torch.float32) / _SCALE[name]
    return values[:, None] if values.ndim == 3 else values.permute(0, 3, 1, 2)


def view_guides(
    names: Sequence[str], maps: Mapping[str, np.ndarray], lr: DepthMap, scale: int, *, absent: bool = False
) -> dict[str, np.ndarray]:
    """Guides of one view as they are kept in memory, [H, W] or [H, W, C] by name in the order of ``names``.

    Args:
        names: see :data:`GUIDE_CHANNELS`.
        maps: full-size maps of the view as stage 04 stores them (those of :func:`stored_maps`).
        lr: the low-resolution input; its code's near and far are the unit of slopes and spreads.
        scale: super-resolution factor.
        absent: leave all but the input's own guides at zero, which networks take as "not there".

    Raises ValueError for maps of another size than ``scale`` times the input's.
    """
    shape = (lr.depth.shape[0] * scale, lr.depth.shape[1] * scale)
    for name in () if absent else stored_maps(names):
        if maps[name].shape[:2] != shape:
            raise ValueError(f"guide map {name} of shape {maps[name].shape}, expected {shape} pixels for {lr.source!r}")
    guides = {}
    for name in names:
        if absent and name not in OF_INPUT:
            channels = GUIDE_CHANNELS[name]
            guides[name] = np.zeros(shape if channels == 1 else (*shape, channels), np.uint8)
        elif name == "slope":
            guides[name] = _slopes(maps["normal"], lr, scale)
        elif name == "spread":
            steps_per_mm = CODE_STEPS / (lr.encoding.far - lr.encoding.near)
            guides[name] = (np.sqrt(np.maximum(maps["depth_variance"], 0)) * np.float32(steps_per_mm)).astype(np.float16)
        elif name == "cover":
            cover = upsample(torch.from_numpy(lr.mask.astype(np.float32))[None, None], scale, "bilinear")[0, 0]
            guides[name] = (cover.numpy() * 255 + 0.5).astype(np.uint8)
        else:
            guides[name] = maps[name]
    return guides


def _slopes(normals: np.ndarray, lr: DepthMap, scale: int) -> np.ndarray:
    """[H, W, 3] float16: code steps per pixel along x and y, and cosine, of normals [H, W, 3] int8 in camera axes; the depth
    that :func:`slopes_of_normals` needs is the input's, interpolated."""
    slopes = np.zeros(normals.shape, np.float16)
    seen = normals[..., 2] != 0
    if not seen.any():
        return slopes
    box = bounding_box(seen)
    camera = lr.camera.resized(normals.shape[1], normals.shape[0]).cropped(*box)
    prepared = prepare_input(lr)
    z01 = upsample_depth(prepared.depth01, scale, "bilinear")
    steps = (z01[box] + np.float32(prepared.near / prepared.range)) * np.float32(CODE_STEPS)
    n = normals[box].astype(np.float32) / np.float32(NORMAL_SCALE)
    found, cosine = slopes_of_normals(n, camera, steps)
    known = np.isfinite(found[..., :1])
    both = np.concatenate([np.clip(found, -MAX_SLOPE, MAX_SLOPE), cosine[..., None]], axis=-1)
    slopes[box] = np.where(known, both, 0)
    return slopes
