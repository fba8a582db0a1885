"""SRResNet, the published study's second baseline (1,528,724 parameters).

The generator of SRGAN (Ledig et al., CVPR 2017): 9x9 head and tail, 16 residual blocks with batch normalisation and PReLU,
two sub-pixel stages; depth in and out. As published the result is ``clamp(bicubic + 0.5 * output)``.
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
OUTER_KERNEL = 9


@dataclass(frozen=True)
class SRResNetArchitecture:
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


class SRResNet(nn.Module):
    """Depth super-resolution SRResNet; ``architecture`` says which."""

    def __init__(self, architecture: SRResNetArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.head = nn.Sequential(nn.Conv2d(1, CHANNELS, OUTER_KERNEL, padding=OUTER_KERNEL // 2), nn.PReLU())
        self.body = nn.ModuleList(_residual_branch() for _ in range(BLOCKS))
        self.body_end = nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS))
        self.upsampler = subpixel_upsampler(CHANNELS, architecture.scale, icnr=architecture.icnr, activation=nn.PReLU)
        self.tail = nn.Conv2d(CHANNELS, 1, OUTER_KERNEL, padding=OUTER_KERNEL // 2)

    def forward(
        self,
        lr_depth01: Tensor,  # [B, 1, h, w] float32, extended beyond its mask; 0 = near, 1 = far
    ) -> Tensor:  # [B, 1, h * scale, w * scale] float32 in the same normalisation
        """Super-resolved depth. Base and tail run in float32 whatever autocast is active around the call."""
        base = interpolated_base(lr_depth01, self.architecture.scale, self.architecture.base)
        first = self.head(lr_depth01.contiguous(memory_format=torch.channels_last))
        features = first
        for branch in self.body:
            features = features + branch(features)
        features = self.upsampler(self.body_end(features) + first)
        margin = self.architecture.output_margin
        return (base + RESIDUAL_WEIGHT * exact_convolution(self.tail, features)).clamp(-margin, 1.0 + margin)


def _residual_branch() -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS), nn.PReLU()]
    return nn.Sequential(*layers, nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS))


def create(architecture: SRResNetArchitecture) -> SRResNet:
    """A new network, its weights in the memory format that it computes in."""
    return SRResNet(architecture).to(memory_format=torch.channels_last)
