"""The `inria` backend against recorded APIs: a stand-in extension that renders with the reference rasteriser.

The stand-in sees only what the real extension sees (transposed matrices, tangents, three channels), so a wrong
transpose, principal point or gradient unit shows. The real extension is compared on a GPU (eval/LOG.md).
"""

from __future__ import annotations

import sys
import types
from collections import namedtuple

import numpy as np
import pytest
import torch

from splathead.cameras import Camera, look_at
from splathead.gaussians import Gaussians
from splathead.raster import RasterSettings, inria, reference

FIELDS = "image_height image_width tanfovx tanfovy bg scale_modifier viewmatrix projmatrix sh_degree campos prefiltered debug"
GENERATIONS = {
    "original": (FIELDS, lambda image, radii, z: (image, radii)),
    "depth fork": (FIELDS, lambda image, radii, z: (image, radii, z)),
    "depth and alpha fork": (FIELDS, lambda image, radii, z: (image, radii, z, z)),
    "current": (f"{FIELDS} antialiasing", lambda image, radii, z: (image, radii, 1 / (z + 1))),
}


def camera_of(settings) -> Camera:
    """What the CUDA code knows of the camera, read back from the settings it is given."""
    view = settings.viewmatrix.double().T
    clip_from_cam = settings.projmatrix.double().T @ torch.linalg.inv(view)
    width, height = settings.image_width, settings.image_height
    fx, fy = width / (2 * settings.tanfovx), height / (2 * settings.tanfovy)
    assert float(clip_from_cam[0, 0]) == pytest.approx(2 * fx / width, rel=1e-4)
    cx, cy = (float(clip_from_cam[0, 2]) + 1) * width / 2, (float(clip_from_cam[1, 2]) + 1) * height / 2
    np.testing.assert_allclose(settings.campos.numpy(), -(view[:3, :3].T @ view[:3, 3]).numpy(), atol=1e-4)
    rotation = view[:3, :3]
    left, _, right = torch.linalg.svd(rotation)
    view[:3, :3] = left @ right  # float32 matrices are rigid to 1e-7 only
    return Camera(width, height, fx, fy, cx, cy, view.numpy())


@pytest.fixture(params=GENERATIONS)
def extension(request, monkeypatch):
    fields, results = GENERATIONS[request.param]
    module = types.ModuleType("diff_gaussian_rasterization")
    module.GaussianRasterizationSettings = namedtuple("GaussianRasterizationSettings", fields)

    class GaussianRasterizer:
        def __init__(self, raster_settings):
            self.settings = raster_settings

        def __call__(self, means3D, means2D, opacities, colors_precomp, scales, rotations):
            assert colors_precomp.shape[1] == 3 and means2D.shape == means3D.shape and opacities.shape[1] == 1
            torch.testing.assert_close(rotations.norm(dim=1), torch.ones(len(rotations)))
            gaussians = Gaussians(means3D, scales.log(), rotations, opacities[:, 0].logit(1e-9), colors_precomp[:, None])
            camera = camera_of(self.settings)
            offset = means2D[:, :2] * torch.tensor([camera.width / 2, camera.height / 2])
            settings = RasterSettings(antialiased=getattr(self.settings, "antialiasing", False))
            raster = reference.rasterize(gaussians, colors_precomp, camera, settings, offset)
            return results(raster.features, raster.radii, raster.alpha)

    module.GaussianRasterizer = GaussianRasterizer
    module.__spec__ = types.SimpleNamespace(name=module.__name__)
    monkeypatch.setitem(sys.modules, "diff_gaussian_rasterization", module)
    return module


def scene(count=12):
    g = torch.Generator().manual_seed(0)
    gaussians = Gaussians(
        torch.randn(count, 3, generator=g) * 0.4,
        torch.randn(count, 3, generator=g) * 0.3 - 2,
        torch.randn(count, 4, generator=g),
        torch.randn(count, generator=g) + 1,
        torch.randn(count, 1, 3, generator=g),
    )
    pose = look_at(np.array([0.5, 0.3, 3.0]), np.zeros(3), np.array([0.0, 1, 0]))
    return gaussians, Camera(24, 20, 30.0, 28.0, 9.0, 12.5, pose)


def test_every_generation_renders_features_depth_and_alpha(extension):
    gaussians, camera = scene()
    features = torch.randn(len(gaussians), 7)
    ours = inria.rasterize(gaussians, features, camera, RasterSettings(), None)
    expected = reference.rasterize(gaussians, features, camera, RasterSettings(), None)
    torch.testing.assert_close(ours.features, expected.features, atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(ours.alpha, expected.alpha, atol=2e-4, rtol=1e-3)
    assert float(ours.alpha.max()) > 0.5


def test_gradient_of_the_projected_centre_is_in_pixels(extension):
    gaussians, camera = scene()
    features = torch.randn(len(gaussians), 3)
    gradients = []
    for backend in (inria, reference):
        offset = torch.zeros(len(gaussians), 2, requires_grad=True)
        backend.rasterize(gaussians, features, camera, RasterSettings(), offset).features.square().sum().backward()
        gradients.append(offset.grad)
    assert gradients[1].abs().max() > 0
    torch.testing.assert_close(gradients[0], gradients[1], rtol=2e-3, atol=2e-4 * float(gradients[1].abs().max()))


def test_median_depth_is_that_of_the_reference(extension, monkeypatch):
    monkeypatch.setattr(inria, "MEDIAN_BINS", 48)  # many more bins than Gaussians, so exact
    gaussians, camera = scene()
    ours = inria.median_depth(gaussians, camera, RasterSettings())
    expected = reference.median_depth(gaussians, camera, RasterSettings())
    assert (expected > 0).any()
    torch.testing.assert_close(ours, expected, atol=2e-3, rtol=1e-3)


def test_antialiasing_needs_the_current_generation(extension):
    gaussians, camera = scene()
    features = torch.ones(len(gaussians), 1)
    settings = RasterSettings(antialiased=True)
    if "antialiasing" in extension.GaussianRasterizationSettings._fields:
        ours = inria.rasterize(gaussians, features, camera, settings, None)
        expected = reference.rasterize(gaussians, features, camera, settings, None)
        torch.testing.assert_close(ours.alpha, expected.alpha, atol=2e-4, rtol=1e-3)
    else:
        with pytest.raises(RuntimeError, match="cannot render antialiased"):
            inria.rasterize(gaussians, features, camera, settings, None)


def test_near_plane(extension):
    gaussians, camera = scene()
    features = torch.ones(len(gaussians), 1)
    row = torch.from_numpy(camera.world_to_cam[2]).float()
    near = float((gaussians.means @ row[:3] + row[3]).median())
    ours = inria.rasterize(gaussians, features, camera, RasterSettings(near=near), None)
    expected = reference.rasterize(gaussians, features, camera, RasterSettings(near=near), None)
    torch.testing.assert_close(ours.alpha, expected.alpha, atol=2e-4, rtol=1e-3)
    with pytest.raises(ValueError, match="compiled in"):
        inria.rasterize(gaussians, features, camera, RasterSettings(near=0.01), None)


def test_unknown_fork_is_named(extension, monkeypatch):
    fields = f"{FIELDS} kernel_size subpixel_offset"
    monkeypatch.setattr(extension, "GaussianRasterizationSettings", namedtuple("S", fields))
    gaussians, camera = scene()
    with pytest.raises(RuntimeError, match="kernel_size"):
        inria.rasterize(gaussians, torch.ones(len(gaussians), 1), camera, RasterSettings(), None)


def test_missing_extension_names_the_remedy():
    if inria._module_name() is None:
        assert "pip install gaussian-splatting" in inria.unavailable_reason()
