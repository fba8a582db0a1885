"""Stage 06 with networks that take guides: two methods from one network of ours, mixtures of inputs, the UNet with guides."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from guided_run import write_guided_run

from splathead import depth_sr
from splathead.ablations import cross_degradation
from splathead.config import Config, CrossConfig, ModelConfig
from splathead.evaluation.views import predicted_methods
from splathead.images import load_depth_png, load_maps
from splathead.maps.low_resolution import load_low_resolution
from splathead.metrics.zones import ZoneSettings, compute_zones
from splathead.prediction import load_network
from splathead.results import read_results
from splathead.samples import list_samples, predictions_folder, stage_folder
from splathead.training.pair_loading import input_of, load_pairs

pytestmark = pytest.mark.usefixtures("single_thread")
OURS = {"method": "splathead", "model": {"name": "splathead"}, "gradient_strides": [1, 2], "learning_rate": 1e-3}
GUIDES = ["cover", "slope", "spread", "alpha", "rgb"]


@pytest.fixture
def config(tmp_path) -> Config:
    return write_guided_run(tmp_path)


def test_a_study_with_ours_and_the_guided_unet(config):
    config.trainings = [OURS, {"method": "unet_guided", "model": {"guides": GUIDES}}, {"method": "unet"}]
    lines = depth_sr.run_stage(config)
    names = "splathead-surface, splathead_guided-surface, unet_guided-surface, unet-surface, bilinear"
    assert f"predictions of {names}" in lines[-1]
    methods = {method.folder: (method.name, method.track, method.target) for method in predicted_methods(config)}
    assert methods == {
        "bilinear": ("bilinear", "A", ""), "splathead-surface": ("splathead", "A", "surface"),
        "splathead_guided-surface": ("splathead_guided", "B", "surface"),
        "unet_guided-surface": ("unet_guided", "B", "surface"), "unet-surface": ("unet", "A", "surface"),
    }  # fmt: skip
    sample = list_samples(config, 5, splits=("test",))[0]
    found = {name: load_depth_png(sample.prediction_path(config, name)) for name in methods}
    assert np.array_equal(found["splathead-surface"].mask, found["bilinear"].mask)
    assert not np.array_equal(found["splathead-surface"].depth, found["splathead_guided-surface"].depth)
    assert "guided by slope, spread, alpha, rgb" in found["splathead_guided-surface"].source
    folder = stage_folder(config, 6) / "splathead-surface"
    network = load_network(folder / "model_fp16.safetensors")
    assert network.guides == tuple(GUIDES) and network.needs == ()
    rows = (folder / "training.csv").read_text()
    assert "splathead" in rows and json.loads((folder / "model.json").read_text())["architecture"]["name"] == "splathead"


def test_a_renamed_folder_of_a_study_is_refused(config, tmp_path):
    """Its two methods shared a folder, and the second one overwrote the first."""
    config.trainings = [OURS]
    depth_sr.run_stage(config)
    shutil.copytree(stage_folder(config, 6) / "splathead-surface", tmp_path / "given" / "mine-surface")
    config.trainings, config.train.weights = [], str(tmp_path / "given")
    with pytest.raises(ValueError, match=r"mine-surface: a network trained as 'splathead', expected a folder"):
        depth_sr.run_stage(config)


def test_ours_as_the_only_network(config):
    config.train.model = ModelConfig(name="splathead", guides=["cover"])
    assert "predictions of splathead, bilinear" in depth_sr.run_stage(config)[-1]
    assert not (predictions_folder(config) / "splathead_guided").exists()


def test_views_of_a_mixture_keep_their_input(config):
    config.train.lr_mixture = ["8bit", "6bit", "area", "bicubic_noise"]
    samples = list_samples(config, 5)
    pairs = load_pairs(config, samples, guides=("cover", "slope"))
    again = load_pairs(config, samples, guides=("cover", "slope"))
    assert all(np.array_equal(a.lr.depth01, b.lr.depth01) for a, b in zip(pairs, again))
    used = {input_of(config.train, pair.name) for pair in pairs}
    assert len(used) > 1 and used <= set(config.train.lr_mixture)
    for pair in pairs:
        assert on_steps(pair, 62) == (input_of(config.train, pair.name) == "6bit")
    plain = load_pairs(config, samples, with_interior=True)  # validation keeps lr_input
    assert all(on_steps(pair, 254) for pair in plain)


def on_steps(pair, steps: int) -> bool:
    """Whether all depths are whole steps of a code."""
    code = pair.lr.depth01[pair.lr.mask] * steps
    return bool(np.abs(code - np.round(code)).max() < 1e-2)


def test_networks_of_stage_06_meet_every_degradation_with_fixed_weights(config):
    config.trainings = [{**OURS, "lr_mixture": ["8bit", "area"]}, {**OURS, "seed": 1}, {"method": "unet"}]
    depth_sr.run_stage(config)
    config.cross = CrossConfig(["area", "8bit"], ["surface"], networks=["splathead", "unet"], train=False)
    lines = cross_degradation.run_stage(config)
    rows = [
        row for row in read_results(stage_folder(config, 9) / "cross_degradation.csv")
        if (row.metric, row.zone, row.views, row.method_b) == ("psnr", "interior", "all", "")
    ]  # fmt: skip
    found = {(row.method, row.track, row.degradation_train, row.degradation_test) for row in rows}
    ours = (("splathead", "A", "mixture"), ("splathead_guided", "B", "mixture"))
    methods = (*ours, ("unet", "A", "8bit"), ("bilinear", "A", ""))
    assert found == {  # only the real 8-bit input is ranked
        (method, track if test == "8bit" else "", train, test) for test in ("area", "8bit") for method, track, train in methods
    }
    assert {row.seed for row in rows} == {0} and not list(stage_folder(config, 9).glob("*/training.csv"))
    assert any(line.strip().startswith("splathead_guided") for line in lines)
    with pytest.raises(ValueError, match="'edsr' is no method of trainings on target surface"):
        config.cross.networks = ["edsr"]
        cross_degradation.run_stage(config)


def test_networks_are_scored_on_the_targets_they_were_trained_for_and_unfinished_ones_are_named(config):
    config.trainings = [OURS, {"method": "unet"}]
    depth_sr.run_stage(config)
    config.trainings.append({**OURS, "target": "render"})
    config.cross = CrossConfig(["area", "8bit"], ["surface", "render"], networks=["splathead"], train=False)
    with pytest.raises(RuntimeError, match=r"cross\.networks: .*splathead-render is not trained; run scripts/06"):
        cross_degradation.run_stage(config)
    config.finished_only = True
    cross_degradation.run_stage(config)
    rows = read_results(stage_folder(config, 9) / "cross_degradation.csv")
    found = {(row.method, row.target) for row in rows}
    both = {("bilinear", "surface"), ("bilinear", "render")}
    assert found == {("splathead", "surface"), ("splathead_guided", "surface"), *both}
    assert json.loads((stage_folder(config, 9) / "stage.json").read_text())["missing"] == ["splathead-render"]
    config.cross = CrossConfig(["area", "8bit"], ["surface"], networks=["unet"])
    with pytest.raises(ValueError, match=r"'unet' on 8bit input is what cross\.train trains"):
        cross_degradation.run_stage(config)


def test_guides_are_those_of_the_degradation_that_is_tested(config):
    """A slow reference: the network applied by hand to the degraded input, with guides made from it."""
    config.trainings = [OURS]
    depth_sr.run_stage(config)
    config.cross = CrossConfig(["bicubic_noise"], ["surface"], networks=["splathead"], train=False)
    cross_degradation.run_stage(config)
    network = load_network(stage_folder(config, 6) / "splathead-surface" / "model.safetensors")
    expected = []
    for sample in list_samples(config, 5, splits=("test",)):
        lr = load_low_resolution(sample.path(config, 5), "bicubic_noise", config.seed)
        truth = load_depth_png(sample.path(config, 5) / "hr_surface.png").depth
        found = network.predict(lr, load_maps(sample.path(config, 4, "_hr.npz")))
        inside = compute_zones(truth, ZoneSettings(config.pairs.interior_px, config.pairs.jump_mm)).interior
        assert found.mask[inside].all()
        expected.append(np.abs(found.depth - truth)[inside].mean())
    (row,) = (
        row for row in read_results(stage_folder(config, 9) / "cross_degradation.csv")
        if (row.method, row.metric, row.zone, row.views, row.method_b) == ("splathead_guided", "mae", "interior", "all", "")
    )  # fmt: skip
    assert row.value == pytest.approx(np.mean(expected), rel=1e-4)
