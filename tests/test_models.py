"""Networks, interpolation baselines and losses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from splathead.config import ModelConfig
from splathead.models import (
    architecture_for,
    architecture_from_dict,
    architecture_to_dict,
    create_network,
    parameter_count,
)
from splathead.models.interpolation import fit_offset, upsample, upsample_depth, upsample_mask
from splathead.models.unet import UNet, UNetArchitecture, create
from splathead.training.losses import depth_loss, masked_gradient_l1, masked_l1

pytestmark = pytest.mark.usefixtures("single_thread")


def small_unet(seed: int = 0, **options) -> UNet:
    torch.manual_seed(seed)
    return create(UNetArchitecture(**{"base_ch": 4, **options}))


def test_published_unet_has_the_published_parameter_count():
    network = create_network("unet", architecture_for(ModelConfig(), scale=4, target="render"))
    assert parameter_count(network) == 7_765_409


def test_published_unet_is_clamped_and_surface_networks_have_a_margin():
    assert architecture_for(ModelConfig(), scale=4, target="render") == UNetArchitecture()
    margin = architecture_for(ModelConfig(), scale=4, target="surface").output_margin
    assert margin > 0.01  # 1-2 mm of about 200 mm
    x = torch.full((1, 1, 8, 8), 0.0)
    for limit in (0.0, margin):
        network = small_unet(output_margin=limit).eval()
        with torch.no_grad():
            network.output.bias.fill_(-20.0)
            assert network(x).min() == pytest.approx(-limit)


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("base", ["bicubic", "bilinear"])
def test_output_has_the_scale_and_zero_init_is_the_base(scale, base):
    x = torch.rand(2, 1, 12, 20) * 0.8 + 0.1
    network = small_unet(scale=scale, base=base, zero_init=True)
    y = network(x)
    assert y.shape == (2, 1, 12 * scale, 20 * scale)
    torch.testing.assert_close(y, upsample(x, scale, base).clamp(0, 1))
    assert not torch.equal(small_unet(scale=scale, base=base)(x), y)


def test_frames_that_are_not_multiples_of_16_or_square():
    network = small_unet(scale=2).eval()
    x = torch.rand(1, 1, 25, 33)
    assert network(x).shape == (1, 1, 50, 66)


def test_padding_does_not_change_frames_that_need_none():
    network = small_unet(scale=4).eval()
    base = torch.rand(1, 1, 64, 96)
    with torch.no_grad():
        x = base.contiguous(memory_format=torch.channels_last)
        skips = []
        for block in network.encoder[:-1]:
            skips.append(block(x))
            x = torch.nn.functional.max_pool2d(skips[-1], 2)
        x = network.encoder[-1](x)
        for level in (3, 2, 1, 0):
            x = network.decoder[level](torch.cat([network.up[level](x), skips[level]], 1))
        torch.testing.assert_close(network.trunk(base), x)


def test_tail_stays_in_full_precision_under_autocast():
    """Under bf16 autocast the trunk is rounded, but base and tail are not: the output is exact in the trunk's features."""
    network = small_unet().eval()
    x = torch.rand(1, 1, 16, 16)
    trunk_types, features = [], []
    trunk = network.trunk

    def spy(base):
        assert base.dtype == torch.float32
        result = trunk(base)
        trunk_types.append(result.dtype)
        features.append(result.detach())
        return result

    network.trunk = spy
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        y = network(x)
    assert trunk_types == [torch.bfloat16]
    assert y.dtype == torch.float32
    f, weight = features[0].double(), network.output.weight.double().view(1, -1, 1, 1)
    base = upsample(x.double(), 4, "bicubic").clamp(0, 1)
    expected = (base + 0.5 * torch.tanh((f * weight).sum(1, keepdim=True) + network.output.bias.double())).clamp(0, 1)
    assert (y.double() - expected).abs().max() < 1e-6  # bf16 would err by 2e-3
    torch.testing.assert_close(y, network(x), atol=0.05, rtol=0)


def test_architecture_survives_json_and_rejects_what_it_does_not_know():
    architecture = UNetArchitecture(scale=8, base_ch=8, base="bilinear")
    data = architecture_to_dict("unet", architecture)
    assert architecture_from_dict(data) == ("unet", architecture)
    with pytest.raises(ValueError, match=r"unknown network 'vnet', expected one of .*unet"):
        architecture_from_dict({**data, "name": "vnet"})
    with pytest.raises(ValueError, match="with keys"):
        architecture_from_dict({**data, "depth": 3})
    with pytest.raises(ValueError, match="'cubic', expected bicubic or bilinear"):
        architecture_from_dict({**data, "base": "cubic"})


def test_interpolation_follows_the_pixel_convention():
    """Interpolation reproduces a plane given by pixel centres (cubic with a = -0.75 only on average over the phases)."""
    h, scale = 16, 4
    plane = 0.3 + 0.01 * (np.arange(h) + 0.5)[:, None] - 0.02 * (np.arange(h) + 0.5)[None]
    at = (np.arange(h * scale) + 0.5) / scale
    expected = 0.3 + 0.01 * at[:, None] - 0.02 * at[None]
    inner = slice(2 * scale, -2 * scale)
    for mode, bound in (("bilinear", 1e-6), ("bicubic", 2e-3)):
        error = upsample_depth(plane, scale, mode)[inner, inner] - expected[inner, inner]
        assert np.abs(error).max() < bound and abs(error.mean()) < 1e-6
    nearest = upsample_depth(plane, scale, "nearest")
    np.testing.assert_array_equal(nearest, np.repeat(np.repeat(plane.astype(np.float32), scale, 0), scale, 1))
    with pytest.raises(ValueError, match="'cubic', expected one of nearest"):
        upsample_depth(plane, scale, "cubic")
    with pytest.raises(ValueError, match="expected a finite map"):
        upsample_depth(np.full((4, 4), np.nan), scale, "bilinear")


def test_upsampled_mask_covers_what_the_input_covers():
    mask = np.zeros((8, 8), bool)
    mask[2:5, 3:7] = True
    high = upsample_mask(mask, 4)
    assert high.sum() == pytest.approx(16 * mask.sum(), rel=0.1)
    assert high[10:18, 14:26].all() and not high[:7].any() and not high[:, :11].any()


def test_offset_is_the_mean_of_the_maps_means():
    assert fit_offset([np.array([-1.0, -2.0]), np.full(100, -3.0), np.array([])]) == pytest.approx(-2.25)
    with pytest.raises(ValueError, match="no interior pixel"):
        fit_offset([np.array([])])


def test_losses_against_values_by_hand():
    error = torch.tensor([[0.0, 1.0, 4.0], [2.0, 2.0, 9.0]]).view(1, 1, 2, 3)
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]]).view(1, 1, 2, 3)
    assert masked_l1(error, mask).item() == pytest.approx(5 / 4)
    assert masked_gradient_l1(error, mask).item() == pytest.approx((1 + 0) / 2 + (2 + 1) / 2)
    target = torch.zeros_like(error)
    assert depth_loss(error, target, mask).item() == pytest.approx(1.25 + 0.5 * 2.0)
    assert depth_loss(error, target, mask, gradient_weight=0.0, scale="lsb").item() == pytest.approx(1.25 * 254)
    assert depth_loss(error, target, torch.zeros_like(mask)).item() == 0.0
    with pytest.raises(ValueError, match="'mm', expected one of range, lsb"):
        depth_loss(error, target, mask, scale="mm")


def test_losses_ignore_what_lies_outside_the_mask():
    mask = (torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(0)) > 0.4).float()
    error = torch.randn(1, 1, 6, 6)
    changed = torch.where(mask > 0, error, error + 100)
    for loss in (masked_l1, masked_gradient_l1):
        torch.testing.assert_close(loss(error, mask), loss(changed, mask))
