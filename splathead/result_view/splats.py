"""Gaussians as ``report/assets/splats.js`` draws them: 32 bytes each, little endian.

Position (3 x float32), colour and opacity (4 x 8-bit), rotation w x y z (4 x 16-bit signed fractions), standard deviations
(3 x float16), 2 bytes of padding. Colour is the mean over all directions: harmonics above degree 0 are left out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from splathead.gaussians import SH_C0, Gaussians
from splathead.splat_files import load_splats

MAX_SHOWN = 1_000_000
MIN_OPACITY = 1 / 255
PACKED = np.dtype(
    [("position", "<f4", 3), ("rgba", "u1", 4), ("rotation", "<i2", 4), ("scale", "<f2", 3), ("padding", "<u2")]
)


def load_visible_splats(path: Path, max_shown: int = MAX_SHOWN) -> Gaussians:
    """The Gaussians of a file that a viewer can show: the ``max_shown`` with the largest opacity times area, in the
    file's order, without harmonics. Errors: those of :func:`splathead.splat_files.load_splats`."""
    gaussians = load_splats(path, min_opacity=MIN_OPACITY, max_sh_degree=0)
    if len(gaussians) <= max_shown:
        return gaussians
    area = gaussians.log_scales.sum(1) - gaussians.log_scales.amin(1)  # of the largest side, as a logarithm
    weight = torch.nn.functional.logsigmoid(gaussians.opacity_logits) + area
    return gaussians.select(torch.topk(weight, max_shown).indices.sort().values)


def packed_splats(gaussians: Gaussians) -> bytes:
    """``gaussians`` as 32 bytes each."""
    result = np.zeros(len(gaussians), PACKED)
    colours = (gaussians.sh[:, 0] * SH_C0 + 0.5).clamp(0, 1)
    rgba = torch.cat([colours, gaussians.opacities[:, None]], dim=1).numpy()
    rotation = torch.nn.functional.normalize(gaussians.quaternions, dim=1).numpy()
    result["position"] = gaussians.means.numpy()
    result["rgba"] = np.rint(rgba * 255)
    result["rotation"] = np.rint(rotation * 32767)
    result["scale"] = np.minimum(gaussians.scales.numpy(), np.finfo(np.float16).max)
    return result.tobytes()
