"""The ``inria`` backend: the CUDA extension ``diff_gaussian_rasterization`` (GRAPHDECO, non-commercial licence).

Three generations of its Python API are in use, told apart by the settings' fields and the results:

* *original*: settings without ``antialiasing``; returns (colour, radii);
* *depth fork*: the same settings; returns (colour, radii, depth[, alpha]);
* *current*: settings with ``antialiasing``; returns (colour, radii, inverse depth).

Only colour is used of any of them: features go through ``colors_precomp``, three a pass, and alpha is a
feature of ones, so that all generations mean the same. Matrices are passed transposed (row vectors).
"""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

import torch
from torch import Tensor

from splathead.cameras import Camera
from splathead.gaussians import Gaussians
from splathead.raster.interface import Raster, RasterSettings

MODULE_NAMES = ("diff_gaussian_rasterization", "gaussian_splatting.diff_gaussian_rasterization")
CHANNELS = 3
NEAR, DILATION = 0.2, 0.3
"""Compiled into the extension."""

ZFAR = 1e4
MEDIAN_BINS, BINS_PER_PASS = 128, 16
KNOWN_FIELDS = {
    "image_height", "image_width", "tanfovx", "tanfovy", "bg", "scale_modifier", "viewmatrix", "projmatrix",
    "sh_degree", "campos", "prefiltered", "debug", "antialiasing",
}  # fmt: skip


def unavailable_reason() -> str | None:
    """Why the extension cannot run here and what to do, or None."""
    if _module_name() is None:
        return (
            "the extension diff_gaussian_rasterization is not installed (see external/README.md; on Python 3.10 and "
            "3.11: pip install gaussian-splatting)"
        )
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    return None


def _module_name() -> str | None:
    for name in MODULE_NAMES:
        try:
            if importlib.util.find_spec(name) is not None:
                return name
        except ModuleNotFoundError:  # the parent package is not there
            continue
    return None


def _extension() -> ModuleType:
    name = _module_name()
    if name is None:
        raise RuntimeError(f"raster backend 'inria' cannot be used: {unavailable_reason()}")
    module = importlib.import_module(name)
    unknown = set(module.GaussianRasterizationSettings._fields) - KNOWN_FIELDS
    if unknown:
        raise RuntimeError(
            f"{name}: settings {sorted(unknown)} belong to a fork that this backend does not know; see external/README.md"
        )
    return module


def api_generation() -> str:
    """"current" when the installed extension knows antialiasing, else "original or depth fork"."""
    fields = _extension().GaussianRasterizationSettings._fields
    return "current" if "antialiasing" in fields else "original or depth fork"


def projection_matrix(camera: Camera) -> Tensor:
    """Off-centre OpenGL-like frustum [4, 4] (column vectors, +z forward) with the camera's principal point."""
    w, h = camera.width, camera.height
    matrix = torch.zeros(4, 4, dtype=torch.float64)
    matrix[0, 0], matrix[0, 2] = 2 * camera.fx / w, 2 * camera.cx / w - 1
    matrix[1, 1], matrix[1, 2] = 2 * camera.fy / h, 2 * camera.cy / h - 1
    matrix[2, 2], matrix[2, 3] = ZFAR / (ZFAR - NEAR), -ZFAR * NEAR / (ZFAR - NEAR)
    matrix[3, 2] = 1.0
    return matrix


def _settings(module: ModuleType, camera: Camera, settings: RasterSettings, device: torch.device) -> object:
    if settings.near < NEAR or settings.dilation != DILATION:
        raise ValueError(
            f"backend 'inria' has near plane {NEAR} and dilation {DILATION} compiled in, asked for near {settings.near} "
            f"(expected at least {NEAR}) and dilation {settings.dilation}"
        )
    world_to_cam = torch.from_numpy(camera.world_to_cam)

    def on_device(tensor: Tensor) -> Tensor:
        return tensor.to(device=device, dtype=torch.float32).contiguous()

    values = {
        "image_height": camera.height, "image_width": camera.width,
        "tanfovx": camera.width / (2 * camera.fx), "tanfovy": camera.height / (2 * camera.fy),
        "bg": torch.zeros(CHANNELS, device=device), "scale_modifier": 1.0,
        "viewmatrix": on_device(world_to_cam.T), "projmatrix": on_device((projection_matrix(camera) @ world_to_cam).T),
        "sh_degree": 0, "campos": on_device(torch.from_numpy(camera.position)), "prefiltered": False, "debug": False,
    }  # fmt: skip
    fields = module.GaussianRasterizationSettings._fields
    if "antialiasing" in fields:
        values["antialiasing"] = settings.antialiased
    elif settings.antialiased:
        raise RuntimeError(
            f"{module.__name__} is of the {api_generation()} generation, which cannot render antialiased; install the current "
            "one or use the backend 'gsplat'"
        )
    return module.GaussianRasterizationSettings(**values)


def rasterize(
    gaussians: Gaussians, features: Tensor, camera: Camera, settings: RasterSettings, means2d_offset: Tensor | None
) -> Raster:
    """See :func:`splathead.raster.rasterize`; float32 on CUDA. Radii are the extension's (3 sigma, px)."""
    module = _extension()
    rasterizer = module.GaussianRasterizer(_settings(module, camera, settings, features.device))
    opacities = gaussians.opacities
    if settings.near > NEAR:
        row = torch.from_numpy(camera.world_to_cam[2]).to(gaussians.means)
        opacities = opacities * (gaussians.means.detach() @ row[:3] + row[3] > settings.near)
    means2d = torch.zeros_like(gaussians.means)
    if means2d_offset is not None:
        # the extension's gradient is with respect to normalised device coordinates, two units an image side
        to_ndc = torch.tensor([2 / camera.width, 2 / camera.height]).to(means2d_offset)
        means2d = torch.cat([means2d_offset * to_ndc, means2d[:, :1]], dim=1)
    quaternions = torch.nn.functional.normalize(gaussians.quaternions, dim=1)
    columns = torch.cat([features, torch.ones_like(features[:, :1])], dim=1)
    parts, radii = [], None
    for chunk in columns.split(CHANNELS, dim=1):
        padded = torch.nn.functional.pad(chunk, (0, CHANNELS - chunk.shape[1]))
        image, radii, *_ = rasterizer(
            means3D=gaussians.means, means2D=means2d, opacities=opacities[:, None], colors_precomp=padded,
            scales=gaussians.scales, rotations=quaternions,
        )  # fmt: skip
        parts.append(image[: chunk.shape[1]])
    sums = torch.cat(parts)
    return Raster(sums[:-1], sums[-1], radii.to(sums.dtype))


def median_depth(gaussians: Gaussians, camera: Camera, settings: RasterSettings) -> Tensor:
    """See :func:`splathead.raster.interface.median_depth`, to within one of ``MEDIAN_BINS`` depth bins.

    The extension has no such output. Splats are sorted into depth bins of equal count; compositing
    bin membership as features gives every pixel's weight per bin, and the mean z of the bin in which
    the accumulated weight reaches 0.5 is the median.
    """
    row = torch.from_numpy(camera.world_to_cam[2]).to(gaussians.means)
    z = gaussians.means @ row[:3] + row[3]
    visible = z > settings.near
    if not visible.any():
        return torch.zeros(camera.height, camera.width, device=z.device)
    order = z[visible].sort().values
    edges = order[torch.linspace(0, len(order) - 1, MEDIAN_BINS + 1, device=z.device).round().long()]
    bins = torch.bucketize(z, edges[1:-1].contiguous())
    weight_below = torch.zeros(camera.height, camera.width, device=z.device)
    median = torch.zeros_like(weight_below)
    for start in range(0, MEDIAN_BINS, BINS_PER_PASS):
        members = torch.stack([bins == k for k in range(start, min(start + BINS_PER_PASS, MEDIAN_BINS))], dim=1)
        features = torch.cat([members, members * z[:, None]], dim=1).to(z.dtype)
        sums = rasterize(gaussians, features, camera, settings, None).features
        count = members.shape[1]
        for weight, weighted_z in zip(sums[:count], sums[count:], strict=True):
            crosses = (weight_below < 0.5) & (weight_below + weight >= 0.5)
            median = torch.where(crosses, weighted_z / weight.clamp_min(1e-8), median)
            weight_below = weight_below + weight
    return median
