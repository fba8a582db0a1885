"""The published study's unguided baselines: EDSR-light, SRResNet, SwinIR-tiny."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from splathead.config import ModelConfig
from splathead.metrics.depth import phase_spread
from splathead.models import (
    architecture_for,
    architecture_from_dict,
    architecture_to_dict,
    create_network,
    parameter_count,
)
from splathead.models.interpolation import upsample

pytestmark = pytest.mark.usefixtures("single_thread")

NAMES = ("edsr", "srresnet", "swinir")


def network_of(name: str, scale: int = 4, target: str = "render", **options) -> torch.nn.Module:
    torch.manual_seed(0)
    return create_network(name, architecture_for(ModelConfig(name=name, **options), scale=scale, target=target)).eval()


@pytest.mark.parametrize(("name", "count"), [("edsr", 1_515_265), ("srresnet", 1_528_724), ("swinir", 228_832)])
def test_published_parameter_counts(name, count):
    assert parameter_count(network_of(name)) == count


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_output_has_the_scale_for_sizes_that_are_no_multiple_of_the_window(name, scale):
    with torch.no_grad():
        y = network_of(name, scale)(torch.rand(1, 1, 9, 11))
    assert y.shape == (1, 1, 9 * scale, 11 * scale) and y.dtype == torch.float32


@pytest.mark.parametrize("name", ["edsr", "srresnet"])
def test_scales_without_sub_pixel_stages_are_refused(name):
    with pytest.raises(ValueError, match="scale factor 6"):
        network_of(name, 6)


@pytest.mark.parametrize(("name", "step"), [("edsr", 1), ("srresnet", 1), ("swinir", 8)])
def test_shifted_input_shifts_the_output_by_scale_pixels(name, step):
    """Inside the border that the receptive field reaches; SwinIR knows its windows, so it moves by whole ones."""
    network, border = network_of(name, base="bilinear", target="surface"), 72
    wide = torch.rand(1, 1, 8, 2 * border + 16 + step) * 0.6 + 0.2
    with torch.no_grad():
        first, second = network(wide[..., :-step]), network(wide[..., step:])
    inner = slice(4 * border, 4 * (border + 8))
    moved = slice(inner.start + 4 * step, inner.stop + 4 * step)
    torch.testing.assert_close(second[..., inner], first[..., moved], atol=1e-5, rtol=0)
    assert (second[..., inner] - first[..., inner]).abs().max() > 0.01


@pytest.mark.parametrize("name", NAMES)
def test_tail_stays_in_full_precision_under_autocast(name):
    """The tail sees a bf16 trunk, but its own convolution and the add are exact in the features that it gets."""
    network, seen = network_of(name, target="surface"), []
    inner = {"edsr": "upsampler", "srresnet": "upsampler", "swinir": "body_end"}[name]
    getattr(network, inner).register_forward_hook(lambda module, args, result: seen.append(result))
    with torch.no_grad():
        for parameter in network.tail.parameters():
            parameter.mul_(0.1)
    x = torch.rand(1, 1, 8, 8) * 0.6 + 0.2
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        y = network(x)
        first = network.head(x)
    assert seen[0].dtype == torch.bfloat16 and y.dtype == torch.float32
    features = (seen[0] + first if name == "swinir" else seen[0]).double()
    with torch.no_grad():
        tail = torch.nn.functional.conv2d(
            features, network.tail.weight.double(), network.tail.bias.double(), padding=network.tail.padding
        )
    tail = torch.nn.functional.pixel_shuffle(tail, 4) if name == "swinir" else 0.5 * tail
    margin = network.architecture.output_margin
    expected = (upsample(x.double(), 4, "bicubic").clamp(0, 1) + tail).clamp(-margin, 1 + margin)
    assert (y.double() - expected).abs().max() < 2e-6  # bf16 would err by 2e-3


@pytest.mark.parametrize("name", ["edsr", "srresnet"])
def test_icnr_starts_without_a_sub_pixel_pattern(name):
    """On a constant map, away from the border, the default initialisation shows its phases and ICNR does not.

    The 9x9 or 3x3 tail averages equal sub-pixels, so what is left is the float32 rounding.
    """
    x, spread = torch.full((1, 1, 88, 88), 0.5), {}
    for icnr in (False, True):
        with torch.no_grad():
            error = (network_of(name, icnr=icnr, target="surface")(x) - x.mean())[0, 0].double().numpy()
        inner = error[160:-160, 160:-160]
        spread[icnr] = phase_spread(inner, np.ones(inner.shape, bool))
    assert spread[False] > 1e-4
    assert spread[True] < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_finite_and_reach_every_parameter(name):
    network = network_of(name, target="surface").train()
    network(torch.rand(2, 1, 16, 16) * 0.6 + 0.2).square().mean().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), key


def test_published_swinir_is_clamped_without_a_base_and_then_learns_nothing():
    """The collapse: once the output is below near everywhere, the hard clamp stops all gradients; a base keeps them."""
    x = torch.rand(1, 1, 16, 16) * 0.4 + 0.5
    for residual in (False, True):
        network = network_of("swinir", residual=residual)
        with torch.no_grad():
            network.tail.weight.zero_()
            network.tail.bias.fill_(-0.1)
        y = network(x)
        y.sum().backward()
        if residual:
            torch.testing.assert_close(y, upsample(x, 4, "bicubic").clamp(0, 1) - 0.1)
            assert network.tail.bias.grad.abs().min() > 0
        else:
            assert not y.any() and not network.tail.bias.grad.any()


@pytest.mark.parametrize(("name", "options"), [("edsr", {"icnr": True}), ("srresnet", {}), ("swinir", {"residual": False})])
def test_architecture_survives_json(name, options):
    architecture = architecture_for(ModelConfig(name=name, **options), scale=2, target="surface")
    assert architecture_from_dict(architecture_to_dict(name, architecture)) == (name, architecture)
    with pytest.raises(ValueError, match="'cubic', expected bicubic or bilinear"):
        architecture_from_dict({**architecture_to_dict(name, architecture), "base": "cubic"})
