"""How well networks know their own errors: predicted error scales against the true surface, zone by zone.

A network of stage 06 that predicts its error is applied to the views of ``evaluate.splits``, without and with its guides where
it works without. Its measures (:mod:`splathead.metrics.uncertainty`) are over the pixels of a zone that it filled;
``coverage`` says which share these are.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from splathead.config import Config
from splathead.devices import gpu_count, network_jobs
from splathead.evaluation.live import (
    Trial,
    held_network,
    network_trials,
    study_networks,
    trained_weights,
)
from splathead.evaluation.rows import aggregate
from splathead.evaluation.scores import ScoreSheet
from splathead.evaluation.summary import Column, summary_lines
from splathead.evaluation.views import View, evaluated_items
from splathead.maps.view_maps import load_guide_maps
from splathead.metrics.uncertainty import evaluate_uncertainty
from splathead.metrics.zones import compute_zones
from splathead.prediction import load_input, load_network
from splathead.results import read_results, write_results
from splathead.samples import STAGE_NAMES, Sample, input_stage, stage_folder
from splathead.stages import Stage
from splathead.training.jobs import is_trained, left_out_line

EXPERIMENT = "uncertainty"
RESULTS_NAME = "uncertainty.csv"
KEY = "evaluate.uncertainty"
TARGET = "surface"
COUNT = "n_pixels"
COLUMNS = tuple(
    Column(metric, "interior") for metric in ("interval_coverage_50", "interval_coverage_90", "ause_rmse", "ause_mae", "nll")
)


def run_uncertainty(config: Config, *, jobs: int = 1, force: bool = False, limit: int = 0) -> list[str]:
    """Score the networks of ``evaluate.uncertainty`` and write stage 07's ``uncertainty.csv``; returns lines for the terminal.

    Each is the training on the true surface with the smallest seed. Raises RuntimeError when stage 05 is not finished or a
    network not trained (``finished_only`` goes on without it), ValueError for a method that ``trainings`` has not or that
    predicts no error, for a run without pairs and for heads without true surface.
    """
    if input_stage(config) != 5:
        raise ValueError(f"{KEY}: stages has no 5 (pairs), whose true surface errors are measured against")
    config = replace(config, evaluate=replace(config.evaluate, targets=[TARGET]))
    trials, missing = _trials(config)
    if not trials:
        return [left_out_line(f"{STAGE_NAMES[7]}/{EXPERIMENT}", missing)]
    items = evaluated_items(config, [], limit)
    settings = {key: getattr(config.evaluate, key) for key in ("splits", "frontal_yaw_deg", "bootstrap")}
    settings |= {"zones": [config.pairs.interior_px, config.pairs.jump_mm], "trials": [[t.method, t.sha256] for t in trials]}
    name = f"{STAGE_NAMES[7]}/{EXPERIMENT}"
    stage = Stage.open(config.run_folder, name, settings, [STAGE_NAMES[5]], extra=sorted(items), force=force, seed=config.seed)
    path = stage_folder(config, 7) / RESULTS_NAME
    methods = [trial.method for trial in trials]
    if stage.finished and path.is_file():
        rows = read_results(path)
    else:
        work = functools.partial(_score_item, config, trials, items)
        stage.run_items(work, items, jobs=network_jobs(config.device, jobs), unit="head", gpus=gpu_count(config.device))
        sheets = [ScoreSheet.read(stage.folder / item) for item in items]
        rows = aggregate(config, sheets, methods, stage.record["fingerprint"], EXPERIMENT)
        if not rows:
            raise ValueError(f"{config.run_folder}: {KEY}: no head of {config.evaluate.splits} has a true surface")
        write_results(path, rows)
        stage.close()
    notes = [left_out_line(name, missing)] if missing else []
    return [*summary_lines(rows, COLUMNS, methods), *notes, f"{name}: {len(items)} heads, {len(rows)} rows in {path}"]


def _trials(config: Config) -> tuple[list[Trial], list[str]]:
    """The networks as methods, and the trainings that ``finished_only`` goes without."""
    trials, missing = [], []
    for name in config.evaluate.uncertainty:
        (job,) = study_networks(config, name, (TARGET,), KEY)
        if config.finished_only and not is_trained(job):
            missing.append(job.name)
            continue
        weights = trained_weights(job, KEY)
        if not load_network(weights).predicts_error:
            raise ValueError(f"{KEY}: {weights}: {name!r} does not predict its error, expected one that does (splathead)")
        trials += network_trials(job, weights, job.config.train.lr_input)
    return trials, missing


def _score_item(config: Config, trials: Sequence[Trial], items: dict[str, list[Sample]], item: str, out_dir: Path) -> None:
    sheet = ScoreSheet.of(config, items[item][0])
    for sample in items[item]:
        view = View.load(config, sample)
        if TARGET in view.targets:
            _score_view(sheet, view, trials)
    sheet.write(out_dir)


def _score_view(sheet: ScoreSheet, view: View, trials: Sequence[Trial]) -> None:
    """Add the scores of one view; its lengths are in the head's unit first, since a likelihood is per unit of length."""
    config, sample, truth = view.config, view.sample, view.targets[TARGET].depth
    zones = compute_zones(truth, sheet.scale.zones(config))
    for trial in trials:
        lr = load_input(config, sample, trial.method.lr_input)
        network = held_network(config, trial.weights, trial.sha256, sample, view.pair.camera.width // lr.camera.width)
        maps = load_guide_maps(config, sample, network.guides) if trial.method.guided else None
        predicted, expected_mm = network.predict_with_error(lr, maps)
        error, expected = sheet.scale.length(predicted.depth - truth), sheet.scale.length(expected_mm)
        scores = {}
        for zone, mask in zones.items():
            found = asdict(evaluate_uncertainty(error, expected, mask & predicted.mask))
            found["coverage"] = found.pop(COUNT) / mask.sum() if mask.any() else math.nan
            scores |= {sheet.key(metric, zone): value for metric, value in found.items()}
        sheet.add(sample.view, view.pair.yaw_deg, TARGET, trial.method.folder, scores)
