"""How often true depth itself contradicts the intervals of an input's code, for each forward operator. Interior cells only.

A constraint that the truth violates can only take predictions away from it. For each input of ``evaluate.interval_truth``, each
operator of :mod:`splathead.intervals` and each target, over low-resolution cells that lie wholly in the target's interior:

===================  =========================================================================================================
metric               meaning
===================  =========================================================================================================
interval_violation   share of cells whose true reading is more than half a step from the decoded code
interval_excess      mean distance by which it is
bias                 mean of what the input says minus the true reading: negative where the input lies in front
===================  =========================================================================================================

``method`` is the operator, ``degradation_test`` the input. A constant is fitted on the training heads, for each kind of fit and
target; without any the operator that needs one is left out.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from splathead.config import Config
from splathead.evaluation.rows import aggregate
from splathead.evaluation.scores import ScoreSheet
from splathead.evaluation.summary import Column, summary_lines
from splathead.evaluation.views import Method, View, evaluated_items
from splathead.intervals import FITTED, KERNELS, Operator
from splathead.maps.low_resolution import load_low_resolution
from splathead.metrics.depth import interval_violation
from splathead.metrics.zones import cells_within, compute_zones
from splathead.results import read_results, write_results
from splathead.samples import STAGE_NAMES, Sample, input_stage, list_samples, stage_folder
from splathead.stages import Stage

EXPERIMENT = "interval_truth"
RESULTS_NAME = "interval_truth.csv"
COLUMNS = (Column("interval_violation", "interior"), Column("interval_excess", "interior"), Column("bias", "interior"))

Offsets = Mapping[tuple[str, str, str, str], float]
"""(operator, input, target, variant) -> constant in mm"""


def run_interval_truth(config: Config, *, jobs: int = 1, force: bool = False, limit: int = 0) -> list[str]:
    """Measure the heads of ``evaluate.splits`` and write stage 07's ``interval_truth.csv``; returns lines for the terminal.

    Raises RuntimeError when stage 05 is not finished, ValueError for a run without pairs, FileNotFoundError for a training head
    without a target.
    """
    if input_stage(config) != 5:
        raise ValueError("evaluate.interval_truth: stages has no 5 (pairs), whose targets inputs are compared with")
    items, inputs = evaluated_items(config, [], limit), config.evaluate.interval_truth
    training = [str(sample) for sample in list_samples(config, 5, splits=("train",), limit=limit)]
    settings = {key: getattr(config.evaluate, key) for key in ("splits", "targets", "frontal_yaw_deg", "bootstrap")}
    settings |= {"zones": [config.pairs.interior_px, config.pairs.jump_mm], "inputs": inputs, "operators": KERNELS}
    name, extra = f"{STAGE_NAMES[7]}/{EXPERIMENT}", [sorted(items), training]
    stage = Stage.open(config.run_folder, name, settings, [STAGE_NAMES[5]], extra=extra, force=force, seed=config.seed)
    path = stage_folder(config, 7) / RESULTS_NAME
    if stage.finished and path.is_file():
        rows = read_results(path)
    else:
        work = functools.partial(_score_item, config, items, _fitted(config, limit))
        stage.run_items(work, items, jobs=jobs, unit="head")
        sheets = [ScoreSheet.read(stage.folder / item) for item in items]
        rows = aggregate(config, sheets, (), stage.record["fingerprint"], EXPERIMENT)
        rows = [replace(row, **dict(zip(("method", "degradation_test"), row.method.split("@")))) for row in rows]
        write_results(path, rows)
        stage.close()
    shown = [replace(row, method=f"{row.method}@{row.degradation_test}") for row in rows]
    methods = [Method(f"{operator}@{lr_input}", f"{operator}@{lr_input}", "") for lr_input in inputs for operator in KERNELS]
    notes = [] if training else [f"{name}: {', '.join(FITTED)} left out, there are no training subjects to fit its constant on"]
    return [*summary_lines(shown, COLUMNS, methods), *notes, f"{name}: {len(items)} heads, {len(rows)} rows in {path}"]


def _fitted(config: Config, limit: int) -> Offsets:
    """Constants of the operators that have one; empty without training heads."""
    from splathead.interval_predictors import calibrate

    samples = list_samples(config, 5, splits=("train",), limit=limit)
    cases = [(operator, lr_input, target) for operator in FITTED for lr_input in config.evaluate.interval_truth
             for target in config.evaluate.targets]  # fmt: skip
    return {
        (*case, variant): found["offset"]
        for case in cases if samples
        for variant, found in calibrate(config, samples, *case).items()
    }  # fmt: skip


def _score_item(config: Config, items: dict[str, list[Sample]], offsets: Offsets, item: str, out_dir: Path) -> None:
    sheet = ScoreSheet.of(config, items[item][0])
    for sample in items[item]:
        score_view(sheet, View.load(config, sample), offsets)
    sheet.write(out_dir)


def score_view(sheet: ScoreSheet, view: View, offsets: Offsets) -> None:
    """Add every input, operator and target of one view; operators with a constant that ``offsets`` lacks are left out."""
    config, sample, settings = view.config, view.sample, sheet.scale.zones(view.config)
    zones = {name: compute_zones(target.depth, settings).interior for name, target in view.targets.items()}
    for lr_input in config.evaluate.interval_truth:
        lr = load_low_resolution(sample.path(config, 5), lr_input, config.seed)
        code, factor = lr.encoding.encode(lr.depth, lr.mask), view.pair.camera.width // lr.camera.width
        for target, truth in view.targets.items():
            cells = lr.mask & cells_within(zones[target], factor)
            for name in KERNELS:
                key = (name, lr_input, target, sample.variant)
                if name in FITTED and key not in offsets:
                    continue
                reading, _ = Operator(name, offsets.get(key, 0.0)).read(truth.depth, truth.mask, factor)
                violation, excess = interval_violation(reading, code, lr.encoding, cells)
                bias = float((lr.depth - reading)[cells].mean()) if cells.any() else float("nan")
                found = {"interval_violation": violation, "interval_excess": excess, "bias": bias}
                scores = {sheet.key(metric, "interior"): value for metric, value in found.items()}
                sheet.add(sample.view, view.pair.yaw_deg, target, f"{name}@{lr_input}", scores)
