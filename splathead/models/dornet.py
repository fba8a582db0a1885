"""DORNet-T at test time: the published colour-guided network for blind depth super-resolution, with its published weights.

Wang et al., "DORNet: A Degradation Oriented and Regularized Network for Blind Depth Super-Resolution", CVPR 2025; the small
form (24 channels). It restores depth that has been interpolated to full resolution. An encoder describes how that depth was
degraded, as features of each pixel and as one vector of the frame; both steer five stages that sample the colour's features
with a modulated deformable convolution (Zhu et al., CVPR 2019, eq. 1) and add what is useful to the depth's features.

Published weights also hold what training alone uses: ``Dab.*``, the branch that degrades the result again for the training
losses, a mixture of experts (22,156 of 457,082 parameters). The network here has the other 434,926.

Published test procedure, as :meth:`DORNet.forward` follows it: depth grows with distance and is 0..1 over the frame's own
range, low-resolution depth is upsampled bicubically (a = -1/2), colour is 0..1, there is no padding, and no clamp at the end.
"""

from __future__ import annotations

import pickle
import re
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splathead.guides import guide_channels
from splathead.models.sgnet_blocks import AttentionBlock, ResidualGroup, check_guides, conv3x3

CHANNELS = 24
REDUCTION = 4
STAGES = 5
SLOPE = 0.1
TAPS = 9
"""Samples of a 3x3 deformable convolution"""
TRAINING_ONLY = "Dab."
"""Prefix of the published weights that the network at test time has no use for"""

_RENAMED = (
    (r"^R\.head\.0\.", "head."),
    (r"^R\.head_rgb\.0\.", "rgb_head."),
    (r"^R\.tail\.0\.", "tail."),
    (r"^R\.dgm(\d)\.DA_rgb\.dcnrgb\.conv_offset_mask\.", r"stages.\1.deform.offsets."),
    (r"^R\.dgm(\d)\.DA_rgb\.dcnrgb\.c1\.", r"stages.\1.deform.modulation."),
    (r"^R\.dgm(\d)\.DA_rgb\.dcnrgb\.c2\.", r"stages.\1.deform.mix."),
    (r"^R\.dgm(\d)\.DA_rgb\.dcnrgb\.", r"stages.\1.deform."),
    (r"^R\.dgm(\d)\.DA_rgb\.rcab1\.", r"stages.\1.block."),
    (r"^R\.dgm(\d)\.DA_rgb\.conv\.", r"stages.\1.transformed."),
    (r"^R\.dgm(\d)\.fb\.conv1\.", r"stages.\1.gate."),
    (r"^R\.dgm(\d)\.fb\.conv2\.", r"stages.\1.narrow."),
    (r"^R\.dgm(\d)\.fb\.conv3\.", r"stages.\1.widen."),
    (r"^R\.dgm(\d)\.fb\.conv\.", r"stages.\1.fuse."),
    (r"^R\.c_d5\.", "merge."),
    (r"^R\.c_d(\d)\.", r"groups.\1."),
    (r"^R\.c_r(\d)\.", r"rgb_convs.\1."),
    (r"^Enc\.E_pre\.", "encoder.local."),
    (r"^Enc\.E\.", "encoder.summary."),
    (r"\.conv_du\.0\.", ".gate.1."),
    (r"\.conv_du\.2\.", ".gate.3."),
)
"""Published names of weights as patterns -> ours; numbered from 1 there"""


@dataclass(frozen=True)
class DORNetArchitecture:
    """Everything that determines the network's function, apart from its weights. The published form has one size."""

    scale: int = 4
    """super-resolution factor; the network itself only sees depth that has been upsampled by it"""
    guides: tuple[str, ...] = ("rgb",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "guides", tuple(self.guides))
        if self.scale < 1 or self.guides != ("rgb",):
            raise ValueError(
                f"DORNet with scale {self.scale} and guides {self.guides}, expected a scale of at least 1 and guides ('rgb',)"
            )


class DORNet(nn.Module):
    """DORNet-T; ``architecture`` says at which scale."""

    def __init__(self, architecture: DORNetArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.encoder = _DegradationEncoder(CHANNELS)
        self.head = conv3x3(1, CHANNELS)
        self.rgb_head = conv3x3(3, CHANNELS)
        self.rgb_convs = nn.ModuleList(conv3x3(CHANNELS) for _ in range(STAGES - 1))
        self.stages = nn.ModuleList(_Stage(CHANNELS) for _ in range(STAGES))
        self.groups = nn.ModuleList(ResidualGroup(CHANNELS, REDUCTION, 2) for _ in range(STAGES - 1))
        self.merge = nn.Sequential(nn.Conv2d(STAGES * CHANNELS, CHANNELS, 1), ResidualGroup(CHANNELS, REDUCTION, 2))
        self.tail = conv3x3(CHANNELS, 1)

    def forward(
        self,
        lr_depth01: Tensor,  # [B, 1, h, w] float32, extended beyond its mask; 0 = near, 1 = far
        guides: Tensor | None = None,  # [B, 3, h * scale, w * scale] float32 colour in 0..1
    ) -> Tensor:  # [B, 1, h * scale, w * scale] float32 in the depth's normalisation
        """Super-resolved depth by the published procedure, in float32 whatever autocast is active around the call.

        Each frame is taken to 0..1 over its own range, as the weights' training frames were, and back. Errors: guides that are
        missing or of another size, depth that is constant or not finite.
        """
        check_guides("DORNet", lr_depth01, guides, self.architecture.scale, guide_channels(self.architecture.guides))
        with torch.autocast(lr_depth01.device.type, enabled=False):
            depth = lr_depth01.float()
            low, high = depth.amin((1, 2, 3), keepdim=True), depth.amax((1, 2, 3), keepdim=True)
            span = high - low
            if not bool(((span > 0) & span.isfinite()).all()):
                spans = span.flatten().tolist()
                raise ValueError(f"DORNet: depth frames that span {spans}, expected finite spans above 0 to normalise them by")
            # with antialias torch's cubic is Keys' (a = -1/2), as in the published data preparation; without, a = -3/4
            upsampled = F.interpolate(
                (depth - low) / span, scale_factor=self.architecture.scale, mode="bicubic", antialias=True, align_corners=False
            )
            return low + span * self.restore(upsampled, guides.float())

    def restore(
        self,
        depth: Tensor,  # [B, 1, H, W] upsampled depth, 0..1 over the frame
        rgb: Tensor,  # [B, 3, H, W] in 0..1
    ) -> Tensor:  # [B, 1, H, W]
        """The published network itself."""
        degradation, summary = self.encoder(depth)
        head = self.head(depth)
        x, colour = head, self.rgb_head(rgb)
        results = []
        for index, stage in enumerate(self.stages):
            x = stage(x, colour, degradation, summary)
            if index == STAGES - 1:
                break
            x = self.groups[index](x if index == 0 else F.leaky_relu(x, SLOPE))
            results.append(x)
            colour = self.rgb_convs[index](colour)
            if index < STAGES - 2:  # the published code's in-place activation also changes what stages 2 to 4 see
                colour = F.leaky_relu(colour, SLOPE)
        return self.tail(head + self.merge(torch.cat([*results, x], dim=1)))


class _ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation, added to a 1x1 convolution of the input."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(channels_in, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.LeakyReLU(SLOPE, True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels),
        )  # fmt: skip
        self.shortcut = nn.Sequential(nn.Conv2d(channels_in, channels, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.backbone(x) + self.shortcut(x), SLOPE)


class _DegradationEncoder(nn.Module):
    """Degradation features of upsampled depth: of each pixel [B, C, H, W], and of the frame [B, 4C, 1, 1]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.local = nn.Sequential(
            _ResidualBlock(1, channels // 2), _ResidualBlock(channels // 2, channels), _ResidualBlock(channels, channels)
        )
        self.summary = nn.Sequential(
            nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1), nn.BatchNorm2d(2 * channels), nn.LeakyReLU(SLOPE, True),
            nn.Conv2d(2 * channels, 4 * channels, 3, stride=2, padding=1), nn.BatchNorm2d(4 * channels),
            nn.AdaptiveAvgPool2d(1),
        )  # fmt: skip

    def forward(self, depth: Tensor) -> tuple[Tensor, Tensor]:
        local = self.local(depth)
        return local, self.summary(local)


class _Stage(nn.Module):
    """Adds to depth features what the degradation says is useful in colour features."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = AttentionBlock(channels, REDUCTION, nn.ReLU(inplace=True))
        self.deform = _DeformableConvolution(channels)
        self.transformed = conv3x3(channels)
        self.gate = nn.Conv2d(channels, channels // 4, 1)
        self.narrow = nn.Conv2d(channels, channels // 4, 1)
        self.widen = nn.Conv2d(channels // 4, channels, 1)
        self.fuse = conv3x3(2 * channels, channels)

    def forward(self, x: Tensor, colour: Tensor, degradation: Tensor, summary: Tensor) -> Tensor:
        colour = self.block(colour)
        colour = self.transformed(colour + self.deform(colour, degradation, summary))
        useful = self.widen(self.narrow(colour) * torch.sigmoid(self.gate(degradation)))
        return x + self.fuse(torch.cat([useful + colour, x], dim=1))


class _DeformableConvolution(nn.Module):
    """3x3 convolution that reads beside its taps, by offsets and weights from the degradation of each pixel.

    The frame's degradation scales the input's channels (published as a scaling of the kernel for each frame: the same product).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3))
        nn.init.uniform_(self.weight, -((TAPS * channels) ** -0.5), (TAPS * channels) ** -0.5)
        self.offsets = conv3x3(channels, 3 * TAPS)
        self.modulation = nn.Conv2d(4 * channels, channels, 1, bias=False)
        self.mix = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor, degradation: Tensor, summary: Tensor) -> Tensor:
        maps = self.offsets(degradation)
        return self.mix(deformable_convolution(
            x * self.modulation(summary), maps[:, : 2 * TAPS], torch.sigmoid(maps[:, 2 * TAPS :]), self.weight
        ))  # fmt: skip


def deformable_convolution(
    x: Tensor,  # [B, C, H, W]
    offsets: Tensor,  # [B, 18, H, W] pixels: down and right of tap 0, of tap 1, ... (taps row by row)
    weights: Tensor,  # [B, 9, H, W] factor of each tap
    kernel: Tensor,  # [K, C, 3, 3]
) -> Tensor:  # [B, K, H, W]
    """Modulated deformable 3x3 convolution (Zhu et al., CVPR 2019, eq. 1): bilinear samples, 0 beyond the frame.

    One tap at a time: all nine together would hold nine times the features of the frame.
    """
    height, width = x.shape[-2:]
    rows = torch.arange(height, device=x.device, dtype=x.dtype)[:, None]
    columns = torch.arange(width, device=x.device, dtype=x.dtype)[None]
    total = None
    for tap in range(TAPS):
        row = rows + (tap // 3 - 1) + offsets[:, 2 * tap]
        column = columns + (tap % 3 - 1) + offsets[:, 2 * tap + 1]
        grid = torch.stack([(2 * column + 1) / width - 1, (2 * row + 1) / height - 1], dim=-1)
        sampled = F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        part = F.conv2d(sampled * weights[:, tap : tap + 1], kernel[:, :, tap // 3, tap % 3, None, None])
        total = part if total is None else total + part
    return total


def create(architecture: DORNetArchitecture) -> DORNet:
    """A new DORNet-T with random weights."""
    return DORNet(architecture)


def load_nyu_weights(path: Path) -> DORNet:
    """DORNet-T in eval mode with published weights (``NYU_T_X4.pth``), read without running code from the file.

    Every weight of the network must be in the file with its shape, and the file may hold nothing else but ``Dab.*``.
    Errors: FileNotFoundError; ValueError for a file that is not such weights, saying what is missing, unknown or misshapen.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file, expected DORNet-T's published weights (NYU_T_X4.pth)")
    try:
        published = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: not a file of weights that torch can read safely ({error})") from error
    if not isinstance(published, dict) or not all(isinstance(value, Tensor) for value in published.values()):
        raise ValueError(f"{path}: holds {type(published).__name__}, expected a dictionary of tensors (published DORNet-T)")
    given = {_our_name(name): value for name, value in published.items() if not name.startswith(TRAINING_ONLY)}
    network = create(DORNetArchitecture())
    expected = network.state_dict()
    _check_names(path, given, expected)
    network.load_state_dict(given, strict=True)
    return network.eval()


def _our_name(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return re.sub(r"^(stages|groups|rgb_convs)\.(\d)", lambda found: f"{found[1]}.{int(found[2]) - 1}", name)


def _check_names(path: Path, given: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    problems = [f"lacks {name}" for name in expected if name not in given]
    problems += [f"has an unknown {name}" for name in given if name not in expected]
    problems += [
        f"has {name} of shape {tuple(given[name].shape)}, expected {tuple(value.shape)}"
        for name, value in expected.items()
        if name in given and given[name].shape != value.shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ValueError(f"{path}: not the published weights of DORNet-T: {'; '.join(problems[:3])}{more}")
