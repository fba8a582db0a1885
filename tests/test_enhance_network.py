"""Our network in the tool: shipped weights, Gaussians, depth maps, confidence from its expected error, what is refused."""

from __future__ import annotations

import json
import os
import threading

import numpy as np
import pytest
import torch
from analytic_surfaces import ellipsoid_depth
from test_enhance import SMALL, splatted_ellipsoid

from splathead import shipped
from splathead.cameras import Camera, orbit_camera
from splathead.checkpoints import save_weights
from splathead.config import Config, ModelConfig, TrainConfig
from splathead.enhance import EnhanceOptions, enhance, enlarge, sampling
from splathead.enhance import views as views_module
from splathead.enhance.depth_input import enhance_depth
from splathead.enhance.device_choice import Devices, apply_once
from splathead.enhance.head import Head
from splathead.enhance.views import EnhancedView, _clean_maps, enhance_views, view_cameras
from splathead.images import DepthEncoding, DepthMap, load_depth_png, read_png, save_depth_png, write_png
from splathead.maps.low_resolution import requantised
from splathead.models import architecture_for, architecture_to_dict, create_network
from splathead.ply import save_gaussians_ply
from splathead.prediction import TrainedNetwork, interpolate_depth, load_network
from splathead.training.state import training_settings

pytestmark = [pytest.mark.usefixtures("single_thread"), pytest.mark.filterwarnings("ignore:.*need more than")]
OPTIONS = {**SMALL, "views": 2, "method": "splathead"}


@pytest.fixture(autouse=True)
def small_renders(monkeypatch):
    """Networks start from renders of 32 pixels, so that 128 are enlarged four times as 1024 are."""
    monkeypatch.setattr(sampling, "KNOWN_SIDE", 32)


def write_network(path, *, name="splathead", trained=True, mixture=(), lr_input="8bit", steps_of_error=None, half=False):
    """Small weights as a training of stage 06 exports them; not ``trained``: those that the network starts with."""
    settings = TrainConfig(model=ModelConfig(name=name), lr_input=lr_input, lr_mixture=list(mixture), target="surface")
    architecture = architecture_for(settings.model, scale=4, target="surface")
    if name == "splathead":
        architecture = type(architecture)(widths=(8, 8, 12, 12), high_width=8)
    torch.manual_seed(0)
    network = create_network(name, architecture)
    for key, parameter in network.named_parameters():
        if trained and ("second" in key or "output" in key):
            torch.nn.init.normal_(parameter, std=0.3)
    if steps_of_error is not None:
        network.high_output.bias.data[1] = float(np.log(steps_of_error))
    info = {
        "architecture": architecture_to_dict(name, architecture), "method": name, "target": "surface", "lr_input": lr_input,
        "seed": 0, "settings": training_settings(settings),
    }  # fmt: skip
    weights = {key: tensor.half() if half else tensor for key, tensor in network.state_dict().items()}
    save_weights(path, weights, info)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Where the shipped weights belong, in a folder that has none yet."""
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setattr(shipped, "WEIGHTS_FOLDER", folder)
    return folder / shipped.SURFACE_FILES[0]


@pytest.fixture(scope="module")
def head() -> Head:
    return Head(splatted_ellipsoid(), [], "metric")


@pytest.fixture(scope="module")
def render(head) -> tuple[DepthMap, dict]:
    """The front view's float render at a quarter of the size, and its clean maps at full size."""
    camera, config = orbit_camera(0, 0, 128), Config()
    config.render.backend = "cpu"
    low, high = (_clean_maps(head.gaussians, camera.resized(side), config)[0] for side in (32, 128))
    return DepthMap.of_float(low["depth"], low["mask"].astype(bool), camera.resized(32), "render"), high


def views_of(head: Head, jobs: int = 1, **options) -> list[EnhancedView]:
    chosen = EnhanceOptions(**{**OPTIONS, **options})
    return enhance_views(head, chosen, jobs, view_cameras(head, chosen))[0]


def front_view(head: Head, **options) -> EnhancedView:
    return views_of(head, **{"views": 1, **options})[0]


def tall_map(bits: int, size: int = 1) -> DepthMap:
    """A depth map of 40x56 pixels, or ``size`` times that: the ellipsoid through a camera that is not square."""
    wide = orbit_camera(0.0, 0.0, 56 * size)
    camera = Camera.from_dict({**wide.to_dict(), "width": 40 * size, "cx": wide.cx - 8 * size})
    depth = ellipsoid_depth(wide)[:, 8 * size : 48 * size]
    return requantised(DepthMap.of_float(depth, depth > 0, camera, "ellipsoid"), bits)


@pytest.mark.parametrize("mixture", [(), ("8bit", "16bit", "area_8bit")])
def test_gaussians_are_given_as_the_network_was_trained(head, render, weights, mixture):
    """The weights that it starts with enlarge bicubically: so it shows what it was given."""
    write_network(weights, trained=False, mixture=mixture, half=True)
    low, high = render
    given = low if mixture else requantised(low, 8)
    found = front_view(head).after
    mask = found.mask
    assert np.array_equal(mask, interpolate_depth(low, 4, "bicubic").mask & high["mask"].astype(bool))
    expected, other = (interpolate_depth(one, 4, "bicubic").depth for one in (given, requantised(low, 8 if mixture else 16)))
    np.testing.assert_allclose(found.depth[mask], expected[mask], atol=1e-3)
    assert np.abs(found.depth - other)[mask].max() > 0.1


def test_views_do_not_depend_on_how_many_the_network_is_applied_to_at_once(head, weights, monkeypatch):
    """On a GPU it is several."""
    write_network(weights, mixture=("16bit",), half=True)
    one = views_of(head, views=4)
    monkeypatch.setattr(views_module, "_networks_at_once", lambda options, device: 4)
    for found, expected in zip(views_of(head, jobs=4, views=4), one):
        assert np.array_equal(found.after.depth, expected.after.depth)
        assert np.array_equal(found.confidence, expected.confidence)


def test_fewer_networks_at_once_fit_a_gpu_where_views_are_large(monkeypatch):
    monkeypatch.setattr(views_module, "networks_in_memory", lambda device: 12)
    device = torch.device("cuda")
    found = [views_module._networks_at_once(EnhanceOptions(resolution=side), device) for side in (512, 1024, 2048, 4096)]
    assert found == [4, 4, 1, 1]
    assert views_module._networks_at_once(EnhanceOptions(), torch.device("cpu")) == 1


def test_guides_of_the_gaussians_are_used(head, render, weights):
    write_network(weights, mixture=("16bit",))
    low, high = render
    network = load_network(weights)
    guided, without = (network.predict_with_error(low, maps)[0] for maps in (high, None))
    found = front_view(head).after
    np.testing.assert_allclose(found.depth[found.mask], guided.depth[found.mask], atol=1e-3)
    assert np.abs(found.depth - without.depth)[found.mask].max() > 0.1


def test_confidence_falls_with_the_expected_error(head, render, weights):
    write_network(weights, mixture=("16bit",))
    low, high = render
    _, error = load_network(weights).predict_with_error(low, high)
    view = front_view(head)
    mask, alpha = view.after.mask, np.clip(high["alpha"].astype(np.float64), 0, 1)
    found = view.confidence
    assert found.dtype == np.float32 and found.min() == 0 and 0.5 < found.max() <= 1 and not found[~mask].any()
    typical = np.abs(error / np.median(error[mask]) - 1) < 0.02
    np.testing.assert_allclose(found[mask & typical], 0.5 * alpha[mask & typical], atol=0.02)
    order = np.argsort(error[mask])
    assert np.diff((found[mask] / alpha[mask])[order]).max() < 1e-3  # alpha is stored in half precision
    assert found[mask][order[-50:]].max() < found[mask][order[:50]].min()


def test_the_same_error_everywhere_leaves_alpha(head, render, weights):
    write_network(weights, trained=False, steps_of_error=3.0)
    view = front_view(head)
    alpha = render[1]["alpha"].astype(np.float32)
    np.testing.assert_allclose(view.confidence[view.after.mask], 0.5 * alpha[view.after.mask], rtol=1e-5)
    assert not np.allclose(front_view(head, method="bilinear").confidence, view.confidence, atol=0.05)  # it goes by the spread


@pytest.mark.parametrize(("size", "scale"), [(2, 1), (1, 2), (1, 3), (1, 4)])
def test_depth_maps_at_every_factor(weights, size, scale):
    source, options = tall_map(8, size), EnhanceOptions(**{**OPTIONS, "resolution": max(64, 56 * scale)})
    write_network(weights, trained=False)
    plain, _ = enhance_depth(source, options)
    expected = interpolate_depth(source, scale, "bicubic")
    assert plain.after.depth.shape == plain.confidence.shape == (56 * size * scale, 40 * size * scale)
    np.testing.assert_allclose(plain.after.depth, expected.depth, atol=1e-3)
    write_network(weights, mixture=("8bit", "16bit"))
    os.utime(weights, ns=(1, 1))
    trained, _ = enhance_depth(source, options)
    assert np.array_equal(trained.after.mask, expected.mask) and np.abs(trained.after.depth - expected.depth).max() > 0.1
    inside = trained.confidence[trained.after.mask]
    assert 0 < inside.min() < 0.4 and 0.6 < inside.max() <= 1 and not trained.confidence[~trained.after.mask].any()
    assert np.median(inside) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("bits", "trained", "stays"), [(8, [8], True), (8, [8, 16], True), (10, [8, 16], False)])
def test_ranges_of_depth_maps(bits, trained, stays):
    """A code that was trained on keeps its own near and far; any other gets those of its depth, as in training."""
    source = tall_map(bits)
    wide = DepthEncoding(source.encoding.near - 100, source.encoding.far + 100, bits, "mm")
    source = DepthMap(*wide.decode(wide.encode(source.depth, source.mask)), wide, source.camera, "wide")
    found = enlarge._as_trained(source, trained)
    assert (found is source) == stays
    if not stays:
        assert np.array_equal(found.depth, source.depth) and found.encoding.near == source.depth[source.mask].min()


def test_a_whole_result_says_which_network(weights, tmp_path):
    write_network(weights)
    source = tall_map(8)
    write_png(tmp_path / "depth.png", source.encoding.encode(source.depth, source.mask))
    options = EnhanceOptions(
        near=source.encoding.near,
        far=source.encoding.far,
        hfov=source.camera.hfov_deg,
        **{**OPTIONS, "views": 8, "resolution": 112},
    )
    record = enhance(tmp_path / "depth.png", tmp_path / "out", options)
    digest = json.loads(weights.with_suffix(".json").read_text())["sha256"]
    assert record["method"] == "splathead" and digest[:16] in record["understood"][1]
    mask = load_depth_png(tmp_path / "out" / "depth.png").mask
    confidence = read_png(tmp_path / "out" / "confidence.png", channels=1, bits=8)
    assert confidence.shape == (112, 80) and np.median(confidence[mask]) == pytest.approx(127.5, abs=3)


def test_weights_are_read_once(head, weights, tmp_path, monkeypatch):
    write_network(weights)
    read = []
    monkeypatch.setattr(enlarge, "load_network", lambda path, device: read.append(path) or load_network(path, device))
    save_gaussians_ply(tmp_path / "head.ply", head.gaussians)
    record = enhance(tmp_path / "head.ply", tmp_path / "out", EnhanceOptions(**OPTIONS))
    assert len(record["views"]) == 2 and read == [weights.resolve()]
    before = front_view(head).after.depth
    assert len(read) == 1
    write_network(weights, trained=False)
    os.utime(weights, ns=(1, 1))  # another time, whatever the resolution of the file system's clock is
    assert not np.array_equal(front_view(head).after.depth, before) and len(read) == 2


def test_views_at_the_same_time_are_those_one_after_another(head, weights, monkeypatch):
    """On the CPU the network is applied by one thread alone, however many work on views."""
    write_network(weights)
    one = views_of(head, views=4)
    applied, threads = TrainedNetwork.predict_with_error, set()

    def predict(*args):
        threads.add(threading.current_thread().name)
        return applied(*args)

    monkeypatch.setattr(TrainedNetwork, "predict_with_error", predict)
    three = views_of(head, 3, views=4)
    assert len(threads) == 1 and [view.camera.name for view in one] == [view.camera.name for view in three]
    for a, b in zip(one, three, strict=True):
        assert a.after.depth.tobytes() == b.after.depth.tobytes() and a.confidence.tobytes() == b.confidence.tobytes()
        assert a.before.depth.tobytes() == b.before.depth.tobytes() and a.rgb.tobytes() == b.rgb.tobytes()


@pytest.mark.parametrize("resolution", [128, 192])
def test_what_a_gpu_is_prepared_with_has_the_sizes_of_the_views(head, weights, monkeypatch, resolution):
    write_network(weights)
    seen = []
    given = torch.nn.Module.__call__
    monkeypatch.setattr(type(load_network(weights).network), "__call__", lambda self, *inputs, **options: (
        seen.append([tuple(one.shape) for one in inputs]), given(self, *inputs, **options))[1])  # fmt: skip
    apply_once("splathead", resolution, torch.device("cpu"))
    front_view(head, resolution=resolution)
    assert len(seen) == 2 and seen[0] == seen[1]


def test_a_record_names_the_device_of_the_network(head, weights, tmp_path):
    write_network(weights)
    save_gaussians_ply(tmp_path / "head.ply", head.gaussians)
    record = enhance(tmp_path / "head.ply", tmp_path / "out", EnhanceOptions(**OPTIONS, device="cpu"))
    assert record["devices"] == {"network": "cpu", "rasteriser": "cpu, backend cpu"}
    assert json.loads((tmp_path / "out" / "result.json").read_text())["devices"] == record["devices"]
    line = "devices: network on cpu, rasteriser on cpu, backend cpu"
    assert line in record["understood"] and line in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_one_sentence(head, weights, tmp_path):
    write_network(weights)
    save_gaussians_ply(tmp_path / "head.ply", head.gaussians)
    with pytest.raises(RuntimeError, match="device cuda: torch sees no CUDA device; use device auto or cpu"):
        enhance(tmp_path / "head.ply", tmp_path / "out", EnhanceOptions(**OPTIONS, device="cuda"))
    assert not (tmp_path / "out").exists()
    assert Devices.of(EnhanceOptions(device="auto"), "splats") == Devices(torch.device("cpu"), torch.device("cpu"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_network_on_a_gpu_agrees_with_the_cpu(head, weights):
    write_network(weights)
    cpu, gpu = (views_of(head, 2, device=device) for device in ("cpu", "cuda"))
    for a, b in zip(cpu, gpu, strict=True):
        assert np.array_equal(a.after.mask, b.after.mask)
        assert np.abs(a.after.depth - b.after.depth).max() < 0.05 and np.abs(a.confidence - b.confidence).max() < 0.05


def test_a_network_without_an_expected_error_keeps_the_spreads_confidence(head, tmp_path):
    write_network(tmp_path / "edsr.safetensors", name="edsr")
    found = front_view(head, method=str(tmp_path / "edsr.safetensors"))
    bilinear = front_view(head, method="bilinear")
    assert np.array_equal(found.confidence, bilinear.confidence) and not np.array_equal(found.after.depth, bilinear.after.depth)
    save_depth_png(tmp_path / "depth.png", tall_map(8))
    enhance(tmp_path / "depth.png", tmp_path / "out", EnhanceOptions(method=str(tmp_path / "edsr.safetensors"), resolution=224))
    told = [(tmp_path / "out" / name).read_text() for name in ("result.json", "report.html", "depth.json")]
    assert all("edsr" in text and str(tmp_path) not in text for text in told)  # a name, not where it lies
    message = r"edsr.safetensors: a network for scale factor 4, but this input needs 2"
    with pytest.raises(ValueError, match=message):
        enhance_depth(tall_map(8), EnhanceOptions(method=str(tmp_path / "edsr.safetensors"), resolution=112))


def test_missing_weights_are_named(head, weights, tmp_path):
    save_gaussians_ply(tmp_path / "head.ply", head.gaussians)
    with pytest.raises(FileNotFoundError, match=r"no splathead_surface.safetensors and no splathead_surface.json; method"):
        enhance(tmp_path / "head.ply", tmp_path / "out", EnhanceOptions(**OPTIONS))
    write_network(weights)
    weights.with_suffix(".json").unlink()
    with pytest.raises(FileNotFoundError, match=r"weights: no splathead_surface.json; method splathead needs"):
        enhance(tmp_path / "head.ply", tmp_path / "out", EnhanceOptions(**OPTIONS))
    assert not (tmp_path / "out").exists()
    with pytest.raises(FileNotFoundError, match=r"no splathead_surface.json"):
        enhance_depth(tall_map(8), EnhanceOptions(**OPTIONS))


def _other_widths(weights, info):
    info["architecture"]["widths"] = [8, 8, 12, 16]


def _damaged(weights, info):
    weights.write_bytes(weights.read_bytes()[:-4] + b"oops")


def _of_full_resolution(weights, info):
    info["lr_input"] = "bicubic_8bit"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_other_widths, r"splathead_surface.json: does not describe these weights"),
        (_damaged, r"splathead_surface.safetensors: SHA-256 .* damaged or mixed up"),
        (_of_full_resolution, r"splathead_surface.safetensors: a network for bicubic_8bit input, .* expected <n>bit"),
    ],
)
def test_wrong_weights_are_refused_before_any_work(head, weights, tmp_path, monkeypatch, change, message):
    write_network(weights)
    info = json.loads(weights.with_suffix(".json").read_text())
    change(weights, info)
    weights.with_suffix(".json").write_text(json.dumps(info))
    save_gaussians_ply(tmp_path / "head.ply", head.gaussians)
    monkeypatch.setattr("splathead.enhance.tool.read_head", lambda *_: pytest.fail("the head was read"))
    with pytest.raises(ValueError, match=message):
        enhance(tmp_path / "head.ply", tmp_path / "out", EnhanceOptions(**OPTIONS))
    assert not (tmp_path / "out").exists()


def test_auto_is_the_network_for_gaussians_and_nothing_learnt_for_depth_maps():
    methods = {kind: EnhanceOptions().method_for(kind) for kind in ("splats", "capture", "photo", "depth")}
    assert methods == {"splats": "splathead", "capture": "splathead", "photo": "splathead", "depth": "variational"}
    assert EnhanceOptions(method="splathead").method_for("depth") == "splathead"


@pytest.mark.parametrize(
    ("resolution", "factor", "expected"),
    [
        (1024, None, (256, 4, 1)), (2048, None, (256, 8, 1)), (4096, None, (256, 16, 1)), (512, None, (256, 4, 2)),
        (128, None, (256, 4, 8)), (768, None, (256, 6, 2)), (1344, None, (224, 6, 1)), (64, None, (256, 4, 16)),
        (2048, 4, (512, 4, 1)), (512, 4, (256, 4, 2)), (1024, 8, (256, 8, 2)), (512, 3, (512, 3, 3)),
    ],
)  # fmt: skip
def test_methods_start_from_renders_of_the_side_they_know(monkeypatch, resolution, factor, expected):
    monkeypatch.setattr(sampling, "KNOWN_SIDE", 256)
    found = sampling.Sampling.of(resolution, factor)
    assert (found.low, found.factor, found.reduction) == expected
    assert found.side == resolution * found.reduction >= 256 * (factor or 4)


def test_every_resolution_has_renders_near_the_known_side(monkeypatch):
    monkeypatch.setattr(sampling, "KNOWN_SIDE", 256)
    found = [sampling.Sampling.of(resolution) for resolution in range(64, 4097, 64)]
    assert all(184 <= item.low <= 352 and item.side <= 4096 for item in found)
    with pytest.raises(ValueError, match="--resolution 1028, expected a multiple of 64"):
        sampling.Sampling.of(1028)


@pytest.mark.parametrize(("reduction", "slope"), [(2, 3.0), (4, 0.75), (16, 1.5)])
def test_depth_is_reduced_without_a_bias_on_slopes(reduction, slope):
    """The mean over the nearest millimetres of a cell lay up to 5 mm in front of a steep surface."""
    y, x = np.mgrid[0:64, 0:64]
    fine = np.float32(300 + slope * x + 0.25 * y)
    low = sampling.reduced(fine, reduction, 4.0)
    centre = reduction * np.arange(64 // reduction) + (reduction - 1) / 2
    assert low.dtype == np.float32
    assert np.abs(low - (300 + slope * centre[None] + 0.25 * centre[:, None])).max() <= slope / 2 + 0.125


def test_depth_is_reduced_without_mixing_the_sides_of_an_edge():
    fine = np.full((12, 16), 100.0, np.float32)
    fine[:, 5:] = 150  # the edge runs through cells of 4, most of whose pixels lie behind
    fine[:, 13:] = 0
    fine[0, 0] = 20  # a speck
    low = sampling.reduced(fine, 4, 4.0)
    assert np.array_equal(low, np.tile(np.float32([100, 150, 150, 0]), (3, 1)))  # the last cells are covered by a quarter
    assert sampling.reduced(fine, 1, 4.0) is fine


def test_small_maps_are_the_large_ones_reduced(weights):
    write_network(weights)
    head = Head(splatted_ellipsoid(), [], "metric")
    large, small = (front_view(head, resolution=size) for size in (128, 64))
    mask = small.after.mask
    assert small.after.depth.shape == (64, 64) and mask.sum() > 0.9 * small.before.mask.sum()
    assert np.array_equal(small.after.depth[mask], sampling.reduced(large.after.depth, 2, 4.0)[mask])
    assert ((small.confidence > 0) <= mask).all()
