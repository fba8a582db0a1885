"""Stage 06's ``<method>_interval`` and stage 07's interval_truth.csv on tiny synthetic heads."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from splathead import depth_sr
from splathead.config import (
    Config,
    ConfigError,
    IntervalConfig,
    ModelConfig,
    PairsConfig,
    RenderConfig,
    SubjectsConfig,
    TrainConfig,
    validate,
)
from splathead.config.loading import _CHOICES
from splathead.evaluation.depth import run_stage as run_depth
from splathead.evaluation.interval_truth import run_interval_truth
from splathead.images import load_depth_png, write_json
from splathead.interval_predictors import CALIBRATION_NAME, calibrate
from splathead.intervals import KERNELS, Operator, differences, project, trusted_cells
from splathead.maps.low_resolution import load_low_resolution
from splathead.metrics.zones import ZoneSettings, cells_within, compute_zones
from splathead.prediction import load_input
from splathead.report.data import method_label, method_order
from splathead.results import read_results
from splathead.samples import STAGE_NAMES, list_samples, predictions_folder, stage_folder
from splathead.synthetic import SPLAT_OFFSET_MM, VARIANT, write_synthetic_run

pytestmark = pytest.mark.usefixtures("single_thread")
ZONES = ZoneSettings(8, 30.0)
ROUNDING = 3e-3  # steps; of the 16-bit file and what counts as half a step


@pytest.fixture
def config(tmp_path) -> Config:
    train = TrainConfig(
        model=ModelConfig(name="none"), target="render", lr_input="area_8bit",
        baselines=["nearest", "bilinear", "bilinear_offset"], interval=IntervalConfig(["nearest", "bilinear"]),
    )  # fmt: skip
    made = Config(
        name="tiny", runs_dir=str(tmp_path), device="cpu", train=train, subjects=SubjectsConfig(map_size=256, map_yaws=[0.0]),
        render=RenderConfig(lr_size=64), pairs=PairsConfig(interior_px=ZONES.band_px, jump_mm=ZONES.jump),
    )  # fmt: skip
    made.evaluate = replace(made.evaluate, bootstrap=50)
    write_synthetic_run(made, {"train": 2, "val": 1, "test": 1})
    for subject in ("train_00", "train_01", "val_00", "test_00"):
        path = stage_folder(made, 1) / subject / "subject.json"
        write_json(path, {**json.loads(path.read_text()), "identity": subject, "scale": "metric", "diagonal_mm": 400.0})
    return made


def depth_of(config: Config, method: str) -> np.ndarray:
    sample = list_samples(config, 5, splits=("test",))[0]
    return load_depth_png(sample.prediction_path(config, method)).depth


def calibration(config: Config, method: str) -> dict:
    return json.loads((predictions_folder(config) / method / CALIBRATION_NAME).read_text())["variants"][VARIANT]


def excess_steps(config: Config, method: str) -> float:
    """The largest excess of a test prediction's readings over half a step, in steps."""
    sample, operator = list_samples(config, 5, splits=("test",))[0], Operator("area")
    lr, depth = load_input(config, sample, config.train.lr_input), depth_of(config, method)
    cells = trusted_cells(depth, lr, operator, ZONES)
    assert cells.sum() > 300
    return float(np.abs(differences(depth, lr, operator, cells)).max() / lr.encoding.lsb - 0.5)


def test_predictions_are_within_the_intervals_and_scored_beside_their_own(config):
    lines = depth_sr.run_stage(config)
    assert "nearest_interval, bilinear_interval in" in lines[-1]
    assert calibration(config, "bilinear_interval") == {"offset": 0.0, "violation": 0.0}
    assert excess_steps(config, "bilinear") > 0.05 and excess_steps(config, "bilinear_interval") < ROUNDING
    np.testing.assert_array_equal(depth_of(config, "nearest_interval"), depth_of(config, "nearest"))  # it has the means already
    sample = list_samples(config, 5, splits=("test",))[0]
    expected = project(depth_of(config, "bilinear"), load_input(config, sample, "area_8bit"), Operator("area"), ZONES)
    np.testing.assert_allclose(depth_of(config, "bilinear_interval"), expected, atol=5e-3)
    found = load_depth_png(sample.prediction_path(config, "bilinear_interval"))
    assert found.source.endswith("within the intervals of its 8-bit input, operator area")

    before = (predictions_folder(config) / "bilinear_interval/test_00").stat().st_mtime_ns
    depth_sr.run_stage(config)
    assert (predictions_folder(config) / "bilinear_interval/test_00").stat().st_mtime_ns == before
    run_depth(config)
    rows = read_results(stage_folder(config, 7) / "depth.csv")
    pairs = {(row.method, row.method_b) for row in rows if row.method.endswith("_interval") and row.method_b}
    assert ("bilinear_interval", "bilinear") in pairs and ("nearest_interval", "nearest") in pairs
    assert ("bilinear_interval", "nearest") not in pairs and ("bilinear", "nearest") not in pairs
    (row,) = (r for r in rows if (r.method, r.method_b, r.metric, r.zone, r.views, r.target)
              == ("bilinear_interval", "bilinear", "rmse", "interior", "all", "render"))  # fmt: skip
    assert row.value < 0


def test_a_fit_whose_truth_contradicts_the_intervals_is_left_as_it_is(config):
    config.train.target = "surface"  # 1.2 mm in front of the splats
    depth_sr.run_stage(config)
    assert calibration(config, "bilinear_interval")["violation"] > 0.5
    np.testing.assert_array_equal(depth_of(config, "bilinear_interval"), depth_of(config, "bilinear"))
    sample = list_samples(config, 5, splits=("test",))[0]
    assert load_depth_png(sample.prediction_path(config, "bilinear_interval")).source.endswith("intervals do not hold here")
    config.train.interval.max_violation = 1.0
    depth_sr.run_stage(config)
    assert not (predictions_folder(config) / "bilinear_interval" / CALIBRATION_NAME).exists()
    assert excess_steps(config, "bilinear_interval") < ROUNDING


def test_the_classic_operators_constant_is_fitted_on_training_heads(config):
    samples = list_samples(config, 5, splits=("train",))
    found = calibrate(config, samples, "classic", "8bit", "surface")[VARIANT]
    plain = calibrate(config, samples, "antialiased", "8bit", "surface")[VARIANT]
    assert found["offset"] == pytest.approx(SPLAT_OFFSET_MM, abs=0.3) and plain["offset"] == 0.0
    assert found["violation"] < plain["violation"]


def test_methods_that_cannot_be_treated_are_named(config):
    config.train.interval.methods = ["unet"]
    with pytest.raises(ValueError, match="'unet' is not among the methods of stage 06: bilinear, bilinear_offset, nearest"):
        depth_sr.run_stage(config)
    config.train.model = ModelConfig(base_ch=4)
    config.train.interval.methods = ["edsr"]
    with pytest.raises(ValueError, match=r"'edsr' is not among the methods of stage 06: bilinear, .*, nearest, unet"):
        depth_sr.run_stage(config)
    assert not list(stage_folder(config, 6).glob("*/model.safetensors"))  # said before anything was trained
    config.train.model = ModelConfig(name="none")
    config.train.interval.methods, config.train.baselines = ["raw_splat"], ["raw_splat"]
    with pytest.raises(ValueError, match="'raw_splat' reads no low-resolution depth code"):
        depth_sr.run_stage(config)
    with pytest.raises(ConfigError, match=r"train.interval.max_violation: 1.5, expected 0 to 1"):
        validate(replace(config, train=replace(config.train, interval=IntervalConfig(max_violation=1.5))), "test")
    assert _CHOICES["train.interval.operator"] == tuple(KERNELS)


def test_without_training_heads_only_what_needs_none_is_written(config):
    for subject in ("train_00", "train_01"):
        shutil.rmtree(stage_folder(config, 1) / subject)
    config.train.baselines = ["nearest", "bilinear"]
    lines = depth_sr.run_stage(config)
    assert "bilinear_interval: left out, there are no training subjects to judge the operator 'area' on" in lines
    assert not (predictions_folder(config) / "bilinear_interval").exists()
    config.train.interval.max_violation = 1.0
    depth_sr.run_stage(config)
    assert excess_steps(config, "bilinear_interval") < ROUNDING
    config.train.interval.operator = "classic"
    assert any("judge the operator 'classic'" in line for line in depth_sr.run_stage(config))


def test_names_follow_their_methods_in_a_study_and_in_tables(config):
    from splathead.interval_predictors import interval_predictors
    from splathead.predictors import Predictor

    base = Predictor("unet-surface+seed1", {"method": "unet", "lr_input": "8bit", "target": "surface"}, lambda folder: None)
    config.train.interval.methods = ["unet"]
    (found,), notes = interval_predictors(config, [base])
    assert found.method == "unet_interval-surface+seed1" and found.settings["method"] == "unet_interval" and not notes
    assert found.settings["target"] == "surface" and found.fit is not None
    config.train.interval.methods = ["unet-surface+seed1"]  # its folder: this training alone
    assert [p.method for p in interval_predictors(config, [base])[0]] == [found.method]
    config.train.interval.methods = ["unet", "unet-surface+seed1"]  # both mean it: it is made once
    assert [p.method for p in interval_predictors(config, [base])[0]] == [found.method]
    config.train.interval.methods = ["unet-surface"]
    with pytest.raises(ValueError, match=r"unet-surface.*unet-surface\+seed1"):
        interval_predictors(config, [base])
    assert method_label("unet_interval") == "UNet, in intervals"
    assert method_order("unet") < method_order("unet_interval") < method_order("unet_long")
    config.finished_only, config.train.interval.methods = True, ["srresnet", "unet"]
    made, notes = interval_predictors(config, [base])
    assert [p.method for p in made] == [found.method] and notes == ["srresnet_interval: left out, srresnet is not trained"]


def test_how_often_truth_contradicts_is_what_a_loop_counts(config):
    config.evaluate.interval_truth = ["8bit", "area_8bit"]
    lines = run_interval_truth(config)
    rows = [row for row in read_results(stage_folder(config, 7) / "interval_truth.csv") if row.views == "all"]
    assert {row.experiment for row in rows} == {"interval_truth"} and not any(row.method_b for row in rows)
    found = {(row.method, row.degradation_test, row.target, row.metric): row.value for row in rows}
    assert len(found) == len(rows) == 3 * 2 * 2 * 3
    assert found["area", "area_8bit", "render", "interval_violation"] == 0
    assert found["area", "area_8bit", "surface", "bias"] == pytest.approx(SPLAT_OFFSET_MM, abs=0.3)
    assert abs(found["classic", "area_8bit", "surface", "bias"]) < 0.5
    sample = list_samples(config, 5, splits=("test",))[0]
    for target in ("render", "surface"):
        truth = load_depth_png(sample.path(config, 5) / f"hr_{target}.png").depth
        lr = load_low_resolution(sample.path(config, 5), "8bit")
        zone, count, out = cells_within(compute_zones(truth, ZONES).interior, 4) & lr.mask, 0, 0
        for i, j in np.argwhere(zone):
            mean = truth[4 * i : 4 * i + 4, 4 * j : 4 * j + 4].mean(dtype=np.float64)
            count, out = count + 1, out + (abs(mean - lr.depth[i, j]) > 0.501 * lr.encoding.lsb)
        assert found["area", "8bit", target, "interval_violation"] == pytest.approx(out / count, abs=2 / count)
    assert any("area@area_8bit" in line for line in lines) and lines[-1].endswith("interval_truth.csv")
    before = (stage_folder(config, 7) / "interval_truth.csv").stat().st_mtime_ns
    run_interval_truth(config)
    assert (stage_folder(config, 7) / "interval_truth.csv").stat().st_mtime_ns == before
    assert STAGE_NAMES[7] in lines[-1]


def test_without_training_heads_the_fitted_operator_is_left_out(config):
    for subject in ("train_00", "train_01"):
        shutil.rmtree(stage_folder(config, 1) / subject)
    config.evaluate.interval_truth = ["area_8bit"]
    lines = run_interval_truth(config)
    rows = read_results(stage_folder(config, 7) / "interval_truth.csv")
    assert {row.method for row in rows} == {"area", "antialiased"}
    assert any("classic left out" in line for line in lines)
    config.stages = [1, 2, 3, 4, 6, 7]
    with pytest.raises(ValueError, match="stages has no 5"):
        run_interval_truth(config)
