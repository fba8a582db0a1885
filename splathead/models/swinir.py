"""SwinIR-tiny, the published study's transformer baseline (0.23 M parameters).

SwinIR (Liang et al., ICCVW 2021; blocks of Swin, Liu et al., ICCV 2021): two groups of four transformer layers with windows
of 8x8 at low resolution, 48 channels, 4 heads, one convolution and pixel shuffle to full size. The published form has no
residual to an interpolated base and a hard clamp, which stops all gradients once the output leaves 0..1 (it collapsed);
``residual`` adds the output to the base, as all other networks do.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splathead.models.pixel_shuffle import check_base, exact_convolution, interpolated_base

WINDOW = 8
CHANNELS = 48
HEADS = 4
DEPTHS = (4, 4)
MLP_RATIO = 2
INIT_STD = 0.02


@dataclass(frozen=True)
class SwinIRArchitecture:
    """Everything that determines the network's function, apart from its weights."""

    scale: int = 4
    """super-resolution factor, any whole number"""
    base: str = "bicubic"
    """interpolation that the output is added to: bicubic or bilinear"""
    residual: bool = True
    """add the output to the base; False is the published form"""
    output_margin: float = 0.0
    """output is clamped to [-margin, 1 + margin] of near..far, see UNetArchitecture"""

    def __post_init__(self) -> None:
        check_base(self.base, self.scale, self.output_margin)


class SwinIR(nn.Module):
    """Depth super-resolution SwinIR; ``architecture`` says which."""

    def __init__(self, architecture: SwinIRArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.head = nn.Conv2d(1, CHANNELS, 3, padding=1)
        self.embedding_norm = nn.LayerNorm(CHANNELS)
        self.groups = nn.ModuleList(_Group(depth) for depth in DEPTHS)
        self.norm = nn.LayerNorm(CHANNELS)
        self.body_end = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.tail = nn.Conv2d(CHANNELS, architecture.scale**2, 3, padding=1)
        self.apply(_initialise)

    def forward(
        self,
        lr_depth01: Tensor,  # [B, 1, h, w] float32, extended beyond its mask; 0 = near, 1 = far
    ) -> Tensor:  # [B, 1, h * scale, w * scale] float32 in the same normalisation
        """Super-resolved depth. Base and tail run in float32 whatever autocast is active around the call."""
        height, width = lr_depth01.shape[-2:]
        padded = F.pad(lr_depth01, (0, -width % WINDOW, 0, -height % WINDOW), mode="replicate")
        first = self.head(padded)
        features = self.embedding_norm(first.permute(0, 2, 3, 1))
        for group in self.groups:
            features = group(features)
        features = self.body_end(self.norm(features).permute(0, 3, 1, 2)) + first
        output = F.pixel_shuffle(exact_convolution(self.tail, features[..., :height, :width]), self.architecture.scale)
        if self.architecture.residual:
            output = output + interpolated_base(lr_depth01, self.architecture.scale, self.architecture.base)
        return output.clamp(-self.architecture.output_margin, 1.0 + self.architecture.output_margin)


class _Group(nn.Module):
    """Residual group: transformer layers, every other one with shifted windows, then a convolution."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(shift=WINDOW // 2 * (index % 2)) for index in range(depth))
        self.convolution = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:  # [B, h, w, C]
        features = x
        for layer in self.layers:
            features = layer(features)
        return x + self.convolution(features.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class _Layer(nn.Module):
    """Window attention and a two-layer perceptron, both after layer normalisation and with a residual."""

    def __init__(self, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.norm1, self.norm2 = nn.LayerNorm(CHANNELS), nn.LayerNorm(CHANNELS)
        self.qkv, self.project = nn.Linear(CHANNELS, 3 * CHANNELS), nn.Linear(CHANNELS, CHANNELS)
        self.position_bias = nn.Parameter(torch.empty((2 * WINDOW - 1) ** 2, HEADS))
        nn.init.trunc_normal_(self.position_bias, std=INIT_STD)
        self.register_buffer("relative_index", _relative_index(), persistent=False)
        hidden = MLP_RATIO * CHANNELS
        self.mlp = nn.Sequential(nn.Linear(CHANNELS, hidden), nn.GELU(), nn.Linear(hidden, CHANNELS))

    def forward(self, x: Tensor) -> Tensor:  # [B, h, w, C], sides are multiples of the window
        x = x + self._attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def _attention(self, x: Tensor) -> Tensor:
        batch, height, width, _ = x.shape
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), dims=(1, 2))
        windows = _to_windows(self.qkv(x))  # [B, windows, 64, 3 C]
        count, tokens = windows.shape[1:3]
        query, key, value = windows.view(batch, count, tokens, 3, HEADS, -1).permute(3, 0, 1, 4, 2, 5)
        bias = self.position_bias[self.relative_index].permute(2, 0, 1)  # [heads, 64, 64]
        if self.shift:
            bias = bias + _shift_mask(height, width, self.shift, x.device)[:, None]  # [windows, heads, 64, 64]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        mixed = self.project(mixed.transpose(2, 3).reshape(batch, count, tokens, CHANNELS))
        result = _from_windows(mixed, height, width)
        return torch.roll(result, (self.shift, self.shift), dims=(1, 2)) if self.shift else result


def _to_windows(x: Tensor) -> Tensor:
    """[B, h, w, C] to [B, windows, tokens, C], windows and tokens in row-major order."""
    batch, height, width, channels = x.shape
    x = x.view(batch, height // WINDOW, WINDOW, width // WINDOW, WINDOW, channels)
    return x.transpose(2, 3).reshape(batch, -1, WINDOW**2, channels)


def _from_windows(windows: Tensor, height: int, width: int) -> Tensor:
    batch, _, _, channels = windows.shape
    x = windows.view(batch, height // WINDOW, width // WINDOW, WINDOW, WINDOW, channels)
    return x.transpose(2, 3).reshape(batch, height, width, channels)


def _relative_index() -> Tensor:
    """[64, 64] index into the table of position biases: row offset * 15 + column offset, both from -7 to 7."""
    place = torch.stack(torch.meshgrid(torch.arange(WINDOW), torch.arange(WINDOW), indexing="ij")).flatten(1)
    offset = place[:, :, None] - place[:, None, :] + WINDOW - 1
    return offset[0] * (2 * WINDOW - 1) + offset[1]


def _shift_mask(height: int, width: int, shift: int, device: torch.device) -> Tensor:
    """[windows, 64, 64]: -100 between tokens of a shifted window that are no neighbours in the image, else 0."""
    region = torch.zeros(1, height, width, 1, device=device)
    bounds = (slice(0, -WINDOW), slice(-WINDOW, -shift), slice(-shift, None))
    for index, (rows, columns) in enumerate((r, c) for r in bounds for c in bounds):
        region[:, rows, columns] = index
    tokens = _to_windows(region)[0, :, :, 0]
    return torch.where(tokens[:, :, None] == tokens[:, None, :], 0.0, -100.0)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=INIT_STD)
        nn.init.zeros_(module.bias)


def create(architecture: SwinIRArchitecture) -> SwinIR:
    """A new network."""
    return SwinIR(architecture)
