"""Stage 06's methods of several views: fused, predicted again from a moved input, and how they are scored."""

from __future__ import annotations

import re

import numpy as np
import pytest
from guided_run import write_guided_run

from splathead import depth_sr
from splathead.cameras import save_cameras
from splathead.config import Config, ModelConfig
from splathead.evaluation import depth as depth_evaluation
from splathead.evaluation.views import predicted_methods
from splathead.fusion import DepthView, view_choice
from splathead.fusion.corrections import CorrectionSettings, view_corrections
from splathead.images import DepthEncoding, DepthMap, load_depth_png, load_maps, save_depth_png
from splathead.models.splat_surface import outlier_weight
from splathead.multiview import moved_input, multiview_predictors
from splathead.prediction import load_input, load_network
from splathead.predictors import Predictor
from splathead.report.data import method_label, method_order
from splathead.results import read_results
from splathead.samples import list_samples, predictions_folder, stage_folder
from splathead.synthetic import VARIANT, synthetic_view

VOXEL_MM = 6.0  # a pixel of these tiny views


@pytest.fixture
def config(tmp_path, single_thread) -> Config:
    made = write_guided_run(tmp_path)
    made.train.model = ModelConfig(name="splathead", guides=["cover", "spread"])
    made.train.baselines, made.train.multiview = ["bilinear", "splat_surface"], ["bilinear", "splathead", "splat_surface"]
    made.train.multiview.append("splathead_guided")
    made.fuse.voxel_mm, made.pairs.jump_mm = VOXEL_MM, 30.0
    for subject in ("val_00", "test_00"):
        samples = [sample for sample in list_samples(made, 5) if sample.subject == subject]
        cameras = [load_depth_png(sample.path(made, 5) / "hr_render.png").camera for sample in samples]
        save_cameras(stage_folder(made, 4) / subject / VARIANT / "cameras.json", cameras)
    return made


def predictions(config: Config, method: str) -> dict[str, DepthMap]:
    return {s.view: load_depth_png(s.prediction_path(config, method)) for s in list_samples(config, 5, splits=("test",))}


def difference(config: Config, method: str, other: str) -> float:
    pairs = zip(predictions(config, method).values(), predictions(config, other).values())
    return max(float(np.abs(a.depth - b.depth).max()) for a, b in pairs)


def corrected(config: Config, method: str, weights: list[np.ndarray | None]) -> dict[str, np.ndarray]:
    """What ``<method>_fused`` must be, made by hand."""
    own = predictions(config, method)
    views = [DepthView(m.depth, m.mask, m.camera, confidence=w) for m, w in zip(own.values(), weights)]
    found, _ = view_corrections(views, 400.0, CorrectionSettings(VOXEL_MM, jump=30.0, interior_px=2))
    return {view: m.depth + c for (view, m), c in zip(own.items(), found)}


def test_every_method_of_several_views_is_written_after_those_it_reads(config):
    line = depth_sr.run_stage(config)[-1]
    assert "splat_surface, bilinear_fused, splathead_fused, splathead_multiview, splat_surface_fused" in line
    assert not (predictions_folder(config) / "bilinear_multiview").exists()
    for method in ("bilinear", "splat_surface"):
        found, expected = predictions(config, f"{method}_fused"), corrected(config, method, [None, None])
        assert difference(config, f"{method}_fused", method) > 0.02
        for view, depth_map in found.items():
            np.testing.assert_allclose(depth_map.depth, expected[view], atol=0.01)
            np.testing.assert_array_equal(depth_map.mask, predictions(config, method)[view].mask)
            assert depth_map.source.endswith("moved to the surface that all views agree on")


def test_a_networks_views_weigh_by_its_predicted_error_and_it_predicts_again_from_a_moved_input(config):
    """A slow reference for both, view by view."""
    depth_sr.run_stage(config)
    network = load_network(stage_folder(config, 6) / "splathead" / "model.safetensors")
    samples = list_samples(config, 5, splits=("test",))
    guide_maps = [load_maps(sample.path(config, 4, "_hr.npz")) for sample in samples]
    for method, maps in (("splathead", [None] * 2), ("splathead_guided", guide_maps)):
        inputs = [load_input(config, sample, "8bit") for sample in samples]
        errors = [network.predict_with_error(lr, view_maps)[1] for lr, view_maps in zip(inputs, maps)]
        own, fused, again = (predictions(config, method + suffix) for suffix in ("", "_fused", "_multiview"))
        weights = [outlier_weight(error, m.mask) for error, m in zip(errors, own.values())]
        expected = corrected(config, method, weights)
        for sample, lr, view_maps in zip(samples, inputs, maps):
            view = sample.view
            np.testing.assert_allclose(fused[view].depth, expected[view], atol=0.01)
            moved = moved_input(lr, fused[view].depth - own[view].depth, own[view].mask)
            np.testing.assert_allclose(again[view].depth, network.predict(moved, view_maps).depth, atol=0.01)
        assert difference(config, f"{method}_multiview", method) > 0.02


def test_they_are_scored_beside_their_method_and_ranked_with_nothing_that_sees_one_view(config):
    depth_sr.run_stage(config)
    tracks = {method.name: method.track for method in predicted_methods(config)}
    assert tracks == {
        "bilinear": "A", "bilinear_fused": "", "splathead": "A", "splathead_fused": "", "splathead_multiview": "",
        "splathead_guided": "B", "splathead_guided_fused": "", "splathead_guided_multiview": "",
        "splat_surface": "C", "splat_surface_fused": "C",
    }  # fmt: skip
    depth_evaluation.run_stage(config)
    rows = read_results(stage_folder(config, 7) / "depth.csv")
    pairs = {(row.method, row.method_b) for row in rows if row.method_b}
    assert {("splathead_multiview", "splathead"), ("splat_surface_fused", "splat_surface")} <= pairs
    assert not any(row.target == "render" for row in rows if row.method.startswith("splat_surface"))
    assert any(row.target == "render" for row in rows if row.method == "bilinear_fused")
    assert method_label("splathead_guided_multiview") == "SplatHead + guides, fused and predicted again"
    assert method_order("bilinear") < method_order("bilinear_fused") < method_order("bicubic")
    assert method_label("unet-surface") == "UNet" and method_label("unet_fused-render") == "UNet, views fused, for the render"
    assert method_order("unet") < method_order("unet-surface") < method_order("unet_long")  # a study's folders


def test_they_are_made_again_when_what_they_depend_on_changes_and_only_then(config):
    config.train.model, config.train.multiview = ModelConfig(name="none"), ["bilinear"]
    depth_sr.run_stage(config)
    path = predictions_folder(config) / "bilinear_fused" / "test_00"
    first = path.stat().st_mtime_ns
    depth_sr.run_stage(config)
    assert path.stat().st_mtime_ns == first
    config.fuse.voxel_mm = 8.0
    depth_sr.run_stage(config)
    second = path.stat().st_mtime_ns
    assert second != first
    config.train.lr_input = "16bit"
    depth_sr.run_stage(config)
    assert path.stat().st_mtime_ns != second


def test_a_view_that_contradicts_the_others_keeps_its_prediction_and_the_sidecar_says_so(config, monkeypatch):
    config.train.model, config.train.multiview = ModelConfig(name="none"), []
    depth_sr.run_stage(config)
    sample = list_samples(config, 5, splits=("test",))[1]
    path = sample.prediction_path(config, "bilinear")
    own = load_depth_png(path)
    save_depth_png(path, DepthMap.of_float(own.depth + 30 * own.mask, own.mask, own.camera, "behind the others"))
    monkeypatch.setattr(view_choice, "MIN_POINTS", 10)  # these views have few
    config.train.multiview = ["bilinear"]
    depth_sr.run_stage(config)
    assert difference(config, "bilinear_fused", "bilinear") < 0.01
    assert f"{sample.view} (contradicts" in predictions(config, "bilinear_fused")[sample.view].source


def test_a_method_that_is_not_there_is_named(config):
    config.train.model, config.train.multiview = ModelConfig(name="none"), ["unet"]
    with pytest.raises(ValueError, match=r"train\.multiview: 'unet' is not among .* bilinear, splat_surface"):
        depth_sr.run_stage(config)


def test_names_in_a_study_are_checked_before_training_as_they_are_looked_up_after_it(config):
    """Folders carry the suffix within the method's name, before target and seed."""
    config.trainings = [{"method": "splathead", "seed": 1}]
    config.train.baselines, config.train.interval.methods = ["bilinear_offset"], ["splathead_guided-surface+seed1"]
    config.train.interval.methods += ["bilinear_offset-surface"]
    config.train.interval.max_violation = 1.0  # these views have too few cells to judge on
    trained = stage_folder(config, 6) / "splathead-surface+seed1" / "model.safetensors"
    for wrong in ("splathead_guided-surface+seed1_interval", "splathead_interval"):
        config.train.multiview = [wrong]
        with pytest.raises(ValueError, match=rf"train\.multiview: '{re.escape(wrong)}' is not .*, splathead_guided_interval-"):
            depth_sr.run_stage(config)
        assert not trained.exists()
    config.train.multiview = ["splathead_guided_interval-surface+seed1", "splathead_guided_interval", "bilinear_offset-surface"]
    line = depth_sr.run_stage(config)[-1].split(" in ")[0]
    assert trained.exists() and line.endswith(
        "splathead_guided_interval-surface+seed1, bilinear_offset_interval-surface, "
        "splathead_guided_interval_fused-surface+seed1, bilinear_offset_fused-surface"
    )  # the method called by both of its names is made once


def test_a_method_called_by_both_its_names_is_derived_once(config):
    base = Predictor("unet-surface", {"method": "unet"}, lambda folder: None, is_network=True)
    other = Predictor("unet-surface+seed1", {"method": "unet"}, lambda folder: None)
    config.train.multiview = ["unet-surface", "unet"]
    found = [predictor.method for predictor in multiview_predictors(config, [other, base])]
    assert found == ["unet_fused-surface", "unet_multiview-surface", "unet_fused-surface+seed1"]


def test_an_input_moves_by_the_mean_of_the_change_over_its_pixels():
    maps = synthetic_view(0, size=64)
    lr, rng = maps["lr_8bit"], np.random.default_rng(0)
    change = rng.normal(0, 1, (64, 64)).astype(np.float32)
    mask = maps["surface"].mask
    moved = moved_input(lr, change, mask)
    assert moved.encoding == lr.encoding and moved.mask is lr.mask and moved.depth.dtype == np.float32
    for row, column in np.argwhere(lr.mask):
        cell = np.s_[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        expected = change[cell][mask[cell]].mean() if mask[cell].mean() >= 0.5 else 0.0
        assert moved.depth[row, column] == pytest.approx(lr.depth[row, column] + expected, abs=1e-3)
    assert not moved.depth[~lr.mask].any()
    with pytest.raises(ValueError, match="whole factor"):
        moved_input(lr, change[:60], mask[:60])


def test_a_change_below_a_code_step_is_not_lost():
    depth = np.full((4, 4), 400.0, np.float32)
    mask = np.ones((4, 4), bool)
    camera = synthetic_view(0, size=16)["lr_8bit"].camera
    lr = DepthMap(depth, mask, DepthEncoding(300.0, 500.0, 8, "mm"), camera, "test")
    assert lr.encoding.lsb > 0.5
    moved = moved_input(lr, np.full((16, 16), 0.1, np.float32), np.ones((16, 16), bool))
    np.testing.assert_allclose(moved.depth, 400.1, atol=1e-3)
