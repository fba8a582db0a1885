"""The ``gsplat`` backend: nerfstudio's CUDA kernels (Apache-2.0), used below its ``rasterization`` wrapper.

Differences from the reference that stay: alpha is clamped to 0.999 instead of 0.99, and the
projection's Jacobian margin follows gsplat. Everything agrees within 1e-2 (measured in eval/LOG.md).
"""

from __future__ import annotations

import importlib.util
import shutil
from typing import NamedTuple

import torch
from torch import Tensor

from splathead.cameras import Camera
from splathead.gaussians import Gaussians
from splathead.raster.interface import Raster, RasterSettings

TILE_SIZE = 16
KERNEL_CHANNELS = 32
"""Channels composited in one pass; more are split."""

MEDIAN_BATCH = 8
"""Batches of splats per step of the median search (gsplat counts batches of TILE_SIZE^2 splats)."""


def unavailable_reason() -> str | None:
    """Why gsplat cannot run here and what to do, or None."""
    if importlib.util.find_spec("gsplat") is None:
        return "the package gsplat is not installed; pip install -r requirements-gpu.txt"
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    if shutil.which("nvcc") is None and not _compiled_extension_present():
        return (
            "gsplat compiles its kernels on first use and nvcc is not on the PATH; install the CUDA toolkit "
            f"{torch.version.cuda} (or a gsplat wheel with compiled kernels)"
        )
    return None


def _compiled_extension_present() -> bool:
    return importlib.util.find_spec("gsplat.csrc") is not None


class _Projection(NamedTuple):
    """One camera's projected splats; a leading dimension of 1 is gsplat's camera axis."""

    radii: Tensor  # [1, N, 2] int
    means2d: Tensor  # [1, N, 2] px
    z: Tensor  # [1, N]
    conics: Tensor  # [1, N, 3]
    opacities: Tensor  # [1, N]
    tile_offsets: Tensor  # [1, rows, columns]
    splat_ids: Tensor  # [pairs]


def _project(gaussians: Gaussians, camera: Camera, settings: RasterSettings, means2d_offset: Tensor | None) -> _Projection:
    import gsplat

    def on_device(array: object) -> Tensor:
        return torch.as_tensor(array, dtype=torch.float32).to(gaussians.means.device)[None]

    opacities = gaussians.opacities
    radii, means2d, z, conics, compensations = gsplat.fully_fused_projection(
        gaussians.means, None, gaussians.quaternions, gaussians.scales,
        on_device(camera.world_to_cam), on_device(camera.K), camera.width, camera.height,
        eps2d=settings.dilation, near_plane=settings.near, packed=False,
        calc_compensations=settings.antialiased, opacities=opacities,
    )  # fmt: skip
    opacities = opacities[None] if compensations is None else opacities[None] * compensations
    if means2d_offset is not None:
        means2d = means2d + means2d_offset[None]
    columns, rows = -(-camera.width // TILE_SIZE), -(-camera.height // TILE_SIZE)
    _, pair_keys, splat_ids = gsplat.isect_tiles(means2d, radii, z, TILE_SIZE, columns, rows, packed=False)
    offsets = gsplat.isect_offset_encode(pair_keys, 1, columns, rows).reshape(1, rows, columns)
    return _Projection(radii, means2d, z, conics, opacities.contiguous(), offsets, splat_ids)


def rasterize(
    gaussians: Gaussians, features: Tensor, camera: Camera, settings: RasterSettings, means2d_offset: Tensor | None
) -> Raster:
    """See :func:`splathead.raster.rasterize`; float32 on CUDA."""
    import gsplat

    projection = _project(gaussians, camera, settings, means2d_offset)
    parts, alpha = [], None
    for chunk in features.split(KERNEL_CHANNELS, dim=1):
        sums, alpha = gsplat.rasterize_to_pixels(
            projection.means2d, projection.conics, chunk[None].contiguous(), projection.opacities,
            camera.width, camera.height, TILE_SIZE, projection.tile_offsets, projection.splat_ids,
        )  # fmt: skip
        parts.append(sums[0].permute(2, 0, 1))
    image = parts[0] if len(parts) == 1 else torch.cat(parts)
    return Raster(image, alpha[0, ..., 0], projection.radii[0].amax(-1).to(image.dtype))


def median_depth(gaussians: Gaussians, camera: Camera, settings: RasterSettings) -> Tensor:
    """See :func:`splathead.raster.interface.median_depth`.

    gsplat has no such kernel: the splats of every pixel are listed front to back in batches and their
    alphas accumulated until every pixel is past the median or has no splat left.
    """
    import gsplat

    projection = _project(gaussians, camera, settings, None)
    height, width = camera.height, camera.width
    pixels = height * width
    device = gaussians.means.device
    log_transmittance = torch.zeros(pixels, device=device)
    median = torch.zeros(pixels, device=device)
    counts = torch.diff(projection.tile_offsets.flatten(), append=torch.tensor([len(projection.splat_ids)], device=device))
    batches = -(-int(counts.max()) // TILE_SIZE**2) if len(projection.splat_ids) else 0
    for start in range(0, batches, MEDIAN_BATCH):
        splats, pixel, _ = gsplat.rasterize_to_indices_in_range(
            start, start + MEDIAN_BATCH, log_transmittance.exp().view(1, height, width), projection.means2d,
            projection.conics, projection.opacities, width, height, TILE_SIZE, projection.tile_offsets, projection.splat_ids,
        )  # fmt: skip
        if len(splats):
            _advance_median(projection, splats, pixel, width, log_transmittance, median)
    return median.view(height, width)


def _advance_median(
    projection: _Projection, splats: Tensor, pixel: Tensor, width: int, log_transmittance: Tensor, median: Tensor
) -> None:
    """Composite one batch of (splat, pixel) pairs, sorted by pixel and front to back, in place."""
    delta_x = pixel % width + 0.5 - projection.means2d[0, splats, 0]
    delta_y = torch.div(pixel, width, rounding_mode="floor") + 0.5 - projection.means2d[0, splats, 1]
    a, b, c = projection.conics[0, splats].unbind(-1)
    exponent = 0.5 * (a * delta_x**2 + c * delta_y**2) + b * delta_x * delta_y
    alpha = (projection.opacities[0, splats] * torch.exp(-exponent)).clamp_max(0.999)
    # running sums restart at each pixel; float64 because the sum runs over the whole image
    log_factor = torch.log1p(-alpha.double())
    running = torch.cumsum(log_factor, 0)
    first = torch.ones_like(pixel, dtype=torch.bool)
    first[1:] = pixel[1:] != pixel[:-1]
    starts = first.nonzero()[:, 0]
    segment = torch.cumsum(first, 0) - 1
    before_segment = (running - log_factor)[starts][segment]
    after = log_transmittance[pixel].double() + running - before_segment
    crosses = (after <= -0.6931471805599453) & (after - log_factor > -0.6931471805599453)
    median[pixel[crosses]] = projection.z[0, splats[crosses]]
    ends = torch.cat([starts[1:], torch.tensor([len(pixel)], device=pixel.device)]) - 1
    log_transmittance[pixel[ends]] = after[ends].float()
