"""The reference rasteriser and render() against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from raster_scenes import SCENES

from splathead.cameras import Camera
from splathead.gaussians import Gaussians
from splathead.raster import RasterSettings, available_backends, rasterize, render, resolve_backend
from splathead.raster.reference import discontinuity_mask

EYE = Camera(9, 9, 20.0, 20.0, 4.5, 4.5, np.eye(4))


def stack(depths: list[float], opacities: list[float], sigma: float = 0.5) -> Gaussians:
    """Isotropic splats on the optical axis of ``EYE``; degree-0 colours."""
    count = len(depths)
    means = torch.zeros(count, 3, dtype=torch.float64)
    means[:, 2] = torch.tensor(depths)
    opacity = torch.tensor(opacities, dtype=torch.float64)
    quaternions = torch.tensor([[2.0, 0.0, 0.0, 0.0]], dtype=torch.float64).repeat(count, 1)
    scales = torch.full((count, 3), math.log(sigma), dtype=torch.float64)
    return Gaussians(means, scales, quaternions, opacity.logit(), torch.rand(count, 1, 3, dtype=torch.float64))


def splat_alpha(sigma: float, z: float, opacity: float, pixels_off: float, antialiased: bool = False) -> float:
    """Alpha of an on-axis isotropic splat at a distance in pixels from its centre."""
    projected = (20.0 * sigma / z) ** 2
    if antialiased:
        opacity *= projected / (projected + 0.3)
    return opacity * math.exp(-0.5 * pixels_off**2 / (projected + 0.3))


@pytest.mark.parametrize("antialiased", [False, True])
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_one_splat_is_the_projected_gaussian(backend, antialiased):
    gaussians = stack([10.0], [0.8])
    gaussians = gaussians if backend == "reference" else gaussians.to(dtype=torch.float32)
    features = torch.full((1, 1), 3.0).to(gaussians.means)
    raster = rasterize(gaussians, features, EYE, RasterSettings(antialiased), backend)
    for off in range(3):
        expected = splat_alpha(0.5, 10.0, 0.8, off, antialiased)
        assert raster.alpha[4, 4 + off].item() == pytest.approx(expected, rel=1e-5)
        assert raster.features[0, 4 - off, 4].item() == pytest.approx(3 * expected, rel=1e-5)
    assert raster.alpha[0, 0] == 0  # alpha there is below 1/255


def test_compositing_is_front_to_back_whatever_the_order_of_the_input():
    gaussians = stack([12.0, 10.0], [0.9, 0.5])
    features = torch.tensor([[1.0], [10.0]], dtype=torch.float64)
    raster = rasterize(gaussians, features, EYE, backend="reference")
    near, far = splat_alpha(0.5, 10.0, 0.5, 0), splat_alpha(0.5, 12.0, 0.9, 0)
    assert raster.features[0, 4, 4].item() == pytest.approx(10 * near + (1 - near) * far)
    assert raster.alpha[4, 4].item() == pytest.approx(1 - (1 - near) * (1 - far))


def test_alpha_is_clamped_and_compositing_stops_at_low_transmittance():
    gaussians = stack([10.0, 11.0, 12.0], [1 - 1e-9] * 3, sigma=5.0)
    features = torch.eye(3, dtype=torch.float64)
    raster = rasterize(gaussians, features, EYE, backend="reference")
    # 0.01 and then 0.0001 are left; the latter does not exceed 1e-4 (or by rounding only), so a third adds at most 1e-4.
    assert raster.features[:2, 4, 4].tolist() == pytest.approx([0.99, 0.0099])
    assert raster.features[2, 4, 4] <= 1.0001e-4


def test_expected_median_and_variance_of_depth():
    gaussians = stack([10.0, 12.0], [0.4, 0.9])
    maps = render(gaussians, EYE, outputs=("depth", "depth_median", "depth_variance"), backend="reference")
    near, far = splat_alpha(0.5, 10.0, 0.4, 0), splat_alpha(0.5, 12.0, 0.9, 0) * (1 - splat_alpha(0.5, 10.0, 0.4, 0))
    mean = (10 * near + 12 * far) / (near + far)
    variance = (near * (10 - mean) ** 2 + far * (12 - mean) ** 2) / (near + far)
    assert maps.depth[4, 4].item() == pytest.approx(mean)
    assert maps.depth_variance[4, 4].item() == pytest.approx(variance)
    assert maps.depth_median[4, 4] == 12.0  # 0.6 is left behind the first splat
    assert maps.depth[0, 0] == 0 and maps.depth_median[0, 0] == 0 and maps.rgb is None


def test_variance_of_a_thin_layer_does_not_cancel_in_float32():
    gaussians = stack([500.0, 500.02], [0.5, 0.99], sigma=20.0).to(dtype=torch.float32)
    for backend in ("reference", "cpu"):
        maps = render(gaussians, EYE, outputs=("depth_variance",), backend=backend)
        assert maps.depth_variance[4, 4].item() == pytest.approx(1e-4, rel=0.05)


def test_normal_is_the_shortest_axis_towards_the_camera():
    gaussians = stack([10.0], [0.9])
    gaussians.log_scales[0, 2] = -6.0
    maps = render(gaussians, EYE, outputs=("normal",), backend="reference")
    assert maps.normal[:, 4, 4].tolist() == pytest.approx([0.0, 0.0, -1.0])
    assert not maps.normal[:, 0, 0].any()


def test_nothing_in_front_of_the_near_plane_is_drawn():
    gaussians = stack([0.19, -3.0], [0.9, 0.9])
    raster = rasterize(gaussians, torch.ones(2, 1, dtype=torch.float64), EYE, backend="reference")
    assert not raster.alpha.any() and not raster.radii.any()
    nearer = rasterize(gaussians, torch.ones(2, 1, dtype=torch.float64), EYE, RasterSettings(near=0.1), "reference")
    assert nearer.alpha.any()


@pytest.mark.parametrize("antialiased", [False, True])
def test_reference_gradients_match_finite_differences(antialiased):
    gaussians = stack([10.0, 11.0], [0.6, 0.7], sigma=2.0)  # wide: no pixel is near the 1/255 threshold
    gaussians.means += torch.tensor([[0.3, -0.2, 0.0], [-0.4, 0.1, 0.0]])
    gaussians.quaternions += torch.tensor([[0.0, 0.5, -0.3, 0.2], [0.1, -0.7, 0.4, 0.9]])
    gaussians.log_scales += torch.tensor([[0.0, 0.3, -0.3], [0.2, 0.0, -0.1]])
    features = torch.rand(2, 2, dtype=torch.float64)
    offset = torch.zeros(2, 2, dtype=torch.float64)

    def function(means, log_scales, quaternions, logits, features, offset):
        moved = Gaussians(means, log_scales, quaternions, logits, gaussians.sh)
        raster = rasterize(moved, features, EYE, RasterSettings(antialiased), "reference", means2d_offset=offset)
        return raster.features, raster.alpha

    inputs = (gaussians.means, gaussians.log_scales, gaussians.quaternions, gaussians.opacity_logits, features, offset)
    assert torch.autograd.gradcheck(function, [t.clone().requires_grad_() for t in inputs], atol=1e-6, fast_mode=True)


def test_discontinuity_mask_finds_planted_pixels():
    sigma2 = (20.0 * 0.5 / 10.0) ** 2 + 0.3
    opacity = math.exp(0.5 * 4 / sigma2) / 255  # alpha is exactly 1/255 two pixels from the centre
    mask = discontinuity_mask(stack([10.0], [opacity]), EYE, RasterSettings())
    assert mask.sum() == 4 and mask[4, 2] and mask[4, 6] and mask[2, 4] and mask[6, 4]


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_wrong_input_is_refused(backend):
    gaussians, view = SCENES["head"]
    features = torch.rand(len(gaussians), 3)
    with pytest.raises(ValueError, match=r"features have shape \(299, 3\), expected \(300"):
        rasterize(gaussians, features[:-1], view, backend=backend)
    with pytest.raises(ValueError, match="means2d_offset"):
        rasterize(gaussians, features, view, backend=backend, means2d_offset=torch.zeros(5, 2))
    with pytest.raises(ValueError, match="float64"):
        rasterize(gaussians, features.double(), view, backend=backend)
    for bad in (float("nan"), float("inf")):
        broken = gaussians.detach().select(torch.arange(300))
        broken.log_scales[17, 1] = bad
        with pytest.raises(ValueError, match=r"log_scales: 1 of 300 Gaussians hold NaN or infinity .*index 17"):
            rasterize(broken, features, view, backend=backend)
    with pytest.raises(ValueError, match="colour"):
        render(gaussians, view, outputs=("colour",), backend=backend)


def test_settings_are_checked():
    for bad in ({"near": 0.0}, {"near": float("nan")}, {"dilation": -1.0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            RasterSettings(**bad)


def test_backends_are_named():
    usable = available_backends()
    assert usable["reference"] is None and usable["cpu"] is None
    assert resolve_backend("auto", "cpu") == "cpu"
    assert resolve_backend("reference", "cpu") == "reference"
    with pytest.raises(ValueError, match="unknown raster backend 'vulkan'"):
        resolve_backend("vulkan", "cpu")
    for name, reason in usable.items():
        if reason is not None:
            with pytest.raises(RuntimeError, match=name):
                resolve_backend(name, "cpu")
