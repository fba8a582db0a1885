"""Interpolation baselines and the base that networks add their residual to.

All modes follow the convention block (``align_corners=False``): low-resolution sample (i, j) covers the
``scale`` x ``scale`` block of pixels under it. The low-resolution depth must be *extended* beyond its mask
first (``splathead.maps.fill.extend_depth``), otherwise the empty code 0 bleeds into the silhouette.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

MODES = ("nearest", "bilinear", "bicubic")


def upsample(
    x: Tensor,  # [B, C, h, w]
    scale: int,
    mode: str,
) -> Tensor:  # [B, C, h * scale, w * scale]
    """Upsample by a whole factor with ``nearest``, ``bilinear`` or ``bicubic`` (a = -0.75) interpolation."""
    if mode not in MODES:
        raise ValueError(f"interpolation mode {mode!r}, expected one of {', '.join(MODES)}")
    if scale < 1:
        raise ValueError(f"scale factor {scale}, expected a whole number of at least 1")
    if mode == "nearest":
        return F.interpolate(x, scale_factor=scale, mode="nearest")
    return F.interpolate(x, scale_factor=scale, mode=mode, align_corners=False)


def upsample_spline(
    x: Tensor,  # [B, C, h, w]
    scale: int,
) -> Tensor:  # [B, C, h * scale, w * scale]
    """Enlarge by a whole factor with the cubic B-spline as kernel: twice differentiable, never above or below its samples.

    Constants and ramps stay exact; finer structure is smoothed, for the kernel does not interpolate. The border is repeated.
    ``x`` must be finite: in a product with a whole matrix one value that is not spoils its row and column, then the whole map.
    Two products with matrices that are kept: making the weights anew is 16 small operations and a copy from the CPU at every
    call, and copies from pageable memory cannot be captured in a CUDA graph.
    """
    rows, columns = (_kept_matrix(size, scale, x.device, x.dtype) for size in x.shape[-2:])
    return rows @ (x @ columns.T)


def _kept_matrix(size: int, scale: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """:func:`_spline_matrix`, which a compiled network would make on the CPU and copy at every call but for
    :func:`compiled`."""
    return _spline_matrix(size, scale, device, dtype)


def compiled(function: Callable, **options: object) -> Callable:
    """``torch.compile(function, dynamic=False, **options)`` that takes kept matrices as constants; sizes must be numbers then.

    They are not marked at import: the compiler takes a second and a half to load, which most runs never need.
    """
    torch.compiler.assume_constant_result(_kept_matrix)
    return torch.compile(function, dynamic=False, **options)


@lru_cache(maxsize=4)  # rows and columns of two shapes of maps
@torch.inference_mode(False)  # else whoever comes first decides whether training can use it
def _spline_matrix(size: int, scale: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """[size * scale, size]: weights of the samples in each place of one enlarged axis."""
    phases = (torch.arange(scale, dtype=torch.float64) + 0.5) / scale - 0.5
    distance = (phases[:, None] - torch.arange(-2, 3, dtype=torch.float64)).abs()
    near, far = 2 / 3 - distance**2 + distance**3 / 2, (2 - distance).clamp_min(0) ** 3 / 6
    weights = torch.where(distance < 1, near, far)  # [scale, 5]
    places = torch.arange(size * scale)[:, None]
    samples = (places // scale + torch.arange(-2, 3)).clamp(0, size - 1)
    matrix = torch.zeros(size * scale, size, dtype=torch.float64)
    return matrix.scatter_add_(1, samples, weights.repeat(size, 1)).to(device, dtype)


def upsample_depth(depth01: np.ndarray, scale: int, mode: str) -> np.ndarray:
    """Upsample extended depth [h, w], normalised to about 0..1, to [h * scale, w * scale] float32.

    Normalised, because float32 keeps 1e-5 mm of a head's depth range but only 3e-5 mm of its distance.
    """
    if depth01.ndim != 2 or not np.isfinite(depth01).all():
        raise ValueError(f"low-resolution depth of shape {depth01.shape}, expected a finite map [h, w]")
    x = torch.from_numpy(np.ascontiguousarray(depth01, dtype=np.float32))
    return upsample(x[None, None], scale, mode)[0, 0].numpy()


def upsample_mask(mask: np.ndarray, scale: int) -> np.ndarray:
    """High-resolution mask [h * scale, w * scale] bool: where the bilinearly upsampled mask is at least 1/2."""
    x = torch.from_numpy(mask.astype(np.float32))[None, None]
    return upsample(x, scale, "bilinear")[0, 0].numpy() >= 0.5


def fit_offset(errors_mm: list[np.ndarray]) -> float:
    """Constant offset in mm that ``bilinear_offset`` adds: the mean over maps of each map's mean of target - bilinear.

    Every map weighs the same, as in the reported errors. The mean minimises the RMSE that is reported.
    """
    means = [float(np.mean(errors, dtype=np.float64)) for errors in errors_mm if errors.size]
    if not means:
        raise ValueError("no interior pixel to fit the depth offset on")
    return float(np.mean(means))
