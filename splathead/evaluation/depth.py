"""Stage 07: pixel measures of every method, target, zone and view; agreement of views where there is no truth."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict

from splathead.config import Config
from splathead.evaluation.scores import ScoreSheet
from splathead.evaluation.stage import Evaluation, run_evaluation
from splathead.evaluation.summary import Column
from splathead.evaluation.views import Method, View, load_prediction
from splathead.metrics.consistency import multiview_consistency
from splathead.metrics.depth import DepthTruth, evaluate_depth
from splathead.samples import Sample, input_stage

NO_METRIC = "n_pixels"


def score_depth(config: Config, methods: Sequence[Method], samples: Sequence[Sample]) -> ScoreSheet:
    """Scores of one head's samples (of one variant) against every target that it has."""
    sheet = ScoreSheet.of(config, samples[0])
    has_truth = False
    for sample in samples if input_stage(config) == 5 else ():
        view = View.load(config, sample)
        has_truth |= (sample.path(config, 5) / "hr_surface.png").is_file()  # also where it is no target of this evaluation
        score_view(sheet, view, methods)
    if not has_truth:
        _score_consistency(sheet, config, methods, samples)
    return sheet


def score_view(sheet: ScoreSheet, view: View, methods: Sequence[Method]) -> None:
    """Add the scores of one view's predictions, against every target of the view that a method is scored on."""
    encoding, zones = view.pair.lr.encoding, sheet.scale.zones(view.config)
    truths = {
        name: DepthTruth.build(target.depth, view.pair.camera, view.bilinear, view.code, encoding, zones)
        for name, target in view.targets.items()
    }
    for method in methods if truths else ():
        predicted = view.prediction(method)
        for target, truth in truths.items():
            if not method.scored_on(target):
                continue
            scores = {
                sheet.key(metric, zone): value
                for zone, found in evaluate_depth(predicted, truth).items()
                for metric, value in asdict(found).items()
                if metric != NO_METRIC
            }
            sheet.add(view.sample.view, view.pair.yaw_deg, target, method.folder, scores)


def _score_consistency(sheet: ScoreSheet, config: Config, methods: Sequence[Method], samples: Sequence[Sample]) -> None:
    """Disagreement of each method's views with each other."""
    for method in methods:
        maps = [load_prediction(config, sample, method) for sample in samples]
        found = multiview_consistency([m.depth for m in maps], [m.camera for m in maps], sheet.scale.diagonal_mm)
        scores = {sheet.key(metric): getattr(found, metric) for metric in ("consistency", "consistency_conflict")}
        sheet.add("", None, method.target, method.folder, scores)


DEPTH_EVALUATION = Evaluation(
    number=7,
    results_name="depth.csv",
    settings=(),
    score=score_depth,
    columns=(
        Column("rmse", "interior"), Column("bias", "interior"), Column("normal_error", "interior"), Column("psnr", "interior"),
        Column("rmse", "silhouette"), Column("coverage", "full"), Column("consistency"),
    ),
)  # fmt: skip

run_stage = functools.partial(run_evaluation, DEPTH_EVALUATION)
"""``run_stage(config, jobs=1, force=False, limit=0)``: see ``run_evaluation``."""
