"""The depth super-resolution UNet of the study we rebuild, with a full-precision tail.

Published form (base 32: 7,765,409 parameters): the low-resolution depth, normalised to [0, 1] over its
near..far, is upsampled bicubically, clamped and given to a UNet (Ronneberger et al. 2015) with levels of
32/64/128/256 channels and a bottleneck of 512, two times 3x3 convolution - BN - ReLU each, 2x2 transposed
convolutions, skip connections and a 1x1 output r; the result is ``clamp(base + 0.5 tanh(r))``.

Options beyond the published form: a bilinear base, a zero-initialised output layer (training starts at the
base), any scale factor, and ``output_margin`` (see :class:`UNetArchitecture`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splathead.guides import guide_channels
from splathead.models.pixel_shuffle import interpolated_base
from splathead.models.sgnet_blocks import check_guides

LEVELS = 4
"""Poolings by 2: frame sides are padded to multiples of 2^LEVELS."""
RESIDUAL_LIMIT = 0.5
"""Largest residual, as a fraction of near..far."""


@dataclass(frozen=True)
class UNetArchitecture:
    """Everything that determines the network's function, apart from its weights."""

    scale: int = 4
    """super-resolution factor"""
    base_ch: int = 32
    """channels of the first level"""
    base: str = "bicubic"
    """interpolation that the residual is added to: bicubic or bilinear"""
    zero_init: bool = False
    """zero-initialised output layer"""
    output_margin: float = 0.0
    """output is clamped to [-margin, 1 + margin] of near..far. 0 is the published clamp. The true surface leaves
    [0, 1]: it lies 1-2 mm in front of splat depth, and falls off behind the input's last pixel at silhouettes"""
    normal_head: bool = False
    """also predict normals, 3x3 convolution - BN - ReLU - 1x1 convolution (7,774,820 parameters with base 32)"""
    guides: tuple[str, ...] = ()
    """maps of the view that it sees beside depth, as further input channels; see :mod:`splathead.guides`"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "guides", tuple(self.guides))
        guide_channels(self.guides)
        if self.base not in ("bicubic", "bilinear"):
            raise ValueError(f"UNet base {self.base!r}, expected bicubic or bilinear")
        if self.scale < 1 or self.base_ch < 1 or self.output_margin < 0:
            raise ValueError(
                f"UNet with scale {self.scale}, base_ch {self.base_ch}, output_margin {self.output_margin}, "
                "expected scale and base_ch of at least 1 and a margin of at least 0"
            )


class UNet(nn.Module):
    """Depth super-resolution UNet; ``architecture`` says which."""

    def __init__(self, architecture: UNetArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.memory_format = torch.channels_last  # faster than NCHW on CPU and GPU
        widths = [architecture.base_ch * 2**level for level in range(LEVELS + 1)]
        self.guide_channels = guide_channels(architecture.guides)
        self.encoder = nn.ModuleList(_conv_block(i, o) for i, o in zip([1 + self.guide_channels, *widths], widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * width, width, 2, stride=2) for width in widths[:-1])
        self.decoder = nn.ModuleList(_conv_block(2 * width, width) for width in widths[:-1])
        self.output = nn.Conv2d(widths[0], 1, 1)
        if architecture.normal_head:
            block = [nn.Conv2d(widths[0], widths[0], 3, padding=1), nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)]
            self.normals = nn.Sequential(*block, nn.Conv2d(widths[0], 3, 1))
        if architecture.zero_init:
            nn.init.zeros_(self.output.weight)
            nn.init.zeros_(self.output.bias)

    def forward(
        self,
        lr_depth01: Tensor,  # [B, 1, h, w] float32, extended beyond its mask; 0 = near, 1 = far
        guides: Tensor | None = None,  # [B, C, h * scale, w * scale] float32, where the architecture names any
        *,
        with_normals: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:  # [B, 1, h * scale, w * scale] float32 in the same normalisation
        """Super-resolved depth. Base and tail run in float32 whatever autocast is active around the call.

        ``with_normals``: also unit normals [B, 3, H, W] float32 of the normal head, in camera axes.
        """
        base = interpolated_base(lr_depth01, self.architecture.scale, self.architecture.base)
        inputs = base
        if self.guide_channels:
            check_guides("UNet", lr_depth01, guides, self.architecture.scale, self.guide_channels)
            inputs = torch.cat([base, guides], dim=1)
        features = self.trunk(inputs)
        # the residual is a small fraction of one 8-bit code step: half precision would round it away
        with torch.autocast(lr_depth01.device.type, enabled=False):
            # a sum of products instead of a convolution: cuDNN's convolutions may round their inputs to TF32
            weight = self.output.weight.view(1, -1, 1, 1)
            residual = (features.float() * weight).sum(dim=1, keepdim=True) + self.output.bias
            margin = self.architecture.output_margin
            depth = (base + RESIDUAL_LIMIT * torch.tanh(residual)).clamp(-margin, 1.0 + margin)
        return (depth, F.normalize(self.normals(features).float(), dim=1)) if with_normals else depth

    def trunk(
        self,
        inputs: Tensor,  # [B, 1 + C, H, W]
    ) -> Tensor:  # [B, base_ch, H, W]
        """Features before the output layer; the part that may run in half precision."""
        height, width = inputs.shape[-2:]
        step = 2**LEVELS
        padded = F.pad(inputs, (0, -width % step, 0, -height % step), mode="replicate")
        x = padded.contiguous(memory_format=self.memory_format)
        skips = []
        for block in self.encoder[:-1]:
            skips.append(block(x))
            x = F.max_pool2d(skips[-1], 2)
        x = self.encoder[-1](x)
        for up, block, skip in zip(reversed(self.up), reversed(self.decoder), reversed(skips)):
            x = block(torch.cat([up(x), skip], dim=1))
        return x[..., :height, :width]


def _conv_block(channels_in: int, channels_out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for source in (channels_in, channels_out):
        layers += [nn.Conv2d(source, channels_out, 3, padding=1), nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def create(architecture: UNetArchitecture) -> UNet:
    """A new UNet, its weights in the memory format that it computes in."""
    network = UNet(architecture)
    return network.to(memory_format=network.memory_format)
