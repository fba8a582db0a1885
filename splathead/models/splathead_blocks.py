"""What :mod:`splathead.models.splathead` is made of: residual blocks without normalisation, and guides behind a gate."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splathead.models.pixel_shuffle import pixelwise, pixelwise_added


class ResidualBlock(nn.Module):
    """The two 3x3 convolutions of a residual block, the second zero at the start; :class:`ResidualBlocks` runs them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)


class ResidualBlocks(nn.Sequential):
    """Two residual blocks: x + two convolutions, twice. As functions: a GPU waits for the many calls of modules otherwise."""

    def __init__(self, channels: int) -> None:
        super().__init__(ResidualBlock(channels), ResidualBlock(channels))

    def forward(self, x: Tensor) -> Tensor:
        for block in self:
            first, second = block.first, block.second
            inner = F.conv2d(F.silu(x), first.weight, first.bias, padding=first.padding)
            x = x + F.conv2d(F.silu(inner), second.weight, second.bias, padding=second.padding)
        return x


class GatedGuides(nn.Module):
    """Features of guides, zero where they are; ``confidence`` in 0..1, to multiply them with, sees them and the depth's."""

    def __init__(self, guides: int, inner: int, features: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(guides, inner, 3, padding=1, bias=False)
        self.widen = nn.Conv2d(inner, inner, 3, padding=1, bias=False)
        self.confidence_of_guides = nn.Conv2d(inner, inner, 1)
        self.confidence_of_depth = nn.Conv2d(features, inner, 1, bias=False)

    def forward(self, guides: Tensor) -> Tensor:
        return self.widen(F.silu(self.embed(guides)))

    def confidence(self, found: Tensor, features: Tensor) -> Tensor:
        of_guides = pixelwise(self.confidence_of_guides, found)
        return torch.sigmoid(pixelwise_added(self.confidence_of_depth, features, of_guides))
