"""``render``: the maps of one view (colour, depth, normals ...) from one ``rasterize`` call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from splathead.cameras import Camera
from splathead.gaussians import Gaussians
from splathead.raster.interface import ALPHA_MIN, RasterSettings, median_depth, rasterize

OUTPUTS = ("rgb", "depth", "depth_median", "depth_variance", "normal")
"""What :func:`render` can be asked for; alpha always comes along."""


@dataclass
class RenderedMaps:
    """Maps of one view; None for what was not asked for. Lengths in the Gaussians' unit."""

    alpha: Tensor  # [H, W] in 0..1
    radii: Tensor  # [N] px, 0 = not drawn
    rgb: Tensor | None = None  # [3, H, W] over black, i.e. premultiplied with alpha
    depth: Tensor | None = None  # [H, W] expected z = sum(w z) / sum(w); 0 where alpha <= 1/255
    depth_median: Tensor | None = None  # [H, W] z of the splat at which transmittance falls to 0.5; 0 = never
    depth_variance: Tensor | None = None  # [H, W] sum(w (z - depth)^2) / sum(w); 0 where alpha <= 1/255
    normal: Tensor | None = None  # [3, H, W] unit, camera frame, towards the camera; 0 where alpha <= 1/255


def render(
    gaussians: Gaussians,
    camera: Camera,
    *,
    outputs: Sequence[str] = ("rgb", "depth"),
    settings: RasterSettings | None = None,
    backend: str = "auto",
    means2d_offset: Tensor | None = None,
) -> RenderedMaps:
    """Render ``outputs`` (names of :data:`OUTPUTS`) of one view.

    Everything but ``depth_median`` is differentiable; ``means2d_offset`` as in
    :func:`splathead.raster.rasterize`. Errors: ValueError for an unknown output, and those of
    ``rasterize``.
    """
    unknown = [name for name in outputs if name not in OUTPUTS]
    if unknown or not outputs:
        raise ValueError(f"render outputs {list(outputs)}: {unknown or 'none'} not in {list(OUTPUTS)}")
    needs_z = "depth" in outputs or "depth_variance" in outputs
    reference_z = _reference_distance(gaussians, camera) if needs_z else 0.0
    columns = _feature_columns(gaussians, camera, outputs, reference_z)
    if not columns:  # only the median was asked for, which has a pass of its own; alpha needs some column
        columns = {"one": torch.ones_like(gaussians.means[:, :1])}
    features = torch.cat(list(columns.values()), dim=1)
    raster = rasterize(gaussians, features, camera, settings, backend, means2d_offset=means2d_offset)
    widths = [column.shape[1] for column in columns.values()]
    sums = dict(zip(columns, raster.features.split(widths), strict=True))
    maps = RenderedMaps(alpha=raster.alpha, radii=raster.radii)
    covered = raster.alpha > ALPHA_MIN
    if "rgb" in outputs:
        maps.rgb = sums["rgb"]
    if "z" in sums:
        mean_z, variance = _depth_moments(sums, raster.alpha, covered)
        if "depth" in outputs:
            maps.depth = torch.where(covered, mean_z + reference_z, 0.0)
        maps.depth_variance = variance
    if "normal" in outputs:
        maps.normal = torch.where(covered, torch.nn.functional.normalize(sums["normal"], dim=0), 0.0)
    if "depth_median" in outputs:
        maps.depth_median = median_depth(gaussians, camera, settings, backend)
    return maps


def _reference_distance(gaussians: Gaussians, camera: Camera) -> float:
    """Typical z of the Gaussians in front of the camera.

    Depth is accumulated relative to it: sum(w z^2) - sum(w z)^2 would otherwise cancel in float32. It has three digits, so that
    it does not depend on the order in which threads add.
    """
    with torch.no_grad():
        row = torch.as_tensor(camera.rotation[2]).to(gaussians.means)
        z = gaussians.means @ row + float(camera.translation[2])
        z = z[z > 0]
        return float(f"{float(z.mean()):.3g}") if len(z) else 0.0


def _feature_columns(gaussians: Gaussians, camera: Camera, outputs: Sequence[str], reference_z: float) -> dict[str, Tensor]:
    """Per-Gaussian columns [N, k] to composite, by name."""
    means = gaussians.means
    rotation = torch.as_tensor(camera.rotation).to(means)
    position = torch.as_tensor(camera.position).to(means)
    columns = {}
    if "rgb" in outputs:
        columns["rgb"] = gaussians.colours(position)
    if "depth" in outputs or "depth_variance" in outputs:
        z = means @ rotation[2] + (float(camera.translation[2]) - reference_z)
        columns["z"] = z[:, None]
        if "depth_variance" in outputs:
            columns["z_squared"] = (z * z)[:, None]
    if "normal" in outputs:
        columns["normal"] = gaussians.shortest_axis_normals(position) @ rotation.T
    return columns


def _depth_moments(sums: dict[str, Tensor], alpha: Tensor, covered: Tensor) -> tuple[Tensor, Tensor | None]:
    """Mean of z - reference and its variance (None when not composited), both [H, W]."""
    weight = torch.where(covered, alpha, 1.0)
    mean_z = sums["z"][0] / weight
    if "z_squared" not in sums:
        return mean_z, None
    variance = (sums["z_squared"][0] / weight - mean_z * mean_z).clamp_min(0.0)
    return mean_z, torch.where(covered, variance, 0.0)
