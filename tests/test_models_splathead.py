"""Our network: starts at its base, ignores guides that are missing, fits every scale and size, knows its error."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from splathead.config import ModelConfig
from splathead.models import architecture_for, network_guides, parameter_count, works_without_guides
from splathead.models.interpolation import upsample, upsample_spline
from splathead.models.splathead import ALL_DROPPED, MAX_SMOOTHING, ONE_DROPPED, SplatHeadArchitecture, create
from splathead.training.losses import CODE_STEPS, laplace_loss, masked_gradient_l1

SMALL = {"widths": (8, 8, 12, 12), "high_width": 8}


def network(scale: int = 4, trained: bool = True, **options):
    torch.manual_seed(0)
    made = create(SplatHeadArchitecture(scale=scale, **{**SMALL, **options}))
    if trained:  # something else than the zeros that it starts with
        for name, parameter in made.named_parameters():
            if "second" in name or "output" in name:
                torch.nn.init.normal_(parameter, std=0.3)
    return made.eval()


def inputs(scale: int = 4, height: int = 24, width: int = 40):
    generator = torch.Generator().manual_seed(1)
    lr = torch.rand(2, 1, height, width, generator=generator)
    guides = torch.rand(2, 9, height * scale, width * scale, generator=generator)
    return lr, guides


def test_published_size_and_guides():
    architecture = architecture_for(ModelConfig(name="splathead"), scale=4, target="surface")
    assert parameter_count(create(architecture)) == 3_070_267  # at most 3.1 M
    assert network_guides(ModelConfig(name="splathead")) == ("cover", "slope", "spread", "alpha", "rgb")
    assert network_guides(ModelConfig(name="splathead", guides=["cover"])) == ("cover",)
    assert works_without_guides("splathead") and not works_without_guides("unet")


def test_starts_as_bicubic_interpolation():
    lr, guides = inputs()
    base = F.interpolate(lr, scale_factor=4, mode="bicubic", align_corners=False)
    with torch.no_grad():
        depth, log_scale = network(trained=False)(lr, guides, with_scale=True)
    torch.testing.assert_close(depth, base.clamp(-0.5, 1.5))
    assert not log_scale.any()


@pytest.mark.parametrize(("scale", "height", "width"), [(2, 16, 24), (3, 20, 13), (4, 24, 40), (8, 9, 8)])
def test_every_scale_and_size_with_the_same_weights(scale, height, width):
    made = network(scale)
    made.load_state_dict(network(4).state_dict())
    lr, guides = inputs(scale, height, width)
    with torch.no_grad():
        depth = made(lr, guides)
    assert depth.shape == (2, 1, height * scale, width * scale) and torch.isfinite(depth).all()


def test_guides_that_are_missing_change_nothing():
    lr, guides = inputs()
    made, missing = network(), guides.clone()
    missing[:, 1:] = 0
    with torch.no_grad():
        features = made.low_guides(F.avg_pool2d(missing[:, 1:], 4), torch.rand(2, 8, 24, 40))
        without, with_guides = made(lr, missing), made(lr, guides)
    assert not features.any() and (without - with_guides).abs().max() > 1e-3


def test_guides_are_left_out_at_random_in_training_only():
    made = network()
    _, guides = inputs()
    assert made._dropped(guides) is guides
    made.train()
    torch.manual_seed(3)
    seen = torch.stack([made._dropped(guides)[0].amax((1, 2)) > 0 for _ in range(400)]).float()
    assert seen[:, 0].all()  # the cover is the input's own
    assert (seen[:, 1:].mean(0) - (1 - ALL_DROPPED) * (1 - ONE_DROPPED)).abs().max() < 0.1
    assert torch.equal(seen[:, 1], seen[:, 2])  # a guide's channels go together
    assert ((seen[:, 1:].sum(1) == 0).float().mean() - ALL_DROPPED).abs() < 0.1


def test_pixel_phases_are_alike():
    """Where the input is the same everywhere, so is the output: no checkerboard, whatever the weights are."""
    lr, guides = torch.full((1, 1, 192, 192), 0.4), torch.zeros(1, 9, 768, 768)
    guides[:, 0] = 1.0
    with torch.no_grad():
        error = (network()(lr, guides) - 0.4)[0, 0]
    inner = error[368:-368, 368:-368]  # beyond the reach of the frame's border
    phases = inner.reshape(8, 4, 8, 4).mean((0, 2))
    assert inner.abs().max() > 1e-3 and phases.max() - phases.min() < 1e-3 * inner.abs().max()


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_spline_enlargement_keeps_ramps_and_is_smooth(scale):
    rows, columns = torch.meshgrid(torch.arange(12.0), torch.arange(9.0), indexing="ij")
    fine = upsample_spline((0.3 * rows - 0.2 * columns + 1)[None, None], scale)[0, 0]
    y, x = ((torch.arange(n * scale) + 0.5) / scale - 0.5 for n in (12, 9))
    expected = 0.3 * y[:, None] - 0.2 * x[None] + 1
    inner = (slice(2 * scale, -2 * scale),) * 2
    torch.testing.assert_close(fine[inner], expected[inner])
    impulse = torch.zeros(1, 1, 9, 9)
    impulse[..., 4, 4] = 1.0
    spread = upsample_spline(impulse, scale)[0, 0]
    assert spread.min() >= 0 and spread.sum().item() == pytest.approx(scale**2, rel=1e-5)
    assert spread.shape == (9 * scale, 9 * scale)
    assert torch.allclose(spread, spread.T) and torch.allclose(spread, spread.flip(0), atol=1e-6)


def test_limited_base_is_the_spline_where_smooth_and_near_bicubic_at_jumps():
    lr = torch.full((1, 1, 24, 24), 0.4)
    lr += 0.02 / CODE_STEPS * torch.randn(lr.shape, generator=torch.Generator().manual_seed(0))  # a lattice of single pixels
    lr[..., 12:] += 0.3
    net = network(trained=False, base="limited")
    found, bicubic, spline = net.enlarged(lr), upsample(lr, 4, "bicubic"), upsample_spline(lr, 4)
    away = torch.cat([found[..., : 4 * 9] - spline[..., : 4 * 9], found[..., 4 * 15 :] - spline[..., 4 * 15 :]], dim=-1)
    assert away.abs().max() < 1e-6
    assert (found - bicubic).abs().max() <= 1.001 * MAX_SMOOTHING / CODE_STEPS < (spline - bicubic).abs().max() / 10


def test_starts_at_the_spline_where_that_is_its_base():
    lr, guides = inputs()
    with torch.no_grad():
        depth = network(trained=False, base="spline")(lr, guides)
    torch.testing.assert_close(depth, upsample_spline(lr, 4).clamp(-0.5, 1.5))
    with pytest.raises(ValueError, match="SplatHead base 'nearest', expected bicubic or spline"):
        SplatHeadArchitecture(base="nearest")


def test_half_precision_outside_leaves_base_and_tail_exact():
    lr, guides = inputs()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        depth = network(trained=False)(lr, guides)
    assert depth.dtype == torch.float32
    torch.testing.assert_close(depth, F.interpolate(lr, scale_factor=4, mode="bicubic", align_corners=False).clamp(-0.5, 1.5))


def test_every_weight_learns():
    made = network().train()
    lr, guides = inputs()
    torch.manual_seed(5)
    depth, log_scale = made(lr, guides, with_scale=True)
    (depth.square().mean() + log_scale.square().mean()).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in made.parameters())


def test_laplace_loss_is_least_at_the_true_scale():
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(1, 1, 200, 200, generator=generator) - 0.5
    error = (-3.0 * uniform.sign() * torch.log1p(-2 * uniform.abs())) / CODE_STEPS  # Laplace with scale 3 code steps
    mask = torch.ones_like(error)
    losses = {b: laplace_loss(error, torch.full_like(error, math.log(b)), mask).item() for b in (2.0, 3.0, 4.0)}
    assert losses[3.0] < min(losses[2.0], losses[4.0]) and losses[3.0] == pytest.approx(1 + math.log(3), rel=0.02)
    error.requires_grad_()
    assert not laplace_loss(error, torch.zeros_like(error), mask).requires_grad


def test_gradient_loss_over_a_stride():
    ramp = torch.arange(8.0)[None, None, None].expand(1, 1, 8, 8)
    assert masked_gradient_l1(ramp, torch.ones_like(ramp), 3).item() == pytest.approx(3.0)
    half = torch.ones_like(ramp)
    half[..., 4:] = 0
    assert masked_gradient_l1(ramp * half, half, 4).item() == 0.0


def test_bad_architectures_are_named():
    for wrong in ({"widths": (8, 8, 8)}, {"scale": 0}, {"high_width": 2}):
        with pytest.raises(ValueError, match="expected a scale of at least 1, 4 widths"):
            SplatHeadArchitecture(**wrong)
    with pytest.raises(ValueError, match=r"margin -1.0, range_mm 0.0, expected both from 0"):
        SplatHeadArchitecture(output_margin=-1.0)
    with pytest.raises(ValueError, match="expected cover and any others"):
        SplatHeadArchitecture(guides=("rgb", "cover"))
    with pytest.raises(ValueError, match="edsr takes no guides"):
        architecture_for(ModelConfig(name="edsr", guides=["rgb"]), scale=4, target="surface")
