"""Image metrics: PSNR, SSIM, LPIPS."""

from __future__ import annotations

import math

import cv2
import numpy as np

MAX_PSNR_DB = 150.0
"""PSNR of (nearly) equal signals: float32 cannot tell errors further below the peak, and results must be finite."""
SSIM_WINDOW_PX = 11
SSIM_SIGMA_PX = 1.5


def psnr_from_rmse(rmse: float, peak: float) -> float:
    """Peak signal-to-noise ratio in dB, at most ``MAX_PSNR_DB``; NaN for a NaN ``rmse``."""
    if not peak > 0:
        raise ValueError(f"PSNR with peak {peak}, expected > 0")
    return 20.0 * math.log10(peak / max(rmse, peak * 10 ** (-MAX_PSNR_DB / 20))) if not math.isnan(rmse) else math.nan


def psnr(image: np.ndarray, reference: np.ndarray, peak: float = 1.0) -> float:
    """PSNR in dB of ``image`` against ``reference`` (same shape, any) over all values; ``peak`` is the data range."""
    _check_same(image, reference)
    error = image.astype(np.float64) - reference.astype(np.float64)
    return psnr_from_rmse(math.sqrt(float(np.mean(error**2))), peak)


def ssim_map(image: np.ndarray, reference: np.ndarray, peak: float = 1.0) -> np.ndarray:
    """Structural similarity at each pixel (and channel), same shape as ``image`` [H, W] or [H, W, C], float64.

    Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004: 11x11
    Gaussian window with sigma 1.5, K1 = 0.01, K2 = 0.03, population variances; mirrored at the border.
    """
    _check_same(image, reference)
    if min(image.shape[:2]) < SSIM_WINDOW_PX:
        raise ValueError(f"SSIM of an image of {image.shape[1]}x{image.shape[0]}, expected at least {SSIM_WINDOW_PX} on a side")
    x, y = image.astype(np.float64), reference.astype(np.float64)

    def blur(values: np.ndarray) -> np.ndarray:
        size = (SSIM_WINDOW_PX, SSIM_WINDOW_PX)
        return cv2.GaussianBlur(values, size, SSIM_SIGMA_PX, borderType=cv2.BORDER_REFLECT).reshape(values.shape)

    mean_x, mean_y = blur(x), blur(y)
    variance_x, variance_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance * (2 * covariance + c2) / (variance_x + variance_y + c2)


def ssim(image: np.ndarray, reference: np.ndarray, peak: float = 1.0) -> float:
    """Mean of :func:`ssim_map` over the pixels whose window lies inside the image (and over channels)."""
    margin = SSIM_WINDOW_PX // 2
    return float(ssim_map(image, reference, peak)[margin:-margin, margin:-margin].mean())


def _check_same(image: np.ndarray, reference: np.ndarray) -> None:
    if image.shape != reference.shape:
        raise ValueError(f"images of shapes {image.shape} and {reference.shape}, expected the same")
    if not (np.isfinite(image).all() and np.isfinite(reference).all()):
        raise ValueError("image with NaN or infinite values")
