"""Stage 07's uncertainty: rows of networks without and with guides, as scored by hand; units; what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from guided_run import write_guided_run

from splathead import depth_sr
from splathead.config import Config
from splathead.evaluation.uncertainty import run_uncertainty
from splathead.images import load_depth_png, load_maps, write_json
from splathead.metrics.uncertainty import evaluate_uncertainty
from splathead.metrics.zones import ZoneSettings, compute_zones
from splathead.prediction import TrainedNetwork, load_network
from splathead.results import ResultRow, read_results
from splathead.samples import list_samples, stage_folder

pytestmark = pytest.mark.usefixtures("single_thread")
METRICS = ("interval_coverage_50", "interval_coverage_80", "interval_coverage_90", "interval_coverage_95", "ause_rmse",
           "ause_mae", "nll")  # fmt: skip


@pytest.fixture
def config(tmp_path) -> Config:
    made = write_guided_run(tmp_path)
    made.trainings = [{"method": "splathead", "model": {"name": "splathead"}, "learning_rate": 1e-3}, {"method": "unet"}]
    depth_sr.run_stage(made)
    made.evaluate = replace(made.evaluate, uncertainty=["splathead"], bootstrap=50)
    return made


def rows_of(config: Config) -> list[ResultRow]:
    return read_results(stage_folder(config, 7) / "uncertainty.csv")


def test_rows_are_the_measures_of_the_network_applied_by_hand(config):
    lines = run_uncertainty(config)
    rows = {(row.method, row.zone, row.metric): row for row in rows_of(config) if row.views == "all"}
    assert {(row.experiment, row.target, row.split, row.method_b) for row in rows.values()} == {
        ("uncertainty", "surface", "test", "")
    }
    assert {(row.method, row.track) for row in rows.values()} == {("splathead", "A"), ("splathead_guided", "B")}
    network = load_network(stage_folder(config, 6) / "splathead-surface" / "model.safetensors")
    found: dict[tuple[str, str, str], list[float]] = {}
    for sample in list_samples(config, 5, splits=("test",)):
        truth = load_depth_png(sample.path(config, 5) / "hr_surface.png").depth
        lr = load_depth_png(sample.path(config, 5) / "lr_8bit.png")
        zones = compute_zones(truth, ZoneSettings(config.pairs.interior_px, config.pairs.jump_mm))
        for method, maps in (("splathead", None), ("splathead_guided", load_maps(sample.path(config, 4, "_hr.npz")))):
            predicted, expected = network.predict_with_error(lr, maps)
            for zone, mask in zones.items():
                scores = evaluate_uncertainty(predicted.depth - truth, expected, mask & predicted.mask)
                for metric in METRICS:
                    found.setdefault((method, zone, metric), []).append(getattr(scores, metric))
                found.setdefault((method, zone, "coverage"), []).append(predicted.mask[mask].mean())
    assert set(rows) == set(found)
    for key, values in found.items():  # one person
        assert rows[key].value == pytest.approx(np.mean(values), rel=1e-4, abs=1e-5), key
        assert rows[key].n == 1
    assert any("against surface" in line for line in lines) and any("AUSE RMSE" in line for line in lines)
    assert rows["splathead", "full", "coverage"].value > 0.9


def test_people_make_the_interval_and_finished_work_is_kept(config, monkeypatch):
    config.evaluate.splits = ["val", "test"]
    for path in stage_folder(config, 1).glob("*/subject.json"):
        info = json.loads(path.read_text())
        if info["split"] == "val":
            write_json(path, info | {"split": "test"})
    run_uncertainty(config)
    before = rows_of(config)
    assert {row.n for row in before} == {2} and all(row.ci_low <= row.value <= row.ci_high for row in before)
    monkeypatch.setattr(TrainedNetwork, "predict_with_error", None)
    run_uncertainty(config)
    assert rows_of(config) == before


def test_planted_laplace_errors_are_covered_as_their_levels_say(config, monkeypatch):
    """The true surface plus errors of known scales, as "guided" with one scale for all."""
    rng = np.random.default_rng(0)
    truths = {}
    for sample in list_samples(config, 5, splits=("test",)):
        folder = sample.path(config, 5)
        truths[load_depth_png(folder / "lr_8bit.png").depth.tobytes()] = load_depth_png(folder / "hr_surface.png")

    def planted(self, lr, maps=None):
        truth = truths[lr.depth.tobytes()]
        scale = np.exp(rng.uniform(-2, 1, truth.depth.shape)).astype(np.float32)
        depth = np.where(truth.mask, truth.depth + rng.laplace(0, scale), 0).astype(np.float32)
        return replace(truth, depth=depth), scale if maps is None else np.full_like(scale, scale.mean())

    monkeypatch.setattr(TrainedNetwork, "predict_with_error", planted)
    run_uncertainty(config)
    rows = {(row.method, row.metric): row.value for row in rows_of(config) if (row.zone, row.views) == ("full", "all")}
    for level in (50, 80, 90, 95):
        assert rows["splathead", f"interval_coverage_{level}"] == pytest.approx(level / 100, abs=0.03)
    assert rows["splathead_guided", "interval_coverage_50"] > 0.57  # one scale for all is too wide for most
    assert rows["splathead", "coverage"] == 1
    for metric in ("ause_rmse", "ause_mae", "nll"):
        assert rows["splathead", metric] < rows["splathead_guided", metric]


def test_without_a_known_size_the_likelihood_is_per_diagonal(config):
    run_uncertainty(config)
    known = {(row.method, row.zone, row.views, row.metric): row.value for row in rows_of(config)}
    for path in stage_folder(config, 1).glob("*/subject.json"):
        write_json(path, json.loads(path.read_text()) | {"scale": "nominal"})
    run_uncertainty(config, force=True)
    nominal = {(row.method, row.zone, row.views, row.metric): row.value for row in rows_of(config)}
    assert set(nominal) == set(known)
    for key, value in nominal.items():
        shift = -np.log(400.0) if key[-1] == "nll" else 0  # lengths in diagonals are 400 times smaller than in mm
        assert value == pytest.approx(known[key] + shift, rel=1e-4, abs=2e-5), key


def test_what_it_refuses(config):
    config.evaluate.uncertainty = ["unet"]
    with pytest.raises(ValueError, match=r"evaluate\.uncertainty: .*'unet' does not predict its error"):
        run_uncertainty(config)
    config.evaluate.uncertainty = ["edsr"]
    with pytest.raises(ValueError, match="'edsr' is no method of trainings on target surface"):
        run_uncertainty(config)
    config.trainings.append({"method": "splathead_late", "model": {"name": "splathead"}})
    config.evaluate.uncertainty = ["splathead_late"]
    with pytest.raises(RuntimeError, match=r"evaluate\.uncertainty: .*splathead_late-surface is not trained"):
        run_uncertainty(config)
    config.finished_only = True
    assert "without 1 training that is not finished (splathead_late-surface)" in run_uncertainty(config)[0]
    config.evaluate.uncertainty = ["splathead", "splathead_late"]
    assert any("splathead_late-surface" in line for line in run_uncertainty(config)) and len(rows_of(config))
    with pytest.raises(ValueError, match=r"evaluate\.uncertainty: stages has no 5"):
        run_uncertainty(replace(config, stages=[stage for stage in config.stages if stage != 5]))
