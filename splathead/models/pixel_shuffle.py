"""What the sub-pixel networks share: upsampling stages, ICNR initialisation, a full-precision tail."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splathead.models.interpolation import upsample

BASES = ("bicubic", "bilinear")
RESIDUAL_WEIGHT = 0.5
"""Published: the network's output is halved before it is added to the base."""


def check_base(base: str, scale: int, output_margin: float) -> None:
    """ValueError unless ``base`` is an interpolation that a residual can be added to, and the others make sense."""
    if base not in BASES:
        raise ValueError(f"base {base!r}, expected {' or '.join(BASES)}")
    if scale < 1 or output_margin < 0:
        raise ValueError(f"scale {scale} and output_margin {output_margin}, expected at least 1 and at least 0")


def upsampling_factors(scale: int) -> list[int]:
    """Factors of the sub-pixel stages: twos for powers of two, one three for 3; other scales are a ValueError."""
    if scale == 3:
        return [3]
    if scale < 1 or scale & (scale - 1):
        raise ValueError(f"scale factor {scale}, expected 1, 2, 3, 4, 8 or another power of two")
    return [2] * (scale.bit_length() - 1)


def icnr_(convolution: nn.Conv2d, factor: int) -> None:
    """Initialise a convolution in front of a pixel shuffle so that its ``factor``^2 sub-pixels start equal.

    ICNR (Aitken et al. 2017, arXiv:1707.02937): the shuffle then starts as nearest-neighbour enlargement, without a
    checkerboard. Biases are made equal likewise.
    """
    with torch.no_grad():
        first = convolution.weight[:: factor**2].clone()
        convolution.weight.copy_(first.repeat_interleave(factor**2, dim=0))
        convolution.bias.copy_(convolution.bias[:: factor**2].clone().repeat_interleave(factor**2))


def subpixel_upsampler(channels: int, scale: int, *, icnr: bool, activation: Callable[[], nn.Module] | None) -> nn.Sequential:
    """3x3 convolution and pixel shuffle (Shi et al., CVPR 2016) for each factor, with an activation after each."""
    layers: list[nn.Module] = []
    for factor in upsampling_factors(scale):
        convolution = nn.Conv2d(channels, channels * factor**2, 3, padding=1)
        if icnr:
            icnr_(convolution, factor)
        layers += [convolution, nn.PixelShuffle(factor)] + ([activation()] if activation else [])
    return nn.Sequential(*layers)


def exact_convolution(convolution: nn.Conv2d, features: Tensor) -> Tensor:
    """A convolution in float32 whatever autocast is active: its output is a small fraction of a code step.

    A matrix product for all taps at once, then shifted sums: by PyTorch's defaults neither uses TF32, as cuDNN's convolutions
    may (``torch.backends.cuda.matmul.allow_tf32`` would allow it to products), and for few output channels it is several times
    faster than they are in full precision.
    """
    batch, channels, height, width = features.shape
    out, _, k, _ = convolution.weight.shape
    taps = convolution.weight.permute(0, 2, 3, 1).reshape(out, k * k, channels).flip(1)  # folding scatters, so mirrored
    taps = taps.reshape(out * k * k, channels).expand(batch, -1, -1)
    with torch.autocast(features.device.type, enabled=False):
        products = torch.bmm(taps, features.float().flatten(2))  # [B, out * k^2, H W], as fold wants it
        summed = F.fold(products, (height, width), k, padding=k // 2)
        return summed + convolution.bias[:, None, None]


def pixelwise(convolution: nn.Conv2d, features: Tensor) -> Tensor:
    """A 1x1 convolution as a matrix product, which adds the bias on the way; PyTorch adds it after cuDNN in a pass of its own.

    Features are best in ``channels_last``, where pixels are the rows of a matrix. In float32 it uses no TF32, as is PyTorch's
    default for products. With gradients it is the convolution: theirs would be products over millions of rows, which are slow
    (eval/LOG.md, 2026-11-28).
    """
    if torch.is_grad_enabled():
        return convolution(features)
    batch, channels, height, width = features.shape
    rows = F.linear(features.permute(0, 2, 3, 1).reshape(-1, channels), convolution.weight.flatten(1), convolution.bias)
    return rows.view(batch, height, width, -1).permute(0, 3, 1, 2)


def pixelwise_added(convolution: nn.Conv2d, features: Tensor, to: Tensor) -> Tensor:
    """``to`` + :func:`pixelwise`; an eager call without gradients leaves it in ``to`` itself: one operation, not two.

    ``convolution`` without bias, ``to`` a tensor that nobody else needs, in ``channels_last`` as well.
    """
    if torch.is_grad_enabled():
        return to + convolution(features)
    if torch.compiler.is_compiling():  # which adds in the operation after
        return to + pixelwise(convolution, features)
    rows = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
    factors = (rows, convolution.weight.flatten(1).T)
    # autocast leaves alone what is written in place
    to.permute(0, 2, 3, 1).view(-1, to.shape[1]).addmm_(*(factor.to(to.dtype) for factor in factors))
    return to


def exact_pixelwise(convolution: nn.Conv2d, features: Tensor) -> Tensor:
    """:func:`pixelwise` for few output channels in float32: with gradients, too, without TF32, which cuDNN may use.

    Compiled it is sums, which the compiler makes part of the operation before: no product has to be read and written for them.
    """
    if not torch.is_grad_enabled() and not torch.compiler.is_compiling():
        return pixelwise(convolution, features)
    rows = [(features * row[:, None, None]).sum(1, keepdim=True) for row in convolution.weight[:, :, 0, 0]]
    return torch.cat(rows, 1) + convolution.bias[:, None, None]


def interpolated_base(lr_depth01: Tensor, scale: int, base: str) -> Tensor:
    """The base that a residual is added to, in float32, clamped to near..far."""
    with torch.autocast(lr_depth01.device.type, enabled=False):
        return upsample(lr_depth01.float(), scale, base).clamp(0.0, 1.0)
