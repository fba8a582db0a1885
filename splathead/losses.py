"""Training losses on depth normalised to near..far of the low-resolution code."""

from __future__ import annotations

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
) -> Tensor:
    """Mean absolute forward difference of the error, horizontal plus vertical, where both pixels are in the mask."""
    total = error.new_zeros(())
    for axis in (-1, -2):
        size = error.shape[axis]
        low, high = error.narrow(axis, 0, size - 1), error.narrow(axis, 1, size - 1)
        both = mask.narrow(axis, 0, size - 1) * mask.narrow(axis, 1, size - 1)
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
    scale: str = "range",
) -> Tensor:
    """Masked L1 + ``gradient_weight`` x masked gradient L1 (the study's loss at weight 0.5).

    ``scale``: unit of the loss, ``range`` (near..far, published) or ``lsb`` (8-bit code steps).
    """
    if scale not in LOSS_SCALES:
        raise ValueError(f"loss scale {scale!r}, expected one of {', '.join(LOSS_SCALES)}")
    error = (prediction.float() - target) * LOSS_SCALES[scale]
    return masked_l1(error, mask) + gradient_weight * masked_gradient_l1(error, mask)
