"""What EDSR and SRResNet share: a residual trunk at low resolution, sub-pixel upsampling, an interpolated base."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from splathead.models.pixel_shuffle import (
    RESIDUAL_WEIGHT,
    check_base,
    exact_convolution,
    interpolated_base,
    subpixel_upsampler,
)

BLOCKS = 16
CHANNELS = 64


@dataclass(frozen=True)
class ResidualSRArchitecture:
    """Everything that determines the network's function, apart from its weights."""

    scale: int = 4
    """super-resolution factor: a power of two, or 3"""
    base: str = "bicubic"
    """interpolation that the residual is added to: bicubic or bilinear"""
    icnr: bool = False
    """ICNR initialisation of the sub-pixel convolutions"""
    output_margin: float = 0.0
    """output is clamped to [-margin, 1 + margin] of near..far, see UNetArchitecture"""

    def __post_init__(self) -> None:
        check_base(self.base, self.scale, self.output_margin)


@dataclass(frozen=True)
class TrunkParts:
    """What the two networks differ in."""

    head: nn.Module
    branch: Callable[[], nn.Module]
    """a new residual branch"""
    body_end: nn.Module
    tail: nn.Conv2d
    residual_scale: float = 1.0
    """weight of each branch"""
    activation: Callable[[], nn.Module] | None = None
    """after each pixel shuffle"""


class ResidualSR(nn.Module):
    """``clamp(base + 0.5 * output)``, as published for both networks."""

    def __init__(self, architecture: ResidualSRArchitecture, parts: TrunkParts) -> None:
        super().__init__()
        self.architecture, self.residual_scale = architecture, parts.residual_scale
        self.head = parts.head
        self.body = nn.ModuleList(parts.branch() for _ in range(BLOCKS))
        self.body_end = parts.body_end
        self.upsampler = subpixel_upsampler(CHANNELS, architecture.scale, icnr=architecture.icnr, activation=parts.activation)
        self.tail = parts.tail

    def forward(
        self,
        lr_depth01: Tensor,  # [B, 1, h, w] float32, extended beyond its mask; 0 = near, 1 = far
    ) -> Tensor:  # [B, 1, h * scale, w * scale] float32 in the same normalisation
        """Super-resolved depth. Base and tail run in float32 whatever autocast is active around the call."""
        base = interpolated_base(lr_depth01, self.architecture.scale, self.architecture.base)
        first = self.head(lr_depth01.contiguous(memory_format=torch.channels_last))
        features = first
        for branch in self.body:
            features = features + self.residual_scale * branch(features)
        features = self.upsampler(self.body_end(features) + first)
        margin = self.architecture.output_margin
        return (base + RESIDUAL_WEIGHT * exact_convolution(self.tail, features)).clamp(-margin, 1.0 + margin)
