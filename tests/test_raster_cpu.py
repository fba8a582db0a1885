"""The CPU kernels against the float64 reference: values, gradients, culling, channel counts."""

from __future__ import annotations

import pytest
import torch
from raster_scenes import PARAMETERS, SCENES, camera, leaf, leaves, random_gaussians

from splathead.raster import OUTPUTS, RasterSettings, rasterize, render
from splathead.raster.interface import median_depth
from splathead.raster.reference import discontinuity_mask

TOLERANCE = 2e-5  # of the array's maximum; measured: 1e-6 to 7e-6, needles included
MARGINS = {"alpha_margin": 3e-7, "transmittance_margin": 1e-8}  # far stricter than the 1e-5 and 1e-6 that we must reach


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference over the expected array's largest magnitude."""
    if expected.numel() == 0:
        return 0.0
    return float((actual.double() - expected).abs().max() / expected.abs().max().clamp_min(1e-12))


def values_and_gradients(gaussians, features, view, settings, backend, dtype, keep):
    """Everything differentiable about one rasterize call; pixels outside ``keep`` [H, W] get no gradient."""
    gaussians, features = leaves(gaussians, dtype), leaf(features, dtype)
    offset = torch.zeros(len(gaussians), 2, dtype=dtype, requires_grad=True)
    raster = rasterize(gaussians, features, view, settings, backend, means2d_offset=offset)
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(features.shape[1] + 1, view.height, view.width, generator=generator).to(dtype) * keep
    (torch.cat([raster.features, raster.alpha[None]]) * weights).sum().backward()
    values = {"features": raster.features.detach(), "alpha": raster.alpha.detach()}
    gradients = {name: getattr(gaussians, name).grad for name in PARAMETERS}
    gradients.update(features=features.grad, means2d_offset=offset.grad)
    return values, gradients, raster.radii


@pytest.mark.parametrize("antialiased", [False, True], ids=["classic", "antialiased"])
@pytest.mark.parametrize("name", SCENES)
def test_values_and_gradients_match_float64_reference(name, antialiased):
    gaussians, view = SCENES[name]
    settings = RasterSettings(antialiased=antialiased)
    features = torch.randn(len(gaussians), 4, generator=torch.Generator().manual_seed(0))
    keep = ~discontinuity_mask(gaussians.to(dtype=torch.float64), view, settings, **MARGINS)
    assert (~keep).float().mean() <= 1e-3
    common = (gaussians, features, view, settings)
    values, gradients, radii = values_and_gradients(*common, "cpu", torch.float32, keep)
    expected, expected_gradients, expected_radii = values_and_gradients(*common, "reference", torch.float64, keep)
    for key, value in values.items():
        assert relative_error(value * keep, expected[key] * keep) <= TOLERANCE, key
    for key, gradient in gradients.items():
        assert gradient.isfinite().all(), key
        assert relative_error(gradient, expected_gradients[key]) <= TOLERANCE, key
    assert relative_error(radii, expected_radii) <= TOLERANCE
    assert torch.equal(radii > 0, expected_radii > 0)
    if name == "none":
        assert not values["alpha"].any() and not values["features"].any()
    else:
        assert values["alpha"].max() > 0.02, "the scene must show something"


@pytest.mark.parametrize("name", ["head", "opaque", "needles", "wide", "none"])
def test_median_depth_matches_reference(name):
    gaussians, view = SCENES[name]
    expected = median_depth(gaussians.to(dtype=torch.float64), view, backend="reference")
    actual = median_depth(gaussians, view, backend="cpu")
    # A transmittance within rounding of 0.5 may choose the next splat: allow one pixel in a thousand.
    wrong = (actual - expected).abs() > 1e-3
    assert wrong.float().mean() <= 1e-3
    assert (expected > 0).any() == (name != "none")


@pytest.mark.parametrize("count", [1, 3, 8, 11])
def test_any_number_of_feature_channels(count):
    gaussians, view = SCENES["head"]
    features = torch.randn(len(gaussians), count, generator=torch.Generator().manual_seed(2))
    keep = torch.ones(view.height, view.width)
    common = (gaussians, features, view, RasterSettings())
    values, gradients, _ = values_and_gradients(*common, "cpu", torch.float32, keep)
    expected, expected_gradients, _ = values_and_gradients(*common, "reference", torch.float64, keep)
    assert values["features"].shape == (count, view.height, view.width)
    assert relative_error(values["features"], expected["features"]) <= TOLERANCE
    assert relative_error(gradients["means"], expected_gradients["means"]) <= TOLERANCE
    assert relative_error(gradients["features"], expected_gradients["features"]) <= TOLERANCE


def test_larger_image_than_one_tile_row_per_thread():
    gaussians = random_gaussians(800, scale=(1.0, 5.0), seed=11)
    view, settings = camera(140, 70), RasterSettings()
    features = torch.rand(len(gaussians), 3)
    keep = ~discontinuity_mask(gaussians.to(dtype=torch.float64), view, settings, **MARGINS)
    assert (~keep).float().mean() <= 1e-3
    with torch.no_grad():
        actual = rasterize(gaussians, features, view, settings, "cpu")
        expected = rasterize(gaussians.to(dtype=torch.float64), features.double(), view, settings, "reference")
    assert relative_error(actual.features * keep, expected.features * keep) <= TOLERANCE


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_shifting_the_principal_point_shifts_the_image(backend):
    gaussians = random_gaussians(100, radii=(40.0, 50.0, 40.0))
    columns, rows = 7, -4
    still = render(gaussians, camera(64, 64), outputs=("rgb", "depth"), backend=backend)
    moved = render(gaussians, camera(64, 64, shift=(columns, rows)), outputs=("rgb", "depth"), backend=backend)
    for name in ("rgb", "alpha", "depth"):
        before, after = getattr(still, name), getattr(moved, name)
        difference = (after[..., :rows, columns:] - before[..., -rows:, :-columns]).abs() / before.abs().max()
        assert difference.quantile(0.999) <= 1e-5, name  # the rest: pixels at the 1/255 threshold
    assert (still.alpha > 0.5).float().mean() > 0.02


def test_maps_match_reference_maps():
    gaussians, view = SCENES["head"]
    settings = RasterSettings(antialiased=True)
    actual = render(gaussians, view, outputs=OUTPUTS, settings=settings, backend="cpu")
    expected = render(gaussians.to(dtype=torch.float64), view, outputs=OUTPUTS, settings=settings, backend="reference")
    inside = expected.alpha > 0.1
    assert inside.float().mean() > 0.1
    for name, tolerance in {"rgb": 1e-4, "depth": 1e-5, "depth_median": 1e-5, "depth_variance": 1e-3, "normal": 1e-3}.items():
        error = (getattr(actual, name) - getattr(expected, name)).abs() * inside / getattr(expected, name).abs().max()
        assert error.quantile(0.998) <= tolerance, name
