"""What a fit minimises in one view: L1 + SSIM against the photo and the spread of splats along each ray.

The plain torch definition is here; it runs on any device. On a CPU :func:`view_loss` takes the fused
kernels of :mod:`splathead.fitting.loss_kernels`, which give the same value and gradients.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

SSIM_WINDOW_PX = 11
SSIM_SIGMA_PX = 1.5
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2
ALPHA_SURFACE = 0.5
"""Rays with more alpha than this meet the surface: only they are asked to have little depth variance."""
MIN_DEPTH_VARIANCE_MM2 = 1e-2
"""Below it float32 sums of squares are noise: no gradient."""
MAX_DEPTH_STD_MM = 25.0
"""Rays with more spread (silhouettes that see two surfaces) add a constant: no gradient."""


class LossWeights(NamedTuple):
    """Weights of one view's loss: (1 - ssim) L1 + ssim (1 - SSIM) + depth_std * mean standard deviation in mm."""

    ssim: float
    depth_std: float


class Box(NamedTuple):
    """Half-open pixel box; SSIM is evaluated for the windows that lie inside it."""

    y0: int
    y1: int
    x0: int
    x1: int


def gaussian_window() -> list[float]:
    """The 11 taps of SSIM's separable Gaussian window (sigma 1.5 px, sum 1; Wang et al. 2004)."""
    half = SSIM_WINDOW_PX // 2
    taps = [math.exp(-0.5 * ((k - half) / SSIM_SIGMA_PX) ** 2) for k in range(SSIM_WINDOW_PX)]
    return [tap / sum(taps) for tap in taps]


def subject_box(mask: Tensor, margin: int = SSIM_WINDOW_PX) -> Box:
    """Box around a mask [H, W] (bool) and ``margin`` px, inside the image.

    Outside of it both images are background, where SSIM is 1: an empty mask gives the whole image.
    """
    height, width = mask.shape
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    if not len(rows):
        return Box(0, height, 0, width)
    y0, y1 = max(0, int(rows[0]) - margin), min(height, int(rows[-1]) + 1 + margin)
    x0, x1 = max(0, int(columns[0]) - margin), min(width, int(columns[-1]) + 1 + margin)
    return Box(y0, y1, x0, x1)


def view_loss(features: Tensor, alpha: Tensor, target: Tensor, background: Tensor, weights: LossWeights, box: Box) -> Tensor:
    """Loss of one rendered view, a scalar.

    Args:
        features: [3, H, W] composited colour over black, or [5, H, W] with sum(w z) and sum(w z^2) in mm behind it
            (z relative to any plane), which ``weights.depth_std`` > 0 needs.
        alpha: [H, W] composited alpha.
        target: [4, H, W] uint8, the photo with straight alpha.
        background: [3] colour that both are composited over.
        weights: see :class:`LossWeights`.
        box: where SSIM is evaluated; the rest of the image counts as SSIM = 1.
    """
    if weights.depth_std > 0 and features.shape[0] != 5:
        raise ValueError(f"the depth penalty needs features [5, H, W], found {tuple(features.shape)}")
    if features.device.type == "cpu" and features.dtype == torch.float32:
        from splathead.fitting.loss_kernels import fused_view_loss

        return fused_view_loss(features, alpha, target, background, weights, box)
    return torch_view_loss(features, alpha, target, background, weights, box)


def torch_view_loss(
    features: Tensor, alpha: Tensor, target: Tensor, background: Tensor, weights: LossWeights, box: Box
) -> Tensor:
    """:func:`view_loss` in plain torch: the definition, any device and precision."""
    photo = target.to(features.dtype) / 255.0
    backdrop = background.to(features)[:, None, None]
    expected = photo[:3] * photo[3:] + (1 - photo[3:]) * backdrop
    rendered = features[:3] + (1 - alpha) * backdrop
    loss = (1 - weights.ssim) * (rendered - expected).abs().mean()
    if weights.ssim > 0:
        y0, y1, x0, x1 = box
        loss = loss + weights.ssim * dissimilarity(rendered[:, y0:y1, x0:x1], expected[:, y0:y1, x0:x1]) / alpha.numel()
    if weights.depth_std > 0:
        loss = loss + weights.depth_std * mean_depth_std(features[3], features[4], alpha)
    return loss


def dissimilarity(image: Tensor, reference: Tensor) -> Tensor:
    """Sum over the windows inside two images [3, H, W] of 1 - SSIM (mean over channels).

    SSIM as Wang et al. 2004: 11x11 Gaussian window with sigma 1.5, C1 = 0.01^2, C2 = 0.03^2.
    """
    taps = torch.tensor(gaussian_window(), dtype=image.dtype, device=image.device)
    # on x, y, x^2 + y^2 and x y: SSIM needs no more moments
    stack = torch.cat([image, reference, image * image + reference * reference, image * reference])[:, None]
    stack = torch.nn.functional.conv2d(stack, taps.view(1, 1, 1, -1))
    mean_x, mean_y, squares, product = torch.nn.functional.conv2d(stack, taps.view(1, 1, -1, 1))[:, 0].chunk(4)
    mean_product, mean_squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    numerator = (2 * mean_product + SSIM_C1) * (2 * (product - mean_product) + SSIM_C2)
    denominator = (mean_squares + SSIM_C1) * (squares - mean_squares + SSIM_C2)
    return (1 - numerator / denominator).sum() / image.shape[0]


def mean_depth_std(sum_z: Tensor, sum_z_squared: Tensor, alpha: Tensor) -> Tensor:
    """Mean over rays that meet the surface (alpha > 0.5) of the standard deviation of z along the ray, mm.

    ``sum_z`` = sum(w z), ``sum_z_squared`` = sum(w z^2), ``alpha`` = sum(w), each [H, W].
    """
    surface = alpha.detach() > ALPHA_SURFACE
    weight = torch.where(surface, alpha, 1.0)
    mean = sum_z / weight
    variance = sum_z_squared / weight - mean * mean
    std = variance.clamp(MIN_DEPTH_VARIANCE_MM2, MAX_DEPTH_STD_MM**2).sqrt()
    return torch.where(surface, std, 0.0).sum() / surface.sum().clamp_min(1)
