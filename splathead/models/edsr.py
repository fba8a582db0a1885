"""EDSR-light, the published study's first baseline (1,515,265 parameters).

EDSR (Lim et al., CVPRW 2017) without batch normalisation: 16 residual blocks of 64 channels, residual scaling 0.1, two
sub-pixel stages; depth in and out. As published the result is ``clamp(bicubic + 0.5 * output)``.
"""

from __future__ import annotations

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
RESIDUAL_SCALE = 0.1


@dataclass(frozen=True)
class EDSRArchitecture:
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


class EDSR(nn.Module):
    """Depth super-resolution EDSR; ``architecture`` says which."""

    def __init__(self, architecture: EDSRArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.head = nn.Conv2d(1, CHANNELS, 3, padding=1)
        self.body = nn.ModuleList(_residual_branch() for _ in range(BLOCKS))
        self.body_end = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.upsampler = subpixel_upsampler(CHANNELS, architecture.scale, icnr=architecture.icnr, activation=None)
        self.tail = nn.Conv2d(CHANNELS, 1, 3, padding=1)

    def forward(
        self,
        lr_depth01: Tensor,  # [B, 1, h, w] float32, extended beyond its mask; 0 = near, 1 = far
    ) -> Tensor:  # [B, 1, h * scale, w * scale] float32 in the same normalisation
        """Super-resolved depth. Base and tail run in float32 whatever autocast is active around the call."""
        base = interpolated_base(lr_depth01, self.architecture.scale, self.architecture.base)
        first = self.head(lr_depth01.contiguous(memory_format=torch.channels_last))
        features = first
        for branch in self.body:
            features = features + RESIDUAL_SCALE * branch(features)
        features = self.upsampler(self.body_end(features) + first)
        margin = self.architecture.output_margin
        return (base + RESIDUAL_WEIGHT * exact_convolution(self.tail, features)).clamp(-margin, 1.0 + margin)


def _residual_branch() -> nn.Sequential:
    convolutions = [nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1) for _ in range(2)]
    return nn.Sequential(convolutions[0], nn.ReLU(inplace=True), convolutions[1])


def create(architecture: EDSRArchitecture) -> EDSR:
    """A new network, its weights in the memory format that it computes in."""
    return EDSR(architecture).to(memory_format=torch.channels_last)
