"""A depth code is an interval: what a low-resolution pixel says about super-resolved depth, and depth that agrees with it.

A pixel of n bits says that what it reads of the surface lies within half a step of its decoded depth. What it reads is a
*forward operator*, a masked mean of the high-resolution depth under it plus a constant:

===========  ==============================================================================  =========
operator     weights                                                                         constant
===========  ==============================================================================  =========
area         equal over the cell's pixels                                                    0
antialiased  a Gaussian of variance 0.3 low-resolution pixels^2                              0
classic      the same                                                                        fitted
===========  ==============================================================================  =========

The last two are linear models of a low-resolution splat render. Rasterisation convolves each splat's footprint with the
dilation's Gaussian (EWA splatting, Zwicker et al., TVCG 2002); if all splats of a pixel were opaque and small that would be
a Gaussian mean of their depth. It is not: classic rasterisation leaves opacities alone, so dilated splats cover more of what
lies behind them and depth comes out nearer, by an amount that only the splats know. A constant per kind of fit, the median
over training heads, stands for it. Neither model knows occlusion or the order of splats. How often true depth contradicts
each of them is measured by :mod:`splathead.evaluation.interval_truth`.

Depth is made to agree by iterative back-projection (Irani and Peleg, CVGIP 1991) onto the intervals: what a reading lacks to
its interval is enlarged smoothly and subtracted, again and again. This ends in the convex set of depths that agree with every
interval, not at the nearest of them. Cells near silhouettes, jumps or pixels without depth take no part: there a mean mixes
surfaces.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np
from scipy import sparse

from splathead.images import DepthEncoding, DepthMap
from splathead.maps.degrade import downsample, kernel_matrix
from splathead.metrics.depth import INTERVAL_TOLERANCE_LSB
from splathead.metrics.zones import ZoneSettings, bounding_box, cells_within, compute_zones

KERNELS = {"area": "area", "antialiased": "splat", "classic": "splat"}
"""Operator -> kernel of :mod:`splathead.maps.degrade`"""
FOOTPRINT_CELLS = {"area": 0, "splat": 2}
"""Kernel -> cells on each side of its own that it reads"""
FITTED = ("classic",)
"""Operators with a constant that is fitted on training heads"""
INSET_LSB = 0.02
"""A reading that is out is taken so far into its interval: rounding, also that of a 16-bit file, does not take it out again"""
ITERATIONS = 60
"""At most so many: what then still is out is a pattern of single cells that the enlargement can hardly draw"""


@dataclass(frozen=True)
class Operator:
    """What a low-resolution pixel reads of high-resolution depth."""

    name: str
    offset: float = 0.0
    """added to the mean, in the map's unit; negative reads nearer"""

    def __post_init__(self) -> None:
        if self.name not in KERNELS:
            raise ValueError(f"interval operator {self.name!r}, expected one of {', '.join(KERNELS)}")
        if not np.isfinite(self.offset):
            raise ValueError(f"interval operator {self.name}: offset {self.offset}, expected a finite length")

    @property
    def kernel(self) -> str:
        """Its weights, a kernel of :mod:`splathead.maps.degrade`."""
        return KERNELS[self.name]

    def read(self, depth: np.ndarray, mask: np.ndarray, factor: int) -> tuple[np.ndarray, np.ndarray]:
        """Readings [H / factor, W / factor] float64 of depth [H, W], and where half of their weight lies on ``mask``."""
        low, covered = downsample(depth, mask, factor, self.kernel)
        return np.where(covered, low + float(self.offset), 0.0), covered


def excess(difference: np.ndarray, encoding: DepthEncoding) -> np.ndarray:
    """By how much readings minus decoded depth [h, w] leave their intervals, with sign; 0 inside. Beyond the edge it counts
    from a little within it (``INSET_LSB``)."""
    outside = np.abs(difference) > (0.5 + INTERVAL_TOLERANCE_LSB) * encoding.lsb
    bound = (0.5 - INSET_LSB) * encoding.lsb
    return np.where(outside, difference - np.clip(difference, -bound, bound), 0.0)


def trusted_cells(depth: np.ndarray, lr: DepthMap, operator: Operator, settings: ZoneSettings) -> np.ndarray:
    """Cells [h, w] bool whose reading means something: wholly in the interior of ``depth`` [H, W] (0 = empty) and in that of
    the input, with a band of at least two cells; nothing that the operator reads is empty.

    ValueError for maps whose sizes have no whole factor between them; no cell is trusted where a map is empty.
    """
    factor, filled = scale_of(depth, lr), depth > 0
    if not (lr.mask.any() and filled.any()):
        return np.zeros_like(lr.mask)
    band = max(settings.band_px, 2 * factor)  # so that an enlarged correction has faded where the band ends
    low = compute_zones(lr.depth, ZoneSettings(-(-band // factor), settings.jump)).interior
    square = np.ones((2 * FOOTPRINT_CELLS[operator.kernel] + 1,) * 2, np.uint8)
    whole = cv2.erode(cells_within(filled, factor).astype(np.uint8), square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    high = compute_zones(depth, ZoneSettings(band, settings.jump)).interior
    return low & whole.astype(bool) & cells_within(high, factor)


def differences(truth: np.ndarray, lr: DepthMap, operator: Operator, cells: np.ndarray) -> np.ndarray:
    """What an input's pixels should read of true depth [H, W] (0 = empty) minus what they say, [N] float64 over ``cells``
    [h, w] bool in the order of rows, in the map's unit."""
    reading, _ = operator.read(truth, truth > 0, scale_of(truth, lr))
    return (reading - lr.depth)[cells]


def violation(found: np.ndarray, encoding: DepthEncoding) -> float:
    """Share of ``differences`` [N] beyond half a step of the code; NaN where there are none."""
    return float((excess(found, encoding) != 0).mean()) if found.size else float("nan")


def scale_of(depth: np.ndarray, lr: DepthMap) -> int:
    """Whole factor between the sizes of a map [H, W] and its input; ValueError where there is none."""
    factor = depth.shape[0] // lr.depth.shape[0]
    if factor < 1 or depth.shape != (lr.depth.shape[0] * factor, lr.depth.shape[1] * factor):
        raise ValueError(f"depth of shape {depth.shape} for an input of shape {lr.depth.shape}, expected a whole factor")
    return factor


def project(depth: np.ndarray, lr: DepthMap, operator: Operator, settings: ZoneSettings) -> np.ndarray:
    """Depth [H, W] float32 (0 = empty) whose readings lie within the input's intervals, where cells are trusted.

    A pixel that no cell asks to move keeps its bits, and so do all when no reading is out.

    Args:
        depth: [H, W] float32 in the input's unit, 0 = empty.
        lr: the low-resolution input [h, w]; its encoding has the step of its code.
        operator: what its pixels read.
        settings: band and jump beyond which cells are trusted, see :func:`trusted_cells`.
    """
    factor, trusted = scale_of(depth, lr), trusted_cells(depth, lr, operator, settings)
    reading, _ = operator.read(depth, depth > 0, factor)
    difference = np.where(trusted, reading - lr.depth, 0.0)
    if not excess(difference, lr.encoding).any():
        return depth
    low = bounding_box(trusted, margin=2)
    high = tuple(slice(side.start * factor, side.stop * factor) for side in low)
    rows, columns = (_seen(side.stop - side.start, factor, operator.kernel) for side in low)
    correction = _back_project(difference[low], trusted[low], lr.encoding, rows, columns)
    rows, columns = (_enlargement(side.stop - side.start, factor) for side in low)
    change = (columns @ (rows @ correction).T).T
    moved = (depth[high] > 0) & (change != 0)
    result = depth.copy()
    result[high][moved] = (depth[high][moved] - change[moved]).astype(np.float32)
    return result


def _back_project(
    difference: np.ndarray, trusted: np.ndarray, encoding: DepthEncoding, rows: sparse.csr_matrix, columns: sparse.csr_matrix
) -> np.ndarray:
    """Correction [h, w] whose enlargement, subtracted, takes the trusted readings into their intervals.

    Footprints of trusted cells are covered, so a reading of the enlarged correction is a small separable filter of it
    (``rows``, ``columns``) and all iterations stay at low resolution.
    """
    correction = np.zeros_like(difference)
    for _ in range(ITERATIONS):
        seen = (columns @ (rows @ correction).T).T
        left = np.where(trusted, excess(difference - seen, encoding), 0.0)
        if not left.any():
            break
        correction += left
    return correction


@functools.lru_cache(maxsize=32)
def _seen(size: int, factor: int, kernel: str) -> sparse.csr_matrix:
    """Matrix [size, size] of one axis: what an operator reads of the enlargement of a map."""
    return (kernel_matrix(size * factor, factor, kernel).astype(np.float64) @ _enlargement(size, factor)).tocsr()


@functools.lru_cache(maxsize=32)
def _enlargement(size: int, factor: int) -> sparse.csr_matrix:
    """Cubic B-spline interpolation [size * factor, size] of one axis, as ``models.interpolation.upsample_spline``; the border
    is repeated. On training heads it left better normals than bilinear interpolation, which has an edge at each cell."""
    position = (np.arange(size * factor) + 0.5) / factor - 0.5
    taps = np.floor(position).astype(int)[:, None] + np.arange(-1, 3)
    distance = np.abs(taps - position[:, None])
    near, far = 2 / 3 - distance**2 + distance**3 / 2, np.maximum(2 - distance, 0) ** 3 / 6
    weights = np.where(distance < 1, near, far)
    rows = np.broadcast_to(np.arange(len(position))[:, None], taps.shape)
    entries = (weights.ravel(), (rows.ravel(), np.clip(taps, 0, size - 1).ravel()))
    return sparse.csr_matrix(entries, shape=(size * factor, size))
