"""Low-resolution depth computed from high-resolution depth: kernels, noise, quantisation.

A rendered low-resolution map (stage 03) is none of these; they are the published study's degradations, with the two
controls it lacked (area mean, antialiased bicubic), for ablations and for training augmentation. Empty pixels
never enter an average: every kernel is a normalised convolution over the mask (Knutsson and Westin, CVPR 1993).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from splathead.images import DepthEncoding

MIN_COVERAGE = 0.5
"""A low-resolution pixel has a surface where the kernel's weight on masked pixels is at least this."""
SPLAT_DILATION = 0.3
"""Variance in low-resolution pixels^2 that rasterisation adds to every splat (Zwicker et al., TVCG 2002; 0.3 as in 3DGS)"""


@dataclass(frozen=True)
class Degradation:
    """How high-resolution depth becomes low-resolution depth."""

    kernel: str
    """area | bicubic_antialiased | bicubic (no antialiasing, as published) | point | splat (a rasteriser's dilation)"""
    noise_fraction: float = 0.0
    """standard deviation of Gaussian noise as a fraction of the map's depth range"""
    bits: int = 0
    """bits of the depth code, near/far = the map's own minimum and maximum; 0 = keep float"""

    def __post_init__(self) -> None:
        if self.kernel not in KERNELS:
            raise ValueError(f"degradation kernel {self.kernel!r}, expected one of {', '.join(KERNELS)}")
        if not 0 <= self.noise_fraction < 1:
            raise ValueError(f"degradation noise_fraction {self.noise_fraction}, expected 0 to 1 (of the depth range)")
        if self.bits and not 2 <= self.bits <= 16:
            raise ValueError(f"degradation bits {self.bits}, expected 0 (float) or 2 to 16")


def degrade(
    depth: np.ndarray, mask: np.ndarray, factor: int, degradation: Degradation, rng: np.random.Generator | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Low-resolution depth [H / factor, W / factor] float32 (0 = no surface) and its mask.

    Resampling, then noise, then quantisation. ``rng`` is needed where there is noise. ValueError for a size that is
    no multiple of ``factor``, for noise without ``rng`` and for a result without any surface.
    """
    low, low_mask = downsample(depth, mask, factor, degradation.kernel)
    if not low_mask.any():
        raise ValueError(f"degrade: empty mask after {degradation.kernel} by {factor} ({int(mask.sum())} pixels had a surface)")
    if degradation.noise_fraction:
        if rng is None:
            raise ValueError("degrade: noise needs a random generator")
        values = low[low_mask]
        sigma = degradation.noise_fraction * (values.max() - values.min())
        low[low_mask] += sigma * rng.standard_normal(values.shape, dtype=np.float32)
    if degradation.bits:
        encoding = DepthEncoding.from_depth(low, low_mask, degradation.bits, "mm")
        low, low_mask = encoding.decode(encoding.encode(low, low_mask))
    return low, low_mask


def downsample(depth: np.ndarray, mask: np.ndarray, factor: int, kernel: str) -> tuple[np.ndarray, np.ndarray]:
    """Masked resampling by an integer factor: depth [h, w] float32 (0 = no surface) and mask [h, w] bool.

    With weights k over the high-resolution pixels of a cell, z = sum(k m z) / sum(k m), empty where
    sum(k m) < 1/2. Kernels are aligned as everywhere here (``align_corners=False``) and mirror nothing: weight
    that falls outside of the image counts as empty.
    """
    height, width = depth.shape
    if mask.shape != depth.shape or height % factor or width % factor or factor < 1:
        raise ValueError(f"downsample: depth {depth.shape}, mask {mask.shape}, expected equal multiples of the factor {factor}")
    if not mask.any():
        return np.zeros((height // factor, width // factor), np.float32), np.zeros((height // factor, width // factor), bool)
    offset = float(depth[mask].mean())  # sums of deviations keep float32's digits
    rows, columns = kernel_matrix(height, factor, kernel), kernel_matrix(width, factor, kernel)
    deviation = np.where(mask, depth - offset, 0).astype(np.float32)
    total = (columns @ (rows @ deviation).T).T
    coverage = (columns @ (rows @ mask.astype(np.float32)).T).T
    low_mask = coverage >= MIN_COVERAGE - 1e-5
    low = np.divide(total, coverage, out=np.zeros_like(total), where=low_mask)
    return np.where(low_mask, low + offset, 0).astype(np.float32), low_mask


@functools.lru_cache(maxsize=32)
def kernel_matrix(size: int, factor: int, kernel: str) -> sparse.csr_matrix:
    """Sparse resampling matrix [size / factor, size] float32 of one axis; rows of the inside sum to 1."""
    support, stretched, weight = KERNELS[kernel]
    stretch = factor if stretched else 1
    centres = (np.arange(size // factor) + 0.5) * factor
    reach = int(np.ceil(support * stretch)) + 1
    taps = np.floor(centres).astype(int)[:, None] + np.arange(-reach, reach + 1)
    values = weight((taps + 0.5 - centres[:, None]) / stretch)
    values /= values.sum(axis=1, keepdims=True)
    rows = np.broadcast_to(np.arange(len(centres))[:, None], taps.shape)
    used = (taps >= 0) & (taps < size) & (values != 0)
    return sparse.csr_matrix((values[used].astype(np.float32), (rows[used], taps[used])), shape=(len(centres), size))


def _box(x: np.ndarray) -> np.ndarray:
    return (np.abs(x) < 0.5).astype(np.float64)


def _point(x: np.ndarray) -> np.ndarray:
    """The pixel at the cell's centre; the one before it where the centre lies between two."""
    return ((x > -1) & (x <= 0)).astype(np.float64)


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic convolution kernel (IEEE TASSP 1981)."""
    x = np.abs(x)
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _gaussian(x: np.ndarray) -> np.ndarray:
    """The footprint that a rasteriser's dilation gives a surface of small splats: a Gaussian of that variance."""
    return np.exp(-0.5 * x**2 / SPLAT_DILATION)


KERNELS = {
    "area": (0.5, True, _box),  # cv2.INTER_AREA
    "bicubic_antialiased": (2.0, True, functools.partial(_cubic, a=-0.5)),  # Pillow, torch antialias=True
    "bicubic": (2.0, False, functools.partial(_cubic, a=-0.75)),  # cv2.INTER_CUBIC
    "point": (1.0, False, _point),
    "splat": (2.0, True, _gaussian),  # cut at 3.7 standard deviations
}
"""Name -> (support, widened by the factor?, weight function)."""

STUDY_DEGRADATIONS = {
    "bicubic": Degradation("bicubic"),
    "bicubic_noise": Degradation("bicubic", noise_fraction=0.02),
    "bicubic_8bit": Degradation("bicubic", bits=8),
    "area": Degradation("area"),
    "area_8bit": Degradation("area", bits=8),
    "bicubic_antialiased": Degradation("bicubic_antialiased"),
    "bicubic_antialiased_8bit": Degradation("bicubic_antialiased", bits=8),
}
"""The published study's names ("bicubic...") and the controls. What it called "render" was "area"; the real render is
stage 03's low-resolution map."""
