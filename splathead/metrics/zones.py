"""Zones that errors are reported in: interior, silhouette, full. They come from the target depth alone.

On a head, nearly all squared error of any upsampler sits at silhouettes, so a whole-image number cannot
see whether the surface itself got better: interior and silhouette are always reported apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

HEAD_DIAGONAL_MM = 400.0
"""Bounding-box diagonal of a typical head with neck; turns millimetre thresholds into fractions of a diagonal."""


@dataclass(frozen=True)
class ZoneSettings:
    """Width of the silhouette band and what counts as a depth jump."""

    band_px: int = 8
    """interior pixels are more than this many pixels from the mask's edge and from any jump"""
    jump: float = 4.0
    """a larger depth difference of neighbouring pixels is a jump; in the map's unit (mm)"""

    def __post_init__(self) -> None:
        if self.band_px < 0 or not self.jump > 0:
            raise ValueError(f"zones with band_px={self.band_px}, jump={self.jump}, expected band_px >= 0 and jump > 0")

    @classmethod
    def for_diagonal(cls, diagonal: float, band_px: int = 8) -> ZoneSettings:
        """Settings for data without a known scale: the jump is the same part (1 %) of the bounding-box diagonal."""
        return cls(band_px, cls.jump / HEAD_DIAGONAL_MM * diagonal)


@dataclass(frozen=True)
class Zones:
    """Disjoint ``interior`` and ``silhouette`` and their union ``full``, each [H, W] bool."""

    interior: np.ndarray
    silhouette: np.ndarray
    full: np.ndarray

    def items(self) -> Iterator[tuple[str, np.ndarray]]:
        """(name, mask) of each zone, named as in the results' ``zone`` column."""
        return iter((("interior", self.interior), ("silhouette", self.silhouette), ("full", self.full)))


def check_depth(depth: np.ndarray, name: str, shape: tuple[int, int] | None = None) -> None:
    """Anything but a map [H, W] of finite, non-negative values, of the right shape, is an error that names ``name``."""
    if depth.ndim != 2 or (shape is not None and depth.shape != shape):
        raise ValueError(f"{name} depth of shape {depth.shape}, expected {shape or '[H, W]'}")
    if not (depth.min() >= 0 and depth.max() < np.inf):  # NaN fails both comparisons
        raise ValueError(f"{name} depth has NaN, infinite or negative values, expected >= 0 with 0 = no surface")


def bounding_box(mask: np.ndarray, margin: int = 0, multiple: int = 1) -> tuple[slice, slice]:
    """Rows and columns of the box around a mask [H, W], which must not be empty.

    The box has ``margin`` more pixels on each side where the image has them and starts and ends at multiples of
    ``multiple`` (or at the image's end).
    """
    box = []
    for axis, size in enumerate(mask.shape):
        found = np.flatnonzero(mask.any(axis=1 - axis))
        start, stop = max(int(found[0]) - margin, 0), int(found[-1]) + 1 + margin
        box.append(slice(start // multiple * multiple, min(-(-stop // multiple) * multiple, size)))
    return box[0], box[1]


def cells_within(zone: np.ndarray, factor: int) -> np.ndarray:
    """Cells [H / factor, W / factor] bool that lie wholly in a zone [H, W] bool."""
    height, width = zone.shape
    return zone.reshape(height // factor, factor, width // factor, factor).all(axis=(1, 3))


def depth_jumps(depth: np.ndarray, mask: np.ndarray, jump: float) -> np.ndarray:
    """Pixels [H, W] bool of ``mask`` on either side of a depth jump to their horizontal or vertical neighbour."""
    jumps = np.zeros(mask.shape, dtype=bool)
    for axis in (0, 1):
        size = mask.shape[axis]
        low, high = ((slice(None),) * axis + (part,) for part in (slice(0, size - 1), slice(1, size)))
        step = mask[low] & mask[high] & (np.abs(depth[high] - depth[low]) > jump)
        jumps[low] |= step
        jumps[high] |= step
    return jumps


def compute_zones(target_depth: np.ndarray, settings: ZoneSettings | None = None) -> Zones:
    """Zones of a target depth map [H, W] (0 = no surface).

    Interior pixels are more than ``band_px`` (Euclidean) from the nearest pixel without surface and from the
    nearest pixel at a depth jump. The image's border counts as an edge of the mask: interpolation has no
    neighbours there either. An empty map is an error.
    """
    settings = settings or ZoneSettings()
    check_depth(target_depth, "target")
    full = target_depth > 0
    if not full.any():
        raise ValueError("empty target: no pixel with a surface, so there is nothing to score")
    box = bounding_box(full)
    inside = full[box] & ~depth_jumps(target_depth[box], full[box], settings.jump)
    padded = np.pad(inside, 1).astype(np.uint8)
    distance_px = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    interior = np.zeros_like(full)
    interior[box] = distance_px > settings.band_px
    return Zones(interior, full & ~interior, full)
