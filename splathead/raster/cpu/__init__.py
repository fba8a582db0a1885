"""The CPU backend: numba kernels, forward and analytic backward, float32.

``project`` (3D Gaussians to splats) -> ``binning`` (depth order, tile lists) -> ``composite`` (pixels);
``composite_backward`` and ``project_backward`` undo the ends, ``autograd`` ties them to torch. Kernels
are compiled on first use and cached on disk (``jit``), run on a thread pool (``parallel``) and say
explicitly what runs in SIMD lanes (``simd``).
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

from splathead.cameras import Camera
from splathead.gaussians import Gaussians
from splathead.raster.interface import Raster, RasterSettings


def unavailable_reason() -> str | None:
    """None where numba is installed."""
    return None if find_spec("numba") else "the package numba is not installed (pip install numba)"


def _parameters(gaussians: Gaussians) -> tuple[Tensor, ...]:
    """Raw parameter tensors on the CPU; differentiably moved there from another device."""
    tensors = (gaussians.means, gaussians.log_scales, gaussians.quaternions, gaussians.opacity_logits)
    if gaussians.means.dtype != torch.float32:
        raise ValueError(f"the cpu raster backend takes float32, got {gaussians.means.dtype} (backend='reference' takes it)")
    return tuple(tensor.cpu() for tensor in tensors)


def rasterize(
    gaussians: Gaussians, features: Tensor, camera: Camera, settings: RasterSettings, means2d_offset: Tensor | None
) -> Raster:
    """See :func:`splathead.raster.rasterize`. More features than kernels are compiled for take several passes."""
    from splathead.raster.cpu.autograd import Rasterize
    from splathead.raster.cpu.layout import CHANNEL_COUNTS

    parameters, device = _parameters(gaussians), gaussians.means.device
    offset = None if means2d_offset is None else means2d_offset.cpu()
    passes = [
        Rasterize.apply(*parameters, columns, offset, camera, settings)
        for columns in features.cpu().split(CHANNEL_COUNTS[-1], dim=1)
    ]
    images, alphas, radii = zip(*passes, strict=True)
    image = images[0] if len(images) == 1 else torch.cat(images)
    return Raster(image.to(device), alphas[0].to(device), radii[0].to(device))


def median_depth(gaussians: Gaussians, camera: Camera, settings: RasterSettings) -> Tensor:
    """See :func:`splathead.raster.interface.median_depth`."""
    from splathead.raster.cpu.autograd import rasterize_median_depth
    from splathead.raster.cpu.layout import GaussianArrays

    arrays = GaussianArrays(*(tensor.detach().contiguous().numpy() for tensor in _parameters(gaussians)))
    return torch.from_numpy(rasterize_median_depth(arrays, camera, settings)).to(gaussians.means.device)
