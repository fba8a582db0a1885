"""Training losses on depth normalised to near..far of the low-resolution code."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

CODE_STEPS = 254.0
"""Steps of the 8-bit code: ``loss_scale: lsb`` states the loss in these, also for 16-bit input, so that losses compare"""
LOSS_SCALES = {"range": 1.0, "lsb": CODE_STEPS}


def masked_l1(
    error: Tensor,  # [B, 1, H, W]
    mask: Tensor,  # [B, 1, H, W] weights, 0 or 1
) -> Tensor:
    """Mean absolute error over the mask; 0 for an empty mask."""
    return (error.abs() * mask).sum() / mask.sum().clamp_min(1.0)


def masked_gradient_l1(
    error: Tensor,  # [B, 1, H, W]
    mask: Tensor,  # [B, 1, H, W] weights, 0 or 1
    stride: int = 1,
) -> Tensor:
    """Mean absolute difference of the error over ``stride`` pixels, horizontal plus vertical, where both are in the mask."""
    total = error.new_zeros(())
    for axis in (-1, -2):
        size = error.shape[axis] - stride
        low, high = error.narrow(axis, 0, size), error.narrow(axis, stride, size)
        both = mask.narrow(axis, 0, size) * mask.narrow(axis, stride, size)
        total = total + masked_l1(high - low, both)
    return total


def normal_loss(
    normals: Tensor,  # [B, 3, H, W] float32 unit
    target: Tensor,  # [B, 3, H, W] float32, unit or 0 = unknown
    mask: Tensor,  # [B, 1, H, W] float32, 0 or 1
) -> Tensor:
    """Mean of 1 - cosine over the mask where the target is known."""
    known = mask * (target.square().sum(1, keepdim=True) > 0.25)
    cosine = (normals * F.normalize(target, dim=1)).sum(1, keepdim=True)
    return ((1.0 - cosine) * known).sum() / known.sum().clamp_min(1.0)


def depth_loss(
    prediction: Tensor,  # [B, 1, H, W] float32
    target: Tensor,  # [B, 1, H, W] float32; may leave [0, 1]: the true surface lies in front of splat depth
    mask: Tensor,  # [B, 1, H, W] float32, 0 or 1
    *,
    gradient_weight: float = 0.5,
    gradient_strides: Sequence[int] = (1,),
    scale: str = "range",
) -> Tensor:
    """Masked L1 + ``gradient_weight`` x masked gradient L1, summed over strides (the study's loss at weight 0.5, stride 1).

    ``scale``: unit of the loss, ``range`` (near..far, published) or ``lsb`` (8-bit code steps).
    """
    if scale not in LOSS_SCALES:
        raise ValueError(f"loss scale {scale!r}, expected one of {', '.join(LOSS_SCALES)}")
    error = (prediction.float() - target) * LOSS_SCALES[scale]
    gradients = sum(masked_gradient_l1(error, mask, stride) for stride in gradient_strides)
    return masked_l1(error, mask) + gradient_weight * gradients


def laplace_loss(
    error: Tensor,  # [B, 1, H, W] float32
    log_scale: Tensor,  # [B, 1, H, W] float32, logarithm of the error's predicted scale, in 8-bit code steps
    mask: Tensor,  # [B, 1, H, W] weights, 0 or 1
) -> Tensor:
    """Negative log likelihood of the error under a Laplace distribution, up to a constant. The error itself gets no gradient:
    the depth must not become worse where errors are expected."""
    steps = error.detach().abs() * CODE_STEPS
    return ((steps * torch.exp(-log_scale) + log_scale) * mask).sum() / mask.sum().clamp_min(1.0)
