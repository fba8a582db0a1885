"""SRResNet, the published study's second baseline (1,528,724 parameters).

The generator of SRGAN (Ledig et al., CVPR 2017): 9x9 head and tail, 16 residual blocks with batch normalisation and PReLU,
two sub-pixel stages; depth in and out. As published the result is ``clamp(bicubic + 0.5 * output)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from splathead.models.residual_sr import CHANNELS, ResidualSR, ResidualSRArchitecture, TrunkParts

OUTER_KERNEL = 9


@dataclass(frozen=True)
class SRResNetArchitecture(ResidualSRArchitecture):
    """SRResNet's; see the base class."""


class SRResNet(ResidualSR):
    """Depth super-resolution SRResNet; ``architecture`` says which."""

    def __init__(self, architecture: SRResNetArchitecture) -> None:
        head = nn.Sequential(nn.Conv2d(1, CHANNELS, OUTER_KERNEL, padding=OUTER_KERNEL // 2), nn.PReLU())
        tail = nn.Conv2d(CHANNELS, 1, OUTER_KERNEL, padding=OUTER_KERNEL // 2)
        super().__init__(architecture, TrunkParts(head, _branch, nn.Sequential(*_normalised()), tail, activation=nn.PReLU))


def _normalised() -> list[nn.Module]:
    return [nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS)]


def _branch() -> nn.Sequential:
    return nn.Sequential(*_normalised(), nn.PReLU(), *_normalised())


def create(architecture: SRResNetArchitecture) -> SRResNet:
    """A new network, its weights in the memory format that it computes in."""
    return SRResNet(architecture).to(memory_format=torch.channels_last)
