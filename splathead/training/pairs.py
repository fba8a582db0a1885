"""One view to train or validate on: extended low-resolution depth and the target's code in the same normalisation.

Depth is normalised to 0..1 over near..far of the low-resolution map's own code; the target stays a 16-bit code with the affine
map that takes it there. Targets may leave 0..1: the true surface lies in front of splat depth. Guides and normals of the view
may come with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from splathead.images import DepthCode, DepthMap
from splathead.maps.fill import extend_depth
from splathead.metrics.zones import ZoneSettings, compute_zones
from splathead.models.interpolation import upsample_mask

BOX_MARGIN_PX = 16
"""Stored frames are cut to the target's bounding box and this margin: guides end a little outside of the mask."""


@dataclass(frozen=True)
class LowResolutionInput:
    """What a network sees of one view. depth01: [h, w] float32, extended beyond ``mask`` [h, w] bool."""

    depth01: np.ndarray
    mask: np.ndarray
    near: float
    range: float
    """far - near of the code, in the map's unit"""


def prepare_input(lr: DepthMap) -> LowResolutionInput:
    """Normalise a low-resolution depth map to near..far of its code and extend it beyond its mask."""
    if not lr.mask.any():
        raise ValueError(f"low-resolution depth of {lr.source!r}: empty mask, there is nothing to super-resolve")
    span = lr.encoding.far - lr.encoding.near
    depth01 = np.where(lr.mask, (lr.depth.astype(np.float64) - lr.encoding.near) / span, 0.0)
    return LowResolutionInput(extend_depth(depth01.astype(np.float32), lr.mask), lr.mask, lr.encoding.near, span)


def over_range(lr: DepthMap, range_mm: float) -> DepthMap:
    """The same map with ``range_mm`` from its code's near as the unit that networks see, instead of the code's own range.

    How far splats lie behind the skin is a matter of millimetres, not of the shoulders' distance from the nose, which sets the
    range of the code. Unchanged for 0, and where the unit of depth is unknown.
    """
    if not range_mm or lr.encoding.unit != "mm":
        return lr
    return replace(lr, encoding=replace(lr.encoding, far=lr.encoding.near + range_mm))


@dataclass(frozen=True)
class TrainingPair:
    """One view to train or validate on."""

    name: str
    lr: LowResolutionInput
    code: np.ndarray
    """[H, W] uint16 target code; 0 = not trained on (no surface, or beyond what the input covers)"""
    gain: float
    offset: float
    """target in the input's normalisation = gain * code + offset"""
    interior: np.ndarray | None = None
    """[H, W] bool zone for validation, where asked for"""
    guides: Mapping[str, np.ndarray] = field(default_factory=dict)
    """guide -> [h', w'] or [h', w', C] as stored, cut to ``box``; see :mod:`splathead.guides`"""
    normals: np.ndarray | None = None
    """[h', w', 3] int8 normals to learn, times 127, 0 = unknown, cut to ``box``"""

    @property
    def box(self) -> tuple[slice, slice]:
        """Rows and columns of the target with a margin: what is kept of guides and normals, for training in little memory."""
        return _target_box(self.code)

    @property
    def scale(self) -> int:
        """Super-resolution factor."""
        return self.code.shape[0] // self.lr.mask.shape[0]


def make_pair(
    name: str,
    lr: DepthMap,
    target: DepthMap,
    zones: ZoneSettings | None = None,
    *,
    guides: Mapping[str, np.ndarray] | None = None,
    normals: np.ndarray | None = None,
) -> TrainingPair:
    """Build a pair from a low-resolution input and a 16-bit target of the same view, and its guides and normals.

    The target is used where both it and the (upsampled) input have a surface: exactly the pixels that a
    prediction will cover. ``zones``: also compute the interior zone for validation.
    """
    stored = DepthCode(target.encoding.encode(target.depth, target.mask), target.encoding, target.camera, target.source)
    return make_pair_of_code(name, lr, stored, zones, guides=guides, normals=normals)


def make_pair_of_code(
    name: str,
    lr: DepthMap,
    target: DepthCode,
    zones: ZoneSettings | None = None,
    *,
    guides: Mapping[str, np.ndarray] | None = None,
    normals: np.ndarray | None = None,
) -> TrainingPair:
    """:func:`make_pair` of a target as stored: a tenth of the time, as nothing is decoded."""
    scale = _scale_of(name, lr, target.code)
    if lr.encoding.unit != target.encoding.unit:
        raise ValueError(f"{name}: input in {lr.encoding.unit}, target in {target.encoding.unit}, expected the same unit")
    if target.encoding.bits != 16:
        raise ValueError(f"{name}: target with {target.encoding.bits} bits, expected 16")
    prepared = prepare_input(lr)
    code = np.where(upsample_mask(lr.mask, scale), target.code, np.uint16(0))
    if not code.any():
        raise ValueError(f"{name}: input and target have no pixel in common")
    gain = target.encoding.lsb / prepared.range
    offset = (target.encoding.near - prepared.near) / prepared.range - gain
    interior = compute_zones(target.encoding.decode(target.code)[0], zones).interior & (code > 0) if zones else None
    for what, array in {**(guides or {}), **({} if normals is None else {"normals": normals})}.items():
        if array.shape[:2] != code.shape:
            raise ValueError(f"{name}: {what} of shape {array.shape}, expected {code.shape} pixels as the target")
    box = _target_box(code)
    cut = {what: np.ascontiguousarray(array[box]) for what, array in (guides or {}).items()}
    normals = None if normals is None else np.ascontiguousarray(normals[box])
    return TrainingPair(name, prepared, code, gain, offset, interior, cut, normals)


def _target_box(code: np.ndarray) -> tuple[slice, slice]:
    used = code > 0
    indices = (np.flatnonzero(used.any(1)), np.flatnonzero(used.any(0)))
    return tuple(slice(max(0, int(i[0]) - BOX_MARGIN_PX), int(i[-1]) + 1 + BOX_MARGIN_PX) for i in indices)


def _scale_of(name: str, lr: DepthMap, target: np.ndarray) -> int:
    (h, w), (height, width) = lr.depth.shape, target.shape
    scale = height // h
    if scale < 1 or (h * scale, w * scale) != (height, width):
        raise ValueError(f"{name}: input of {w}x{h} and target of {width}x{height} pixels, expected a whole factor")
    return scale
