"""EDSR-light, the published study's first baseline (1,515,265 parameters).

EDSR (Lim et al., CVPRW 2017) without batch normalisation: 16 residual blocks of 64 channels, residual scaling 0.1, two
sub-pixel stages; depth in and out. As published the result is ``clamp(bicubic + 0.5 * output)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from splathead.models.residual_sr import CHANNELS, ResidualSR, ResidualSRArchitecture, TrunkParts

RESIDUAL_SCALE = 0.1


@dataclass(frozen=True)
class EDSRArchitecture(ResidualSRArchitecture):
    """EDSR's; see the base class."""


class EDSR(ResidualSR):
    """Depth super-resolution EDSR; ``architecture`` says which."""

    def __init__(self, architecture: EDSRArchitecture) -> None:
        head, tail = nn.Conv2d(1, CHANNELS, 3, padding=1), nn.Conv2d(CHANNELS, 1, 3, padding=1)
        body_end = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        super().__init__(architecture, TrunkParts(head, _branch, body_end, tail, RESIDUAL_SCALE))


def _branch() -> nn.Sequential:
    convolutions = [nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1) for _ in range(2)]
    return nn.Sequential(convolutions[0], nn.ReLU(inplace=True), convolutions[1])


def create(architecture: EDSRArchitecture) -> EDSR:
    """A new network, its weights in the memory format that it computes in."""
    return EDSR(architecture).to(memory_format=torch.channels_last)
