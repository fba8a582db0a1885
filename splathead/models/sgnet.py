"""SGNet: colour-guided depth super-resolution through gradients and frequencies.

Wang et al., "SGNet: Structure Guided Network via Gradient-Frequency Awareness for Depth Map Super-Resolution", AAAI 2024.
Colour's gradients help to predict those of depth (gradient branch); three fusions at full resolution then add colour to depth
features in space and frequency (:mod:`splathead.models.sgnet_fusion`); back at full resolution, three residual groups predict
what is added to bicubically upsampled depth.

Published size for real depth: 24 features, 9,215,821 parameters at scale 4. That count includes 145,969 weights (1.6 %) of
layers that the published forward pass never uses; they are declared here too (``unused``), so that counts compare. They get no
gradient and no weight decay.

Beyond the published form: the output is clamped to [-margin, 1 + margin] of near..far as that of every network here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from splathead.guides import guide_channels
from splathead.models.interpolation import upsample
from splathead.models.pixel_shuffle import exact_convolution
from splathead.models.sgnet_blocks import (
    LEAKY_SLOPE,
    PROJECTIONS,
    ChannelAttention,
    Projection,
    ResidualGroup,
    check_guides,
    conv3x3,
)
from splathead.models.sgnet_fusion import Fusion

REDUCTION = 16
"""Channels over inner channels of the channel attention, in the depth branch"""
GRADIENT_REDUCTION = 8
GRADIENT_OFFSET = 1e-6
"""Under the root of the gradient's magnitude, as published"""


@dataclass(frozen=True)
class SGNetArchitecture:
    """Everything that determines the network's function, apart from its weights."""

    scale: int = 4
    """super-resolution factor: 2, 4, 8 or 16"""
    num_feats: int = 24
    """channels of the narrowest features; the published sizes are 24 (real depth), 40 and 48"""
    guides: tuple[str, ...] = ("rgb",)
    output_margin: float = 0.0
    """output is clamped to [-margin, 1 + margin] of near..far, see the UNet's"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "guides", tuple(self.guides))
        if self.scale not in PROJECTIONS or self.num_feats < REDUCTION or not self.guides or self.output_margin < 0:
            raise ValueError(
                f"SGNet with scale {self.scale}, num_feats {self.num_feats}, guides {self.guides}, output_margin "
                f"{self.output_margin}, expected a scale of {', '.join(map(str, PROJECTIONS))}, at least {REDUCTION} features, "
                "at least one guide and a margin of at least 0"
            )


class SGNet(nn.Module):
    """Colour-guided depth super-resolution; ``architecture`` says which."""

    def __init__(self, architecture: SGNetArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        n, scale = architecture.num_feats, architecture.scale
        self.guide_channels = guide_channels(architecture.guides)
        self.gradients = _GradientBranch(n, self.guide_channels, scale)
        self.colour_in = conv3x3(self.guide_channels, n)
        self.colour_blocks = nn.ModuleList(_ResidualBlock(n) for _ in range(3))
        self.depth_in = conv3x3(1, n)
        self.depth_widen = conv3x3(n, 2 * n)
        widths = (n, 2 * n, 3 * n)
        self.groups = nn.ModuleList(ResidualGroup(width, REDUCTION, 6) for width in (n, 2 * n, 2 * n, 3 * n))
        self.with_gradients = nn.ModuleList(nn.Conv2d(i, o, 1) for i, o in zip((2 * n, 3 * n, 3 * n), widths))
        self.fusions = nn.ModuleList(Fusion(width, n, scale) for width in widths)
        self.narrow = nn.Conv2d(4 * n, 2 * n, 1)
        self.merge = nn.Conv2d(8 * n, 3 * n, 1)
        self.up = Projection(3 * n, scale, up=True)
        self.tail = nn.Sequential(*(ResidualGroup(3 * n, REDUCTION, 8) for _ in range(3)), conv3x3(3 * n, n))
        self.output = conv3x3(n, 1)
        self.unused = _unused_layers(n)
        # DistributedDataParallel waits for every parameter's gradient unless it is named here
        self._ddp_params_and_buffers_to_ignore = [f"unused.{name}" for name, _ in self.unused.named_parameters()]

    def forward(
        self,
        lr_depth01: Tensor,  # [B, 1, h, w] float32, extended beyond its mask; 0 = near, 1 = far
        guides: Tensor | None = None,  # [B, C, h * scale, w * scale] float32, see splathead.guides
    ) -> Tensor:  # [B, 1, h * scale, w * scale] float32 in the same normalisation
        """Super-resolved depth; a ValueError for guides that are missing or of another size."""
        return self.depth_and_gradient(lr_depth01, guides)[0]

    def depth_and_gradient(self, lr_depth01: Tensor, guides: Tensor | None) -> tuple[Tensor, Tensor]:
        """:meth:`forward`'s depth and the depth gradient's magnitude as the gradient branch predicts it, [B, 1, H, W].

        Published training adds 0.001 times the L1 error of that magnitude, and 0.002 times the mean L1 error of amplitude and
        phase of the depth's spectrum, to the depth's L1 error.
        """
        check_guides("SGNet", lr_depth01, guides, self.architecture.scale, self.guide_channels)
        features, gradient = self.trunk(lr_depth01, guides)
        # base and output stay in full precision whatever autocast is active around the call, see the UNet
        with torch.autocast(lr_depth01.device.type, enabled=False):
            base = upsample(lr_depth01.float(), self.architecture.scale, "bicubic")
            margin = self.architecture.output_margin
            depth = (base + exact_convolution(self.output, features)).clamp(-margin, 1.0 + margin)
            return depth, gradient.float()

    def trunk(
        self,
        depth: Tensor,  # [B, 1, h, w]
        guides: Tensor,  # [B, C, H, W]
    ) -> tuple[Tensor, Tensor]:  # [B, num_feats, H, W] and [B, 1, H, W]
        """Features before the output layer, and the predicted gradient; the part that may run in half precision."""
        gradient, hints = _recomputed(self.gradients, depth, guides)
        start = _leaky(self.depth_in(depth))
        colour = _leaky(self.colour_in(guides))

        depth1 = self.groups[0](start)
        fused, colour = self._fuse(0, depth1, hints, colour)
        depth2 = self.groups[1](torch.cat([depth1, fused + start], 1))
        fused, colour = self._fuse(1, depth2, hints, colour)
        depth3 = self.groups[2](self.narrow(torch.cat([depth2, fused + self.depth_widen(start)], 1)))
        fused, _ = self._fuse(2, depth3, hints, colour)
        depth4 = self.groups[3](self.merge(torch.cat([depth1, depth2, depth3, fused], 1)))
        x = self.up(depth4)
        for layer in self.tail:
            x = _recomputed(layer, x)
        return _leaky(x), gradient

    def _fuse(self, index: int, depth: Tensor, hints: Tensor, colour: Tensor) -> tuple[Tensor, Tensor]:
        depth = self.with_gradients[index](torch.cat([depth, hints], 1))
        return _recomputed(self.fusions[index], depth, self.colour_blocks[index](colour))


class _GradientBranch(nn.Module):
    """Predicts the magnitude of the depth's gradient at full resolution, and features of it at low resolution."""

    def __init__(self, n: int, channels: int, scale: int) -> None:
        super().__init__()
        self.up = Projection(1, scale, up=True)
        self.down = Projection(n, scale, up=False)
        self.colour = nn.Sequential(conv3x3(channels, n), _ResidualBlock(n))
        self.depth_in = conv3x3(1, n)
        self.depth = ResidualGroup(n, REDUCTION, 4)
        self.join = nn.Sequential(nn.Conv2d(2 * n, n, 1), *(ResidualGroup(n, GRADIENT_REDUCTION, 4) for _ in range(2)))
        self.attention = ChannelAttention(n, 4)
        self.refine = conv3x3(n)
        self.gradient = conv3x3(n, 1)
        self.content = nn.Sequential(conv3x3(1, n), ResidualGroup(n, GRADIENT_REDUCTION, 8))
        self.gradient_in = nn.Sequential(conv3x3(1, n), nn.LeakyReLU(LEAKY_SLOPE), conv3x3(n))
        self.output = nn.Sequential(*(ResidualGroup(n, GRADIENT_REDUCTION, 4) for _ in range(2)))

    def forward(self, depth: Tensor, guides: Tensor) -> tuple[Tensor, Tensor]:
        depth = self.up(depth)
        own = self.depth_in(gradient_magnitude(depth))
        joined = self.join(torch.cat([self.colour(gradient_magnitude(guides)), self.depth(own)], 1))
        gradient = self.gradient(self.refine(own + self.attention(joined)))
        return gradient, self.down(self.output(self.gradient_in(gradient) + self.content(depth)))


def gradient_magnitude(
    x: Tensor,  # [B, C, H, W]
) -> Tensor:  # [B, C, H, W] float32
    """Magnitude of each channel's central differences x[i + 1] - x[i - 1], with 0 beyond the frame."""
    with torch.autocast(x.device.type, enabled=False):  # the offset under the root is below half precision
        padded = F.pad(x.float(), (1, 1, 1, 1))
        vertical = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
        horizontal = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
        return (vertical.square() + horizontal.square() + GRADIENT_OFFSET).sqrt()


class _ResidualBlock(nn.Module):
    """Two 3x3 convolutions, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv3x3(channels), nn.LeakyReLU(LEAKY_SLOPE, inplace=True), conv3x3(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def _recomputed(module: nn.Module, *inputs: Tensor) -> Tensor | tuple[Tensor, Tensor]:
    """``module(*inputs)``; in training its inner activations are computed again for the gradients instead of being kept.

    Kept, those of a single crop of 512x512 pixels take 10 GB in half precision.
    """
    if module.training and torch.is_grad_enabled():
        return checkpoint(module, *inputs, use_reentrant=False, preserve_rng_state=False)
    return module(*inputs)


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, LEAKY_SLOPE)


def _unused_layers(n: int) -> nn.ModuleList:
    """What the published network declares without using it: a spatial attention and a convolution of each fusion, and two
    layers of the gradient branch."""
    layers: list[nn.Module] = [conv3x3(n, 1), conv3x3(1, n)]
    for width in (n, 2 * n, 3 * n):
        layers += [conv3x3(width, width // 2), conv3x3(width // 2, width), conv3x3(width)]
    return nn.ModuleList(layers)


def create(architecture: SGNetArchitecture) -> SGNet:
    """A new SGNet."""
    return SGNet(architecture)
