"""Stage 06's ``<method>_interval``: a method's predictions, made to agree with the intervals of their input's code.

They read the method's own finished predictions. Whether a kind of fit is treated at all is decided on the training heads: where
their true depth contradicts the intervals itself, a prediction that agrees with them is further from the truth.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from splathead.config import Config
from splathead.images import DepthEncoding, DepthMap, load_depth_png, write_json
from splathead.intervals import FITTED, Operator, differences, project, trusted_cells, violation
from splathead.method_names import INTERVAL
from splathead.metrics.zones import ZoneSettings
from splathead.prediction import PREDICTION_BITS, load_input
from splathead.predictors import Predict, Predictor, called_predictors, check_methods, spread_samples
from splathead.samples import Sample, input_stage, list_samples

CALIBRATION_NAME = "interval.json"
KEY = "train.interval.methods"


def interval_predictors(config: Config, predictors: Sequence[Predictor], limit: int = 0) -> tuple[list[Predictor], list[str]]:
    """Those of ``train.interval.methods`` among ``predictors`` as methods of their own, and a note on each left out.

    ValueError for a method that is not there (but with ``finished_only``, whose training may follow) or has no input of codes.
    """
    settings = config.train.interval
    if not config.finished_only:
        check_methods(KEY, settings.methods, [predictor.names for predictor in predictors])
    found = called_predictors(settings.methods, predictors)
    unknown = [name for name in settings.methods if not any(base.is_called(name) for base in found)]
    notes = [f"{name}{INTERVAL}: left out, {name} is not trained" for name in unknown]
    samples = list_samples(config, 5, splits=("train",), limit=limit) if input_stage(config) == 5 else []
    always = settings.max_violation >= 1 and settings.operator not in FITTED
    if not (samples or always):
        why = f"there are no training subjects to judge the operator {settings.operator!r} on"
        return [], [*notes, *(f"{base.derived(INTERVAL)}: left out, {why}" for base in found)]
    return [_predictor(config, base, [] if always else samples, limit) for base in found], notes


def _predictor(config: Config, base: Predictor, samples: Sequence[Sample], limit: int) -> Predictor:
    """``base`` with its predictions projected; without ``samples`` every kind of fit is, and no constant is fitted."""
    if "lr_input" not in base.settings:
        raise ValueError(f"{KEY}: {base.method!r} reads no low-resolution depth code")
    interval = config.train.interval
    target = base.settings.get("target", config.train.target)
    extra = {"operator": interval.operator, "max_violation": interval.max_violation, "target": target, "limit": limit}
    extra["zone"] = [config.pairs.interior_px, config.pairs.jump_mm]
    settings = base.settings | {"interval": extra}
    if "method" in settings:
        settings["method"] = base.name + INTERVAL
    fit = functools.partial(_fit, config, samples, base.settings["lr_input"], target) if samples else None
    make = functools.partial(_make, config, base, calibrated=bool(samples))
    return Predictor(base.derived(INTERVAL), settings, make, fit)


def _fit(config: Config, samples: Sequence[Sample], lr_input: str, target: str, folder: Path) -> None:
    found = calibrate(config, samples, config.train.interval.operator, lr_input, target)
    write_json(folder / CALIBRATION_NAME, {"unit": "mm", "target": target, "variants": found})


def calibrate(
    config: Config, samples: Sequence[Sample], operator: str, lr_input: str, target: str
) -> dict[str, dict[str, float]]:
    """Per variant an operator's ``offset`` in mm (0 unless it is a fitted one) and ``violation``, the share of trusted cells
    whose true reading contradicts the input. Both over ``samples``, every view the same weight.

    ValueError for a variant without a trusted cell in any view, FileNotFoundError for samples without the target.
    """
    zones, result = ZoneSettings(config.pairs.interior_px, config.pairs.jump_mm), {}
    for variant in sorted({sample.variant for sample in samples}):
        views: list[tuple[np.ndarray, DepthEncoding]] = []
        for sample in spread_samples(samples, variant):
            lr, truth = load_input(config, sample, lr_input), load_depth_png(sample.path(config, 5) / f"hr_{target}.png").depth
            cells = trusted_cells(truth, lr, Operator(operator), zones)
            found = differences(truth, lr, Operator(operator), cells)
            views += [(found, lr.encoding)] if found.size else []
        if not views:
            raise ValueError(f"{variant}: no cell of the training heads is far enough from silhouettes and jumps to be trusted")
        offset = -float(np.mean([np.median(found) for found, _ in views])) if operator in FITTED else 0.0
        share = float(np.mean([violation(found + offset, encoding) for found, encoding in views]))
        result[variant] = {"offset": offset, "violation": share}
    return result


def _make(config: Config, base: Predictor, folder: Path, *, calibrated: bool) -> Predict:
    interval, zones = config.train.interval, ZoneSettings(config.pairs.interior_px, config.pairs.jump_mm)
    variants = json.loads((folder / CALIBRATION_NAME).read_text())["variants"] if calibrated else None

    def predict(sample: Sample) -> DepthMap:
        if variants is not None and sample.variant not in variants:
            raise ValueError(f"{sample}: no calibration for this variant, training subjects have {sorted(variants)}")
        found = {"offset": 0.0, "violation": 0.0} if variants is None else variants[sample.variant]
        prediction = load_depth_png(sample.prediction_path(config, base.method))
        if found["violation"] > interval.max_violation:
            return replace(prediction, source=f"{prediction.source}; intervals do not hold here")
        lr = load_input(config, sample, base.settings["lr_input"])
        depth = project(prediction.depth, lr, Operator(interval.operator, found["offset"]), zones)
        encoding = DepthEncoding.from_depth(depth, prediction.mask, PREDICTION_BITS, prediction.encoding.unit)
        source = f"{prediction.source}; within the intervals of its {lr.encoding.bits}-bit input, operator {interval.operator}"
        return DepthMap(depth, prediction.mask, encoding, prediction.camera, source)

    return predict
