"""How SGNet joins depth and colour: an invertible block in space, amplitude and phase in frequency.

Wang et al., "SGNet: Structure Guided Network via Gradient-Frequency Awareness for Depth Map Super-Resolution", AAAI 2024,
section "Frequency Awareness". The invertible block is that of Xiao et al. (ECCV 2020) with Glow's mixing of channels (Kingma
and Dhariwal, NeurIPS 2018, section 3.2).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from splathead.models.sgnet_blocks import LEAKY_SLOPE, Projection, conv3x3

SLOPE = 0.1
GROWTH = 8
"""Channels of the dense blocks' inner layers"""
LOG_SCALE_LIMIT = 0.8
INITIAL_GAIN = 0.1
"""Dense blocks start with a tenth of Xavier's deviation: the invertible block starts near the identity"""
FREQUENCY_OFFSET = 1e-8
"""Added before transforms, as published: no coefficient of the constant part is exactly 0, where a phase has no gradient"""
VARIANCE_OFFSET = 1e-12
"""Keeps the gradient of a constant channel's standard deviation finite"""


class Fusion(nn.Module):
    """Depth features at low resolution, with what colour features at high resolution add to them."""

    def __init__(self, channels: int, colour_channels: int, scale: int) -> None:
        super().__init__()
        self.up = Projection(channels, scale, up=True)
        self.down = Projection(channels, scale, up=False)
        self.colour = conv3x3(colour_channels)
        self.colour_in = nn.Conv2d(colour_channels, colour_channels, 1)
        both = channels + colour_channels
        self.spatial = nn.Sequential(_InvertibleBlock(both, channels), nn.Conv2d(both, channels, 1))
        self.spectral = _SpectralFusion(channels, colour_channels)
        self.join = nn.Sequential(_InvertibleBlock(2 * channels, channels), nn.Conv2d(2 * channels, channels, 1))
        self.gate = nn.Sequential(
            nn.Conv2d(channels, channels // 2, 1), nn.LeakyReLU(SLOPE), nn.Conv2d(channels // 2, channels, 1), nn.Sigmoid()
        )

    def forward(
        self,
        depth: Tensor,  # [B, C, h, w]
        colour: Tensor,  # [B, K, H, W]
    ) -> tuple[Tensor, Tensor]:  # [B, C, h, w] and [B, K, H, W], the colour features for the next fusion
        """Fused depth features and processed colour features."""
        depth = self.up(depth)
        colour = self.colour(colour)
        inner = self.colour_in(colour)
        joined = self.join(torch.cat([self.spatial(torch.cat([depth, inner], 1)), self.spectral(depth, inner)], 1))
        weights = self.gate(_mean_plus_deviation(joined))
        return self.down(weights * joined + depth), colour


def _mean_plus_deviation(x: Tensor) -> Tensor:
    """Sum of each channel's mean and standard deviation, [B, C, 1, 1]; in float32, half precision sums overflow."""
    with torch.autocast(x.device.type, enabled=False):
        variance, mean = torch.var_mean(x.float(), dim=(2, 3), correction=0, keepdim=True)
        return mean + (variance + VARIANCE_OFFSET).sqrt()


class _SpectralFusion(nn.Module):
    """Fuses amplitudes and phases of both features' spectra, and transforms back.

    In float32 throughout: amplitudes grow with the number of pixels, beyond half precision's range, and half precision
    transforms need powers of two.
    """

    def __init__(self, channels: int, colour_channels: int) -> None:
        super().__init__()
        self.depth_in = nn.Conv2d(channels, channels, 1)
        self.colour_in = nn.Conv2d(colour_channels, colour_channels, 1)
        self.amplitude = _SpectrumFusion(channels, colour_channels)
        self.phase = _SpectrumFusion(channels, colour_channels)
        self.output = nn.Conv2d(channels, channels, 1)

    def forward(self, depth: Tensor, colour: Tensor) -> Tensor:
        with torch.autocast(depth.device.type, enabled=False):
            size = depth.shape[-2:]
            depth, colour = _spectrum(self.depth_in(depth.float())), _spectrum(self.colour_in(colour.float()))
            amplitude = self.amplitude(depth.abs(), colour.abs())
            phase = self.phase(depth.angle(), colour.angle())
            spectrum = torch.complex(amplitude * phase.cos(), amplitude * phase.sin())
            return self.output(torch.fft.irfft2(spectrum, s=size).abs())


def _spectrum(x: Tensor) -> Tensor:
    return torch.fft.rfft2(x.contiguous() + FREQUENCY_OFFSET)


class _SpectrumFusion(nn.Module):
    """Fuses one real map of both spectra: depth's own, and how much colour's differs from it."""

    def __init__(self, channels: int, colour_channels: int) -> None:
        super().__init__()
        self.colour_in = nn.Conv2d(colour_channels, channels, 1)
        self.depth_in = nn.Conv2d(channels, channels, 1)
        self.own = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.LeakyReLU(SLOPE), nn.Conv2d(channels, channels, 1))
        self.difference = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.LeakyReLU(SLOPE), nn.Conv2d(channels, channels, 1))
        self.output = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, depth: Tensor, colour: Tensor) -> Tensor:
        depth, colour = self.depth_in(depth), self.colour_in(colour)
        return self.output(torch.cat([self.own(depth), self.difference((colour - depth).abs())], 1))


class _InvertibleBlock(nn.Module):
    """Mixes all channels, then couples two parts of them: the first shifts, the second is scaled and shifted by the first."""

    def __init__(self, channels: int, first: int) -> None:
        super().__init__()
        self.sizes = (first, channels - first)
        self.mixing = _ChannelMixing(channels)
        self.shift_first = _DenseBlock(self.sizes[1], first)
        self.shift_second = _DenseBlock(first, self.sizes[1])
        self.scale_second = _DenseBlock(first, self.sizes[1])

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.mixing(x).split(self.sizes, dim=1)
        first = first + self.shift_first(second)
        scale = torch.exp(LOG_SCALE_LIMIT * (2 * torch.sigmoid(self.scale_second(first)) - 1))
        return torch.cat([first, second * scale + self.shift_second(first)], 1)


class _ChannelMixing(nn.Module):
    """1x1 convolution with an invertible matrix P L (U + diag(s)): P and the signs of s stay as drawn."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        orthogonal = torch.linalg.qr(torch.randn(channels, channels))[0]
        permutation, lower, upper = torch.linalg.lu(orthogonal)
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", upper.diag().sign())
        self.lower = nn.Parameter(lower)
        self.upper = nn.Parameter(upper.triu(1))
        self.log_scale = nn.Parameter(upper.diag().abs().log())

    def matrix(self) -> Tensor:
        """The [C, C] matrix, float32."""
        with torch.autocast(self.lower.device.type, enabled=False):
            lower = self.lower.tril(-1) + torch.eye(len(self.lower), device=self.lower.device)
            upper = self.upper.triu(1) + torch.diag(self.sign * self.log_scale.exp())
            return self.permutation @ (lower @ upper)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.matrix()[:, :, None, None])


class _DenseBlock(nn.Module):
    """Two inner layers, each seen by the output layer together with the input."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.inner1 = _DoubleConvolution(channels_in, GROWTH)
        self.inner2 = _DoubleConvolution(GROWTH, GROWTH)
        self.output = conv3x3(channels_in + 2 * GROWTH, channels_out)
        self.activation = nn.LeakyReLU(LEAKY_SLOPE)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_normal_(layer.weight, gain=INITIAL_GAIN)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        inner1 = self.activation(self.inner1(x))
        inner2 = self.activation(self.inner2(inner1))
        return self.activation(self.output(torch.cat([x, inner1, inner2], 1)))


class _DoubleConvolution(nn.Module):
    """Two 3x3 convolutions, added to a 1x1 convolution of the input."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.identity = nn.Conv2d(channels_in, channels, 1)
        self.body = nn.Sequential(conv3x3(channels_in, channels), nn.LeakyReLU(SLOPE), conv3x3(channels), nn.LeakyReLU(SLOPE))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.identity(x)
