"""The reference backend: plain torch, any device and precision, gradients by autograd.

Slow and memory hungry (pixels x Gaussians) on purpose: it is what the other backends are tested
against. Run it in float64 for that.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from splathead.cameras import Camera
from splathead.gaussians import Gaussians
from splathead.raster.interface import (
    ALPHA_MAX,
    ALPHA_MIN,
    JACOBIAN_MARGIN,
    TRANSMITTANCE_MIN,
    Raster,
    RasterSettings,
)

_CHUNK_ELEMENTS = 1 << 22
"""Pixels x Gaussians composited at a time."""


def unavailable_reason() -> str | None:
    """None: plain torch runs everywhere."""
    return None


class ProjectedGaussians(NamedTuple):
    """Splats in the image plane; rows of culled Gaussians are finite but meaningless."""

    means2d: Tensor  # [N, 2] px
    conics: Tensor  # [N, 3] inverse covariance xx, xy, yy, px^-2
    opacities: Tensor  # [N], compensated in antialiased mode
    depths: Tensor  # [N] z
    half_extents: Tensor  # [N, 2] px box where alpha >= 1/255
    visible: Tensor  # [N] bool


def project(
    gaussians: Gaussians, camera: Camera, settings: RasterSettings, means2d_offset: Tensor | None = None
) -> ProjectedGaussians:
    """EWA projection (Zwicker et al. 2001; Kerbl et al. 2023) with the Jacobian clamped to around the image."""
    means = gaussians.means
    rotation = torch.as_tensor(camera.rotation).to(means)
    x, y, z = (means @ rotation.T + torch.as_tensor(camera.translation).to(means)).unbind(-1)
    in_front = z > settings.near
    safe_z = torch.where(in_front, z, 1.0)
    slope_x, slope_y = x / safe_z, y / safe_z
    means2d = torch.stack([camera.fx * slope_x + camera.cx, camera.fy * slope_y + camera.cy], dim=-1)
    if means2d_offset is not None:
        means2d = means2d + means2d_offset
    tx = _clamp_slope(slope_x, camera.cx, camera.width, camera.fx)
    ty = _clamp_slope(slope_y, camera.cy, camera.height, camera.fy)
    zero = torch.zeros_like(safe_z)
    jacobian_rows = (
        torch.stack([camera.fx / safe_z, zero, -camera.fx * tx / safe_z], dim=-1),
        torch.stack([zero, camera.fy / safe_z, -camera.fy * ty / safe_z], dim=-1),
    )
    axes = rotation @ (gaussians.rotations * gaussians.scales[:, None, :])  # camera frame, columns scaled
    # Rows of J R M: the projected covariance is their Gram matrix.
    row_x, row_y = (torch.einsum("ni,nij->nj", row, axes) for row in jacobian_rows)
    xx = (row_x * row_x).sum(-1) + settings.dilation
    yy = (row_y * row_y).sum(-1) + settings.dilation
    xy = (row_x * row_y).sum(-1)
    # Cauchy-Binet: the determinant of a Gram matrix without cancellation.
    area = torch.linalg.vector_norm(torch.linalg.cross(row_x, row_y), dim=-1)
    det = area * area + settings.dilation * (xx + yy - settings.dilation)
    opacities = gaussians.opacities
    if settings.antialiased:
        opacities = opacities * area / det.sqrt()
    conics = torch.stack([yy / det, -xy / det, xx / det], dim=-1)
    with torch.no_grad():
        cutoff = 2 * torch.log((opacities / ALPHA_MIN).clamp_min(1.0))  # squared Mahalanobis radius of alpha = 1/255
        half_extents = torch.sqrt(cutoff[:, None] * torch.stack([xx, yy], dim=-1))
        size = torch.tensor([camera.width, camera.height]).to(means)
        on_screen = ((means2d + half_extents >= 0) & (means2d - half_extents <= size)).all(-1)
        visible = in_front & on_screen & (cutoff > 0)
    return ProjectedGaussians(means2d, conics, opacities, z, half_extents, visible)


def _clamp_slope(slope: Tensor, principal: float, size: int, focal: float) -> Tensor:
    """x/z or y/z limited to the image and a margin around it, on each side of the principal point."""
    margin = JACOBIAN_MARGIN * size
    return slope.clamp(-(principal + margin) / focal, (size - principal + margin) / focal)


def rasterize(
    gaussians: Gaussians, features: Tensor, camera: Camera, settings: RasterSettings, means2d_offset: Tensor | None
) -> Raster:
    """See :func:`splathead.raster.rasterize`."""
    splats = project(gaussians, camera, settings, means2d_offset)
    order = _depth_order(splats)
    columns = torch.cat([features, torch.ones_like(features[:, :1])], dim=1)[order]
    # Weights are contracted chunk by chunk: one product gives features and alpha.
    rows = [weights @ columns for weights, _, _ in _chunks(splats, order, camera)]
    image = torch.cat(rows).T.reshape(-1, camera.height, camera.width)
    radii = torch.where(splats.visible, splats.half_extents.amax(-1), 0.0)
    return Raster(image[:-1], image[-1], radii)


def median_depth(gaussians: Gaussians, camera: Camera, settings: RasterSettings) -> Tensor:
    """See :func:`splathead.raster.interface.median_depth`."""
    splats = project(gaussians, camera, settings)
    order = _depth_order(splats)
    if not len(order):
        return gaussians.means.new_zeros(camera.height, camera.width)
    depths, parts = splats.depths[order], []
    for weights, _, _ in _chunks(splats, order, camera):
        reached = 1 - weights.cumsum(1) <= 0.5
        first = depths[reached.to(torch.uint8).argmax(1)]
        parts.append(torch.where(reached.any(1), first, 0.0))
    return torch.cat(parts).view(camera.height, camera.width)


def discontinuity_mask(
    gaussians: Gaussians,
    camera: Camera,
    settings: RasterSettings,
    *,
    alpha_margin: float = 1e-5,
    transmittance_margin: float = 1e-6,
) -> Tensor:
    """Pixels [H, W] where rounding may change which splats count.

    True where some splat in front of the pixel's end has alpha within ``alpha_margin`` of 1/255, or
    a transmittance within ``transmittance_margin`` of 1e-4 in front of it. Comparisons between
    precisions leave these pixels out.
    """
    with torch.no_grad():
        splats = project(gaussians, camera, settings)
        parts = []
        for _, alphas, transmittance in _chunks(splats, _depth_order(splats), camera):
            reached = transmittance > TRANSMITTANCE_MIN - transmittance_margin
            near_skip = (alphas - ALPHA_MIN).abs() <= alpha_margin
            near_stop = (transmittance - TRANSMITTANCE_MIN).abs() <= transmittance_margin
            parts.append((reached & (near_skip | near_stop)).any(1))
        return torch.cat(parts).view(camera.height, camera.width)


def _depth_order(splats: ProjectedGaussians) -> Tensor:
    """Indices of the visible splats, near to far.

    The key is z rounded to float32 and ties keep the index order, so that every precision and
    backend composites in one and the same order.
    """
    visible = splats.visible.nonzero()[:, 0]
    return visible[torch.argsort(splats.depths.detach()[visible].float(), stable=True)]


def _chunks(splats: ProjectedGaussians, order: Tensor, camera: Camera):
    """Per chunk of pixels: weights, unclamped alphas and transmittance before each splat, each [P, V]."""
    means2d, conics, opacities = splats.means2d[order], splats.conics[order], splats.opacities[order]
    device = means2d.device
    pixels = torch.arange(camera.height * camera.width, device=device)
    for chunk in pixels.split(max(1, _CHUNK_ELEMENTS // max(1, len(order)))):
        dx = (chunk % camera.width)[:, None] + 0.5 - means2d[:, 0]
        dy = (chunk // camera.width)[:, None] + 0.5 - means2d[:, 1]
        power = -0.5 * (conics[:, 0] * dx * dx + conics[:, 2] * dy * dy) - conics[:, 1] * dx * dy
        alphas = opacities * torch.exp(power)
        kept = torch.where(alphas >= ALPHA_MIN, alphas.clamp_max(ALPHA_MAX), 0.0)
        after = torch.cumprod(1 - kept, dim=1)
        transmittance = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], dim=1)[:, : after.shape[1]]
        weights = torch.where(transmittance > TRANSMITTANCE_MIN, kept * transmittance, 0.0)
        yield weights, alphas, transmittance
