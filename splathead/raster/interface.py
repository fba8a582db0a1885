"""``rasterize``: alpha compositing of per-Gaussian features, the one operation that every backend offers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from splathead.cameras import Camera
from splathead.gaussians import Gaussians
from splathead.raster.registry import backend_module, resolve_backend

ALPHA_MAX = 0.99
"""A splat's alpha is clamped to this, so that transmittance stays positive (Kerbl et al. 2023)."""

ALPHA_MIN = 1.0 / 255.0
"""A splat contributes nothing to a pixel where its alpha is below this."""

TRANSMITTANCE_MIN = 1e-4
"""A pixel is finished once the transmittance in front of the next splat is at or below this."""

JACOBIAN_MARGIN = 0.15
"""The projection's Jacobian is evaluated at most this fraction of the image size outside of the image."""


@dataclass(frozen=True)
class RasterSettings:
    """How Gaussians become pixels.

    ``antialiased`` scales each opacity by sqrt(det / det_dilated) of the projected covariance, so that
    dilation keeps a splat's total weight (Mip-Splatting's 2D filter as gsplat implements it).
    """

    antialiased: bool = False
    near: float = 0.2  # scene units: Gaussians whose centre has z <= near are not drawn
    dilation: float = 0.3  # px^2 added to the diagonal of the projected covariance

    def __post_init__(self) -> None:
        if not (math.isfinite(self.near) and self.near > 0):
            raise ValueError(f"RasterSettings.near is {self.near}, expected a positive number")
        if not (math.isfinite(self.dilation) and self.dilation > 0):
            raise ValueError(f"RasterSettings.dilation is {self.dilation}, expected a positive number")


class Raster(NamedTuple):
    """What :func:`rasterize` returns."""

    features: Tensor  # [C, H, W] sum of w_i f_i over the splats i of a pixel, not normalised
    alpha: Tensor  # [H, W] sum of w_i = 1 - transmittance
    radii: Tensor  # [N] px half extent of the splat's alpha >= 1/255 box; 0 where it is culled; no gradient


def rasterize(
    gaussians: Gaussians,
    features: Tensor,
    camera: Camera,
    settings: RasterSettings | None = None,
    backend: str = "auto",
    *,
    means2d_offset: Tensor | None = None,
) -> Raster:
    """Alpha-composite ``features`` [N, C] front to back over black (EWA splatting, Kerbl et al. 2023).

    A splat's alpha at a pixel centre is ``min(0.99, o exp(-d^T Sigma2D^-1 d / 2))``; below 1/255 it is
    skipped; splats are composited in the order of their centre's z while the transmittance before
    them exceeds 1e-4. Differentiable with respect to the raw ``means``, ``log_scales``,
    ``quaternions`` and ``opacity_logits``, to ``features`` and to ``means2d_offset``.

    ``means2d_offset`` [N, 2], zeros with ``requires_grad``, is added to the projected centres; its
    ``.grad`` is dL/d(centre) in pixels, which densification thresholds.

    Errors: ValueError for a wrong shape, device or dtype and for NaN or infinity; RuntimeError for
    a backend that cannot run here.
    """
    name = resolve_backend(backend, gaussians.means.device)
    _validate(gaussians, features, means2d_offset)
    return backend_module(name).rasterize(gaussians, features, camera, settings or RasterSettings(), means2d_offset)


def median_depth(
    gaussians: Gaussians, camera: Camera, settings: RasterSettings | None = None, backend: str = "auto"
) -> Tensor:
    """z [H, W] of the splat at which the transmittance falls to 0.5 or less, 0 where none does. No gradient."""
    name = resolve_backend(backend, gaussians.means.device)
    _validate(gaussians, gaussians.means, None)
    with torch.no_grad():
        return backend_module(name).median_depth(gaussians.detach(), camera, settings or RasterSettings())


def _validate(gaussians: Gaussians, features: Tensor, means2d_offset: Tensor | None) -> None:
    count, means = len(gaussians), gaussians.means
    if features.ndim != 2 or features.shape[0] != count or features.shape[1] < 1:
        raise ValueError(f"features have shape {tuple(features.shape)}, expected ({count}, at least 1)")
    if means2d_offset is not None and tuple(means2d_offset.shape) != (count, 2):
        raise ValueError(f"means2d_offset has shape {tuple(means2d_offset.shape)}, expected ({count}, 2)")
    tensors = {
        "means": means, "log_scales": gaussians.log_scales, "quaternions": gaussians.quaternions,
        "opacity_logits": gaussians.opacity_logits, "features": features,
    }  # fmt: skip
    if means2d_offset is not None:
        tensors["means2d_offset"] = means2d_offset
    for name, tensor in tensors.items():
        if tensor.device != means.device or tensor.dtype != means.dtype:
            raise ValueError(f"{name} is {tensor.dtype} on {tensor.device}, the means are {means.dtype} on {means.device}")
        if means.device.type == "cpu":  # on a GPU the check would stall the stream on every call
            _require_finite(name, tensor.detach())


def _require_finite(name: str, tensor: Tensor) -> None:
    # A finite sum proves that every term is finite, at a fraction of isfinite().all()'s cost. Summed by numpy:
    # torch's threads would go on spinning for a while and take a core from the rasteriser's own.
    with np.errstate(over="ignore", invalid="ignore"):
        total = tensor.numpy().sum()
    if not math.isfinite(total):
        bad = ~torch.isfinite(tensor)
        if bad.any():
            rows = bad.reshape(len(tensor), -1).any(1)
            raise ValueError(
                f"{name}: {int(rows.sum())} of {len(tensor)} Gaussians hold NaN or infinity "
                f"(first at index {int(rows.nonzero()[0, 0])}), expected finite values"
            )
