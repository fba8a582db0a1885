"""Our network: starts at its base, ignores guides that are missing, fits every scale and size, knows its error."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from splathead.config import ModelConfig
from splathead.models import architecture_for, network_guides, parameter_count, works_without_guides
from splathead.models.interpolation import upsample, upsample_spline
from splathead.models.splathead import ALL_DROPPED, MAX_SMOOTHING, ONE_DROPPED, SplatHead, SplatHeadArchitecture, create
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


def spline_tap_by_tap(x, scale):
    """Cubic B-spline enlargement as sums of five shifted copies, the last of each axis repeated."""
    for axis in (2, 3):
        size, phases = x.shape[axis], []
        for phase in range(scale):
            total = 0
            for offset in range(-2, 3):
                d = abs((phase + 0.5) / scale - 0.5 - offset)
                weight = 2 / 3 - d**2 + d**3 / 2 if d < 1 else max(2 - d, 0) ** 3 / 6
                total = total + weight * x.index_select(axis, (torch.arange(size) + offset).clamp(0, size - 1))
            phases.append(total)
        x = torch.stack(phases, dim=axis + 1).flatten(axis, axis + 1)
    return x


def plainly(net, lr, guides):
    """Depth and scale as the module's text says, layer by layer, with no thought of speed."""
    scale, (height, width) = net.architecture.scale, lr.shape[-2:]
    right, below = -width % 8, -height % 8
    low = F.pad(lr, (0, right, 0, below), mode="replicate")
    guides = F.pad(guides, (0, right * scale, 0, below * scale))
    edge = F.pad(low, (1, 1, 1, 1), mode="replicate")
    features = [low - 0.5]
    for reach, part in ((1, 1), (3, 3), (9, 10)):
        mean = F.avg_pool2d(F.pad(low, (reach,) * 4, mode="replicate"), 2 * reach + 1, stride=1)
        features.append(((low - mean) * CODE_STEPS / part).clamp(-16, 16))
    features.append(((edge[..., 1:-1, 2:] - edge[..., 1:-1, :-2]) * CODE_STEPS / 8).clamp(-16, 16))
    features.append(((edge[..., 2:, 1:-1] - edge[..., :-2, 1:-1]) * CODE_STEPS / 8).clamp(-16, 16))
    x = net.stem(torch.cat([*features, F.avg_pool2d(guides[:, :1], scale)], dim=1))

    def gated(layers, seen, x):
        found = layers.widen(F.silu(layers.embed(seen)))
        return found * torch.sigmoid(layers.confidence_of_guides(found) + layers.confidence_of_depth(x))

    if net.low_guides is not None:
        x = x + net.merge(gated(net.low_guides, F.avg_pool2d(guides[:, 1:], scale), x))

    def residual(blocks, x):
        for block in blocks:
            x = x + block.second(F.silu(block.first(F.silu(x))))
        return x

    skips = []
    for blocks, down in zip(net.encoder, net.down):
        skips.append(residual(blocks, x))
        x = down(skips[-1])
    x = residual(net.middle, x)
    for up, blocks, skip in zip(reversed(net.up), reversed(net.decoder), reversed(skips)):
        x = residual(blocks, skip + F.interpolate(up(x), scale_factor=2, mode="bilinear"))
    refined = low + net.low_output(x) / CODE_STEPS
    bicubic, spline = F.interpolate(refined, scale_factor=scale, mode="bicubic"), spline_tap_by_tap(refined, scale)
    limit = MAX_SMOOTHING / CODE_STEPS
    limited = bicubic - (bicubic - spline).clamp(-limit, limit)
    x = F.interpolate(net.to_high(x), scale_factor=scale, mode="bilinear") + net.high_cover(guides[:, :1])
    if net.high_guides is not None:
        x = x + gated(net.high_guides, guides[:, 1:], x)
    output = net.high_output(F.silu(net.high_second(F.silu(net.high_first(F.silu(x))))))
    depth = {"bicubic": bicubic, "spline": spline, "limited": limited}[net.architecture.base] + output[:, :1] / CODE_STEPS
    highest = low.flatten(1).max(1).values.clamp_min(1.0) + net.architecture.output_margin
    depth = torch.minimum(depth.clamp_min(-net.architecture.output_margin), highest[:, None, None, None])
    return (part[..., : height * scale, : width * scale] for part in (depth, output[:, 1:].clamp(-6, 6)))


@pytest.mark.parametrize(
    ("scale", "height", "width", "options"),
    [
        (4, 24, 40, {"base": "limited"}),
        (3, 13, 20, {"base": "spline"}),
        (2, 16, 9, {"guides": ("cover",)}),
        (1, 8, 8, {"base": "limited"}),
    ],
)
def test_function_and_gradients_are_the_plain_ones(scale, height, width, options):
    net = network(scale, **options)
    lr, guides = inputs(scale, height, width)
    guides = guides[:, : net.guide_channels]
    gradients = []
    for depth, log_scale in (plainly(net, lr, guides), net(lr, guides, with_scale=True)):
        gradients.append((depth, log_scale))
        loss = depth.square().mean() + log_scale.square().mean()
        gradients.append(torch.autograd.grad(loss, list(net.parameters())))
    (expected, expected_scale), expected_gradients, (depth, log_scale), found_gradients = gradients
    torch.testing.assert_close(depth, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(log_scale, expected_scale, rtol=1e-4, atol=1e-4)
    for found, wanted in zip(found_gradients, expected_gradients):
        assert (found - wanted).norm() <= 1e-3 * wanted.norm()
    with torch.no_grad():
        torch.testing.assert_close(net(lr, guides), expected, rtol=0, atol=1e-6)


def test_a_copy_in_half_precision():
    lr, guides = inputs()
    net = network(base="limited")
    half = net.in_half(torch.bfloat16)
    assert {p.dtype for p in net.parameters()} == {torch.float32} and half.stem.weight.dtype == torch.bfloat16
    assert half.low_output.weight.dtype == half.high_output.weight.dtype == torch.float32
    with torch.no_grad():
        expected, (depth, log_scale) = net(lr, guides), half(lr, guides, with_scale=True)
        with torch.autocast("cpu", torch.bfloat16):
            cast = net(lr, guides)
        base = network(trained=False).in_half(torch.bfloat16)(lr, guides)
    assert depth.dtype == log_scale.dtype == torch.float32
    assert (depth - expected).abs().max() <= 2 * (cast - expected).abs().max() < 2 / CODE_STEPS
    torch.testing.assert_close(base, F.interpolate(lr, scale_factor=4, mode="bicubic").clamp(-0.5, 1.5))


def test_a_copy_that_adds_fewer_biases_is_the_same_function():
    net, given = network(base="limited"), inputs(4, 24, 40)
    copy = net.in_half(torch.float32)
    moved = [blocks[-1].second.bias is None for blocks in (*copy.encoder, copy.middle, *copy.decoder)]
    assert moved == [True, True, True, True, False, True, True]  # the finest decoder is read by a convolution that pads
    with torch.no_grad():
        for found, expected in zip(copy(*given, with_scale=True), net(*given, with_scale=True)):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_full_resolution_is_queued_before_small_operations(monkeypatch):
    """The order decides how long an eager run on a GPU waits for launches, and nothing else would show it."""
    net, order, enlarged = network(base="limited"), [], SplatHead.enlarged
    for name in ("stem", "high_guides", "high_second"):
        getattr(net, name).register_forward_hook(lambda *_, name=name: order.append(name))
    monkeypatch.setattr(SplatHead, "enlarged", lambda *given: order.append("base") or enlarged(*given))
    with torch.no_grad():
        net(*inputs())
    assert order == ["high_guides", "stem", "high_second", "base"]


def test_what_is_kept_between_calls_suits_training_after_inference():
    net, (lr, guides) = network(base="spline"), inputs(height=8, width=32)
    with torch.inference_mode():
        net(lr, guides)
    net(lr, guides).mean().backward()
    assert net.low_output.weight.grad.abs().max() > 0


def test_guides_that_are_missing_change_nothing():
    lr, guides = inputs()
    made, missing = network(), guides.clone()
    missing[:, 1:] = 0
    with torch.no_grad():
        found = made.low_guides(F.avg_pool2d(missing[:, 1:], 4))
        without, with_guides = made(lr, missing), made(lr, guides)
    assert not found.any() and (without - with_guides).abs().max() > 1e-3


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
