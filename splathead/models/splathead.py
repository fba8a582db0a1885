"""SplatHead's network: two steps at their own resolutions, and guides that may be missing.

    d     = enlarged(lr + r_low) + r_high

A U-shaped trunk at the *input's* resolution removes the code's steps and the splats' bias (r_low): that is where the
information is, and a sixteenth of the work. Its result is enlarged smoothly, so that nothing depends on a pixel's phase,
and a few convolutions at full resolution add what the guides know beyond it (r_high). Both residuals are computed in float32
and start at zero; weights do not depend on the scale factor.

Guides (:mod:`splathead.guides`) enter twice, averaged over the input's cells and at full resolution, each time through
convolutions without bias and a gate in 0..1 that sees depth and guides: where guides are zero, i.e. missing, their features are
zero, and one set of weights serves both input tracks. In training they are left out at random. The important ones are the
spread of depth along the ray, which says how far behind the skin the splats' depth lies, and the slopes of their normals.

No normalisation layers: batch statistics of crops are not those of frames. Blocks instead start as identities (Zhang et al.,
"Fixup initialization", ICLR 2019).

The network also predicts the scale b of its own error (Laplace distribution), see :meth:`SplatHead.depth_and_scale`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splathead.guides import GUIDE_CHANNELS, OF_INPUT, guide_channels
from splathead.models.interpolation import upsample, upsample_spline
from splathead.models.pixel_shuffle import exact_convolution, exact_pixelwise, pixelwise
from splathead.models.sgnet_blocks import check_guides
from splathead.models.splathead_blocks import GatedGuides, ResidualBlocks
from splathead.training.losses import CODE_STEPS

BASES = ("bicubic", "spline", "limited")
MAX_SMOOTHING = 0.25
"""Base ``limited``: code steps by which bicubic enlargement may be moved towards the spline's. Bicubic interpolation shows the
last hundredths of a step of every input pixel as a lattice on smooth skin; at jumps the spline is millimetres off."""
REACHES = (1, 3, 9)
"""Pixels on each side over which low-resolution depth is averaged for the input features"""
BAND_WEIGHTS = (CODE_STEPS, CODE_STEPS / 3, CODE_STEPS / 10, CODE_STEPS / 8, CODE_STEPS / 8)
"""Of the differences to these averages and of the slopes along x and y"""
LOW_CHANNELS = 1 + len(BAND_WEIGHTS) + 1
"""Input features made of low-resolution depth and cover, see :meth:`SplatHead.low_features`"""
STEP = 8
"""Low-resolution sides are padded to multiples of this: the trunk halves them three times"""
ALL_DROPPED = 0.25
"""Training: probability that a sample loses all of its guides, as in track A"""
ONE_DROPPED = 0.1
"""Training: probability that a sample loses one of the guides that are left, each on its own"""
SCALE_LIMITS = (-6.0, 6.0)
"""Of the logarithm of the predicted error in code steps"""


@dataclass(frozen=True)
class SplatHeadArchitecture:
    """Everything that determines the network's function, apart from its weights."""

    scale: int = 4
    """super-resolution factor; the weights fit every other one as well"""
    widths: tuple[int, ...] = (48, 96, 128, 152)
    """channels at the input's resolution and after each halving"""
    high_width: int = 16
    """channels at full resolution"""
    base: str = "bicubic"
    """how the trunk's result is enlarged: bicubic, spline (:func:`upsample_spline`) or limited (:data:`MAX_SMOOTHING`)"""
    guides: tuple[str, ...] = ("cover", "slope", "spread", "alpha", "rgb")
    output_margin: float = 0.5
    """output is clamped to [-margin, 1 + margin] of near..far, see the UNet's; above the input's maximum, where that is more"""
    range_mm: float = 0.0
    """near..far of the inputs that it knows (:func:`splathead.training.pairs.over_range`); 0 = the code's own"""
    guides_optional: ClassVar[bool] = True
    any_scale: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "guides", tuple(self.guides))
        object.__setattr__(self, "widths", tuple(self.widths))
        guide_channels(self.guides)
        if self.scale < 1 or len(self.widths) != 4 or min(*self.widths, self.high_width) < 4:
            raise ValueError(
                f"SplatHead with scale {self.scale}, widths {self.widths}, high_width {self.high_width}, expected a scale of "
                "at least 1, 4 widths of at least 4 channels"
            )
        if self.output_margin < 0 or self.range_mm < 0:
            raise ValueError(f"SplatHead with margin {self.output_margin}, range_mm {self.range_mm}, expected both from 0")
        if self.base not in BASES:
            raise ValueError(f"SplatHead base {self.base!r}, expected {' or '.join(BASES)}")
        if self.guides[:1] != OF_INPUT:
            raise ValueError(f"SplatHead with guides {self.guides}, expected cover and any others after it")


class SplatHead(nn.Module):
    """Depth super-resolution and surface recovery; ``architecture`` says which."""

    predicts_scale = True

    def __init__(self, architecture: SplatHeadArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        w, high = architecture.widths, architecture.high_width
        self.guide_channels = guide_channels(architecture.guides)
        others = self.guide_channels - 1
        self.register_buffer("band_weights", torch.tensor(BAND_WEIGHTS)[:, None, None], persistent=False)
        self.stem = nn.Conv2d(LOW_CHANNELS, w[0], 3, padding=1)
        self.low_guides = GatedGuides(others, w[0], w[0]) if others else None
        self.merge = nn.Conv2d(w[0], w[0], 1, bias=False) if others else None
        self.encoder = nn.ModuleList(ResidualBlocks(width) for width in w[:-1])
        self.down = nn.ModuleList(nn.Conv2d(i, o, 2, stride=2) for i, o in pairwise(w))
        self.middle = ResidualBlocks(w[-1])
        self.up = nn.ModuleList(nn.Conv2d(o, i, 1) for i, o in pairwise(w))
        self.decoder = nn.ModuleList(ResidualBlocks(width) for width in w[:-1])
        self.low_output = nn.Conv2d(w[0], 1, 3, padding=1)
        self.to_high = nn.Conv2d(w[0], high, 1)
        self.high_cover = nn.Conv2d(1, high, 3, padding=1, bias=False)
        self.high_guides = GatedGuides(others, high, high) if others else None
        self.high_first = nn.Conv2d(high, high, 3, padding=1)
        self.high_second = nn.Conv2d(high, high, 3, padding=1)
        self.high_output = nn.Conv2d(high, 2, 1)
        for layer in (self.low_output, self.high_output):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        lr_depth01: Tensor,  # [B, 1, h, w] float32, extended beyond its mask; 0 = near, 1 = far
        guides: Tensor,  # [B, C, h * scale, w * scale] float32, see splathead.guides; zero where missing
        *,
        with_scale: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:  # [B, 1, H, W] float32 in the same normalisation
        """Super-resolved depth. Base, residuals and tail run in float32 whatever autocast is active around the call.

        ``with_scale``: also the logarithm of the error's predicted scale in 8-bit code steps, [B, 1, H, W] float32.
        """
        check_guides("SplatHead", lr_depth01, guides, self.architecture.scale, self.guide_channels)
        height, width = lr_depth01.shape[-2:]
        scale, margin = self.architecture.scale, self.architecture.output_margin
        guides = self._dropped(guides)
        low, wide = lr_depth01.float(), guides
        padding = (0, -width % STEP, 0, -height % STEP)
        if any(padding):  # also of nothing it copies
            low, wide = F.pad(low, padding, mode="replicate"), F.pad(wide, [p * scale for p in padding])
        # in this order a GPU that runs eagerly has work at full resolution, the guides' and the last layers', while the many
        # small operations of the trunk and of the base are queued
        found = None if self.high_guides is None else self.high_guides(self._for_layers(wide[:, 1:]))
        features = self.trunk(low, wide)
        detail = self.high_features(features, wide[:, :1], found)
        with torch.autocast(lr_depth01.device.type, enabled=False):
            refined = torch.add(low, exact_convolution(self.low_output, features), alpha=1 / CODE_STEPS)
            base = self.enlarged(refined)
            residual, log_scale = exact_pixelwise(self.high_output, detail.float()).split(1, dim=1)
            highest = low.amax(dim=(1, 2, 3), keepdim=True).clamp_min(1.0) + margin
            depth = torch.minimum(torch.add(base, residual, alpha=1 / CODE_STEPS).clamp_min(-margin), highest)
            depth = depth[..., : height * scale, : width * scale]
            if not with_scale:
                return depth
            return depth, log_scale.clamp(*SCALE_LIMITS)[..., : height * scale, : width * scale]

    def enlarged(self, refined: Tensor) -> Tensor:
        """[B, 1, h * scale, w * scale]: the trunk's depth [B, 1, h, w] float32 enlarged as the architecture says."""
        kind, scale = self.architecture.base, self.architecture.scale
        if kind == "spline":
            return upsample_spline(refined, scale)
        bicubic = upsample(refined, scale, "bicubic")
        if kind == "bicubic":
            return bicubic
        limit = MAX_SMOOTHING / CODE_STEPS
        return bicubic - (bicubic - upsample_spline(refined, scale)).clamp(-limit, limit)

    def low_features(
        self,
        low: Tensor,  # [B, 1, h, w] float32
        cover: Tensor,  # [B, 1, h, w]
    ) -> Tensor:
        """[B, LOW_CHANNELS, h, w]: depth, what smoothing takes from it at three scales, its slopes in code steps, cover.

        In float32: a code step, 1/254 of the range, has only two digits of its own in half precision.
        """
        with torch.autocast(low.device.type, enabled=False):
            margin = max(REACHES)
            padded = F.pad(low, (margin,) * 4, mode="replicate")
            means = [F.avg_pool2d(padded, 2 * reach + 1, stride=1) for reach in REACHES]

            def middle(x: Tensor, down: int = 0, right: int = 0) -> Tensor:
                height, width = low.shape[-2:]
                top, left = (x.shape[-2] - height) // 2 + down, (x.shape[-1] - width) // 2 + right
                return x[..., top : top + height, left : left + width]

            # stacked: one kernel each to subtract, weigh and clamp all of them; an eager run waits for launches
            ahead = torch.cat([*[low] * len(means), middle(padded, 0, 1), middle(padded, 1, 0)], dim=1)
            behind = torch.cat([*map(middle, means), middle(padded, 0, -1), middle(padded, -1, 0)], dim=1)
            limited = ((ahead - behind) * self.band_weights).clamp(-16, 16)
            return torch.cat([low - 0.5, limited, cover], dim=1)

    def trunk(
        self,
        low: Tensor,  # [B, 1, h, w] float32
        guides: Tensor,  # [B, C, H, W] float32, cover first
    ) -> Tensor:  # [B, widths[0], h, w]
        """Features at the input's resolution; may run in half precision."""
        means = F.avg_pool2d(guides, self.architecture.scale)
        x = self.stem(self._for_layers(self.low_features(low, means[:, :1])))
        if self.low_guides is not None:
            found = self.low_guides(self._for_layers(means[:, 1:]))
            x = x + pixelwise(self.merge, found * self.low_guides.confidence(found, x))
        skips = []
        for blocks, down in zip(self.encoder, self.down):
            skips.append(blocks(x))
            x = down(skips[-1])
        x = self.middle(x)
        for up, blocks, skip in zip(reversed(self.up), reversed(self.decoder), reversed(skips)):
            x = blocks(skip + F.interpolate(pixelwise(up, x), scale_factor=2, mode="bilinear", align_corners=False))
        return x

    def high_features(self, features: Tensor, cover: Tensor, found: Tensor | None) -> Tensor:
        """[B, high_width, H, W]: the trunk's features, enlarged, with cover and what was found in the other guides."""
        scale = self.architecture.scale
        x = F.interpolate(pixelwise(self.to_high, features), scale_factor=scale, mode="bilinear", align_corners=False)
        x = x + self.high_cover(self._for_layers(cover))
        if found is not None:
            x = torch.addcmul(x, found, self.high_guides.confidence(found, x))
        return F.silu(self.high_second(F.silu(self.high_first(F.silu(x)))))

    def _for_layers(self, x: Tensor) -> Tensor:
        """Inputs in the layers' memory format and precision, at one go."""
        return x.to(dtype=self.stem.weight.dtype, memory_format=torch.channels_last)

    def in_half(self, dtype: torch.dtype = torch.float16) -> SplatHead:
        """A copy to predict with in half precision, all but base and tail: autocast would cast every weight at every call.

        Its weights are not laid out as this network's are, see :meth:`_move_last_biases`.
        """
        made = copy.deepcopy(self)
        made._move_last_biases()
        for layer in made.modules():
            if isinstance(layer, nn.Conv2d) and layer not in (made.low_output, made.high_output):
                layer.to(dtype)
        return made.requires_grad_(False).eval()

    @torch.no_grad()
    def _move_last_biases(self) -> None:
        """Biases of what each resolution adds last go into the layers that read it next, which are linear and see no border:
        the same function, and a GPU has fewer operations to be told of. The finest decoder's stay, as its reader pads."""
        readers = [*zip(self.encoder, self.down, self.up), (self.middle, self.up[-1]), *zip(self.decoder[1:], self.up)]
        for blocks, first, *skipped in readers:
            bias = blocks[-1].second.bias
            first.bias += first.weight.sum((2, 3)) @ bias
            for layer in skipped:  # its result is added to the skip
                layer.bias += bias
            blocks[-1].second.bias = None

    def _dropped(self, guides: Tensor) -> Tensor:
        """Training: guides with some left out, drawn from torch's generator on the CPU, which checkpoints keep."""
        if not self.training:
            return guides
        kept = (torch.rand(len(guides), 1) > ALL_DROPPED).float()
        columns = [torch.ones(len(guides), 1)]
        for name in self.architecture.guides[1:]:
            columns.append((kept * (torch.rand(len(guides), 1) > ONE_DROPPED)).expand(-1, GUIDE_CHANNELS[name]))
        factors = torch.cat(columns, dim=1)
        if guides.device.type == "cuda":
            factors = factors.pin_memory().to(guides.device, non_blocking=True)
        return guides * factors[:, :, None, None]


def create(architecture: SplatHeadArchitecture) -> SplatHead:
    """A new network, its weights in the memory format that it computes in."""
    return SplatHead(architecture).to(memory_format=torch.channels_last)
