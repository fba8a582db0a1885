"""Networks that also see colour: SGNet, and DORNet-T with its published weights (where they are present).

Numbers of the published networks come from their own code, run beside ours with the same weights.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from splathead.models import architecture_from_dict, architecture_to_dict, parameter_count
from splathead.models.dornet import DORNet, DORNetArchitecture, deformable_convolution, load_nyu_weights
from splathead.models.dornet import create as create_dornet
from splathead.models.interpolation import upsample
from splathead.models.pixel_shuffle import exact_convolution
from splathead.models.sgnet import SGNet, SGNetArchitecture, gradient_magnitude
from splathead.models.sgnet import create as create_sgnet
from splathead.models.sgnet_fusion import _ChannelMixing, _mean_plus_deviation

pytestmark = pytest.mark.usefixtures("single_thread")


@torch.no_grad()
def applied(network: torch.nn.Module, *inputs: torch.Tensor) -> torch.Tensor:
    return network(*inputs)


@pytest.fixture(scope="module")
def nyu_weights(shared_data) -> Path:
    path = shared_data / "data" / "dornet" / "NYU_T_X4.pth"
    if not path.is_file():
        pytest.skip(f"no {path}")
    return path


def inputs(side: int = 8, scale: int = 4, batch: int = 1, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    depth = 0.1 + 0.8 * torch.rand(batch, 1, side, side + 2, generator=generator)
    return depth, torch.rand(batch, 3, side * scale, (side + 2) * scale, generator=generator)


def small_sgnet(seed: int = 0, **options) -> SGNet:
    torch.manual_seed(seed)
    return create_sgnet(SGNetArchitecture(**{"num_feats": 16, **options}))


@pytest.mark.parametrize(
    ("num_feats", "scale", "count"), [(24, 4, 9_215_821), (24, 2, 7_377_145), (24, 8, 14_469_181), (40, 4, 25_332_701)]
)
def test_sgnet_has_the_published_parameter_counts(num_feats, scale, count):
    network = create_sgnet(SGNetArchitecture(num_feats=num_feats, scale=scale))
    assert parameter_count(network) == count
    if (num_feats, scale) == (24, 4):
        assert parameter_count(network.unused) == 145_969


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_sgnet_output_has_the_scale_and_its_gradient_map_too(scale):
    network = small_sgnet(scale=scale).eval()
    with torch.no_grad():
        depth, gradient = network.depth_and_gradient(*inputs(5, scale, batch=2))
    assert depth.shape == gradient.shape == (2, 1, 5 * scale, 7 * scale)


def test_sgnet_starts_near_the_base_and_is_clamped_with_its_margin():
    depth, colour = inputs()
    with torch.no_grad():
        base = upsample(depth, 4, "bicubic")
        assert (small_sgnet(output_margin=0.5).eval()(depth, colour) - base).abs().max() < 0.2
        for margin in (0.0, 0.5):
            network = small_sgnet(output_margin=margin).eval()
            network.output.bias.fill_(-5.0)
            assert network(depth, colour).max() == pytest.approx(-margin)


@pytest.mark.parametrize("create", [small_sgnet, lambda: create_dornet(DORNetArchitecture())])
def test_guides_are_required_in_the_output_size(create):
    network = create()
    depth, colour = inputs()
    with pytest.raises(ValueError, match=r"no guides, expected \(1, 3, 32, 40\) for low-resolution depth of 10x8 at x4"):
        network(depth)
    for wrong in (colour[..., 1:], colour[:, :2], colour[0]):
        with pytest.raises(ValueError, match=r"guides of shape .*, expected \(1, 3, 32, 40\)"):
            network(depth, wrong)
    with pytest.raises(ValueError, match="low-resolution depth of shape"):
        network(colour, colour)


def test_sgnet_uses_its_guides():
    depth, colour = inputs()
    network = small_sgnet().eval()
    with torch.no_grad():
        assert (network(depth, colour) - network(depth, colour.flip(-1))).abs().max() > 1e-4


def test_sgnet_gradients_are_finite_and_recomputation_does_not_change_them():
    """Also where colour is black and depth constant, as beside a head: roots and phases have no finite slope at 0."""
    depth, colour = inputs(batch=2)
    depth[1], colour[1] = 0.5, 0.0
    gradients = []
    for training in (True, False):  # in eval mode activations are kept
        network = small_sgnet(output_margin=0.5).train(training)
        (network(depth, colour) - upsample(depth, 4, "bilinear")).abs().mean().backward()
        gradients.append({name: p.grad for name, p in network.named_parameters() if not name.startswith("unused.")})
    for name, gradient in gradients[0].items():
        assert gradient is not None and gradient.isfinite().all(), name
        torch.testing.assert_close(gradient, gradients[1][name])
    assert all(p.grad is None for p in network.unused.parameters())


def test_sgnet_tail_and_spectra_stay_in_full_precision_under_autocast():
    network = small_sgnet(output_margin=0.5).eval()
    depth, colour = inputs()
    types: dict[str, torch.dtype] = {}
    spectral = network.fusions[0].spectral
    spectral.output.register_forward_hook(lambda _m, arguments, _r: types.update(spectrum=arguments[0].dtype))
    network.tail[-1].register_forward_hook(lambda _m, _a, result: types.update(trunk=result.dtype))
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            y = network(depth, colour)
            features = network.trunk(depth, colour)[0].double()
        assert types == {"spectrum": torch.float32, "trunk": torch.bfloat16}
        residual = F.conv2d(features, network.output.weight.double(), network.output.bias.double(), padding=1)
        torch.testing.assert_close(y, network(depth, colour), atol=0.02, rtol=0)
    assert y.dtype == torch.float32
    expected = upsample(depth.double(), 4, "bicubic") + residual
    assert (y - expected).abs().max() < 1e-6  # bf16 would err by 2e-3


def test_blocks_against_their_definitions():
    torch.manual_seed(0)
    x = torch.randn(2, 4, 7, 9)
    layer = torch.nn.Conv2d(4, 1, 3, padding=1)
    torch.testing.assert_close(exact_convolution(layer, x), layer(x))
    matrix = _ChannelMixing(6).matrix()  # orthogonal when new
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(6), atol=1e-5, rtol=0)
    expected = x.mean((2, 3), keepdim=True) + x.std((2, 3), keepdim=True, correction=0)
    torch.testing.assert_close(_mean_plus_deviation(x), expected)
    slope = 3.0 * torch.arange(9.0) + 4.0 * torch.arange(7.0)[:, None]
    torch.testing.assert_close(gradient_magnitude(slope[None, None])[0, 0, 1:-1, 1:-1], torch.full((5, 7), 10.0))


def test_sgnet_architecture_survives_json_and_rejects_what_cannot_be():
    architecture = SGNetArchitecture(scale=8, output_margin=0.5)
    data = architecture_to_dict("sgnet", architecture)
    assert architecture_from_dict({**data, "guides": ["rgb"]}) == ("sgnet", architecture)
    for wrong in ({"scale": 3}, {"num_feats": 8}, {"guides": ()}, {"output_margin": -1.0}):
        with pytest.raises(ValueError, match="SGNet with scale"):
            SGNetArchitecture(**wrong)
    with pytest.raises(ValueError, match="expected a scale of at least 1 and guides"):
        DORNetArchitecture(guides=("normal",))


def test_deformable_convolution_without_offsets_is_a_convolution():
    torch.manual_seed(0)
    x, kernel = torch.randn(2, 3, 6, 8), torch.randn(5, 3, 3, 3)
    still = deformable_convolution(x, torch.zeros(2, 18, 6, 8), torch.ones(2, 9, 6, 8), kernel)
    torch.testing.assert_close(still, F.conv2d(x, kernel, padding=1), atol=1e-5, rtol=1e-5)


def test_deformable_convolution_against_a_slow_reference():
    torch.manual_seed(1)
    x, kernel = torch.randn(1, 2, 4, 5), torch.randn(1, 2, 3, 3)
    offsets, weights = 2 * torch.randn(1, 18, 4, 5), torch.rand(1, 9, 4, 5)

    def value(channel: int, row: int, column: int) -> float:
        return float(x[0, channel, row, column]) if 0 <= row < 4 and 0 <= column < 5 else 0.0

    expected = np.zeros((4, 5))
    for row, column, tap, channel in np.ndindex(4, 5, 9, 2):
        r = row + tap // 3 - 1 + float(offsets[0, 2 * tap, row, column])
        c = column + tap % 3 - 1 + float(offsets[0, 2 * tap + 1, row, column])
        r0, c0 = int(np.floor(r)), int(np.floor(c))
        sample = sum((1 - abs(r - i)) * (1 - abs(c - j)) * value(channel, i, j) for i in (r0, r0 + 1) for j in (c0, c0 + 1))
        expected[row, column] += sample * float(weights[0, tap, row, column] * kernel[0, channel, tap // 3, tap % 3])
    np.testing.assert_allclose(deformable_convolution(x, offsets, weights, kernel)[0, 0].numpy(), expected, atol=1e-5)


def test_dornet_has_the_published_size_without_the_training_branch():
    assert parameter_count(create_dornet(DORNetArchitecture())) == 457_082 - 22_156


def nyu_example() -> tuple[torch.Tensor, torch.Tensor]:
    generator = np.random.default_rng(7)
    depth = 0.2 + 0.5 * generator.random((12, 10)).astype(np.float32)
    return torch.from_numpy(depth)[None, None], torch.from_numpy(generator.random((3, 48, 40)).astype(np.float32))[None]


def test_dornet_with_published_weights_gives_the_published_networks_output(nyu_weights):
    """Expected values: the published code with these weights, its data preparation (Pillow's bicubic) and normalisation."""
    network = load_nyu_weights(nyu_weights)
    assert not network.training
    result = applied(network, *nyu_example())
    assert result.shape == (1, 1, 48, 40) and result.dtype == torch.float32
    y = result[0, 0].numpy()
    corners = [y[0, 0], y[0, 39], y[20, 13], y[33, 30], y[47, 0], y[47, 39]]
    np.testing.assert_allclose(corners, [0.44287276, 0.39708772, 0.581839, 0.2242276, 0.45344633, 0.59976757], atol=1e-4)
    np.testing.assert_allclose([y.mean(), y.std(), np.abs(y).max()], [0.4512774, 0.19980837, 1.1339651], atol=1e-4)


def test_dornet_follows_the_depths_normalisation_and_ignores_autocast(nyu_weights):
    network = load_nyu_weights(nyu_weights)
    depth, colour = nyu_example()
    expected = applied(network, depth, colour)
    torch.testing.assert_close(applied(network, 2 * depth - 0.3, colour), 2 * expected - 0.3, atol=1e-4, rtol=0)
    both = applied(network, torch.cat([depth, 0.5 * depth]), torch.cat([colour, colour]))
    torch.testing.assert_close(both, torch.cat([expected, 0.5 * expected]), atol=1e-4, rtol=0)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(applied(network, depth, colour), expected, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="expected finite spans above 0"):
        applied(network, torch.full_like(depth, 0.5), colour)


def test_dornet_gradients_are_finite():
    torch.manual_seed(0)
    network = create_dornet(DORNetArchitecture()).eval()
    network(*inputs()).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def foreign_names(network: DORNet) -> dict[str, torch.Tensor]:
    """Weights under names that the published file does not have."""
    return {f"module.{name}": tensor for name, tensor in network.state_dict().items()}


def test_files_that_are_not_dornets_weights_are_clear_errors(tmp_path):
    path = tmp_path / "weights.pth"
    with pytest.raises(FileNotFoundError, match=r"weights\.pth: no such file, expected DORNet-T's published weights"):
        load_nyu_weights(path)
    path.write_bytes(b"not weights")
    with pytest.raises(ValueError, match="not a file of weights that torch can read safely"):
        load_nyu_weights(path)
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="holds list, expected a dictionary of tensors"):
        load_nyu_weights(path)
    torch.save(foreign_names(create_dornet(DORNetArchitecture())), path)
    with pytest.raises(ValueError, match=r"not the published weights of DORNet-T: lacks encoder.* and \d+ more"):
        load_nyu_weights(path)


def test_weights_that_lack_add_or_misshape_one_are_errors(nyu_weights, tmp_path):
    published = torch.load(nyu_weights, map_location="cpu", weights_only=True)
    path = tmp_path / "weights.pth"
    for change, message in (
        ({"R.tail.0.weight": None}, r"lacks tail\.weight"),
        ({"R.extra.weight": torch.zeros(1)}, r"has an unknown R\.extra\.weight"),
        ({"R.tail.0.bias": torch.zeros(2)}, r"has tail\.bias of shape \(2,\), expected \(1,\)"),
    ):
        torch.save({name: value for name, value in {**published, **change}.items() if value is not None}, path)
        with pytest.raises(ValueError, match=message):
            load_nyu_weights(path)
