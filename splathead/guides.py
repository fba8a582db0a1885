"""High-resolution maps of the same view that may guide a network: what they are, and their form as tensors.

They are stored by stage 04 beside the depth maps, as small integers or half floats; networks see them as float32 in about
-1..1. Never among them: high-resolution depth.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

GUIDE_CHANNELS = {"rgb": 3, "alpha": 1, "normal": 3}
"""Guide -> channels. rgb: colour over black in 0..1; alpha: 0..1; normal: splat normals in camera axes, unit length or 0."""

_SCALE = {"rgb": 255.0, "alpha": 1.0, "normal": 127.0}


def guide_channels(names: Sequence[str]) -> int:
    """Number of channels of the stacked guides; an unknown name is a ValueError."""
    unknown = [name for name in names if name not in GUIDE_CHANNELS]
    if unknown:
        raise ValueError(f"guide {unknown[0]!r}, expected one of {', '.join(GUIDE_CHANNELS)}")
    return sum(GUIDE_CHANNELS[name] for name in names)


def guide_tensor(
    stored: Tensor,  # [H, W] or [H, W, C] as stage 04 stores it
    name: str,
) -> Tensor:  # [C, H, W] float32
    """One guide as networks see it."""
    values = stored.to(torch.float32) / _SCALE[name]
    return values[None] if values.ndim == 2 else values.permute(2, 0, 1)
