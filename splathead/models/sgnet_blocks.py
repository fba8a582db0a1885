"""Blocks that the two colour-guided networks share: channel attention, projections between resolutions.

Sources: residual channel attention of RCAN (Zhang et al., ECCV 2018, eqs. 3-10), iterative back-projection of DBPN (Haris et
al., CVPR 2018, section 3.2).
"""

from __future__ import annotations

from torch import Tensor, nn

LEAKY_SLOPE = 0.2
PROJECTIONS = {2: (6, 2), 4: (8, 2), 8: (12, 2), 16: (20, 2)}
"""Scale factor -> (kernel size, padding) of the strided convolutions that change the resolution by it."""


def check_guides(
    network: str,
    lr_depth01: Tensor,  # [B, 1, h, w]
    guides: Tensor | None,  # [B, C, H, W]
    scale: int,
    channels: int,
) -> None:
    """A ValueError that names the network, what it got and what it expects, unless guides fit the depth and the scale."""
    if lr_depth01.ndim != 4 or lr_depth01.shape[1] != 1:
        raise ValueError(f"{network}: low-resolution depth of shape {tuple(lr_depth01.shape)}, expected [B, 1, h, w]")
    batch, _, height, width = lr_depth01.shape
    expected = (batch, channels, height * scale, width * scale)
    if guides is None or tuple(guides.shape) != expected:
        given = "no guides" if guides is None else f"guides of shape {tuple(guides.shape)}"
        raise ValueError(f"{network}: {given}, expected {expected} for low-resolution depth of {width}x{height} at x{scale}")


class ChannelAttention(nn.Module):
    """Scales each channel by a factor in 0..1 that depends on the means of all channels."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        inner = channels // reduction
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, inner, 1), nn.ReLU(), nn.Conv2d(inner, channels, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same shape."""
        return x * self.gate(x)


class AttentionBlock(nn.Module):
    """Two 3x3 convolutions and channel attention, added to the input."""

    def __init__(self, channels: int, reduction: int, activation: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(conv3x3(channels), activation, conv3x3(channels), ChannelAttention(channels, reduction))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same shape."""
        return x + self.body(x)


class ResidualGroup(nn.Module):
    """Attention blocks and a 3x3 convolution, added to the input."""

    def __init__(self, channels: int, reduction: int, blocks: int) -> None:
        super().__init__()
        members = [AttentionBlock(channels, reduction, nn.LeakyReLU(LEAKY_SLOPE, inplace=True)) for _ in range(blocks)]
        self.body = nn.Sequential(*members, conv3x3(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same shape."""
        return x + self.body(x)


class Projection(nn.Module):
    """Up- or downsampling by a factor that learns from its own error: project, project back, project the difference."""

    def __init__(self, channels: int, scale: int, *, up: bool) -> None:
        super().__init__()
        self.first = _project(channels, scale, up)
        self.back = _project(channels, scale, not up)
        self.correction = _project(channels, scale, up)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, C, h * scale, w * scale] or [B, C, h / scale, w / scale]."""
        projected = self.first(x)
        return projected + self.correction(self.back(projected) - x)


def _project(channels: int, scale: int, up: bool) -> nn.Sequential:
    kernel, padding = PROJECTIONS[scale]
    layer = nn.ConvTranspose2d if up else nn.Conv2d
    return nn.Sequential(layer(channels, channels, kernel, stride=scale, padding=padding), nn.PReLU(channels))


def conv3x3(channels: int, channels_out: int | None = None) -> nn.Conv2d:
    """3x3 convolution that keeps the frame's size."""
    return nn.Conv2d(channels, channels if channels_out is None else channels_out, 3, padding=1)
