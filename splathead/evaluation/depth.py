"""Stage 07: pixel measures of every method, target, zone and view."""

from __future__ import annotations

import functools
from dataclasses import asdict
from pathlib import Path

from splathead.config import Config
from splathead.evaluation.rows import aggregate, print_table, record
from splathead.evaluation.views import (
    Scale,
    View,
    predicted_methods,
    read_parts,
    test_samples,
    variant_items,
)
from splathead.images import write_json
from splathead.metrics.consistency import multiview_consistency
from splathead.metrics.depth import DepthTruth, evaluate_depth
from splathead.results import write_results
from splathead.samples import STAGE_NAMES, Sample, subject_info
from splathead.stages import Stage

LENGTHS = {"rmse", "mae", "bias", "interval_excess", "phase_spread"}
SHOWN = [*((metric, "interior") for metric in ("rmse", "bias", "normal_error", "psnr")), ("rmse", "silhouette")]
"""What the terminal shows."""
UNITS = {"psnr": "dB", "normal_error": "deg"}


def run_stage(config: Config, *, jobs: int, force: bool = False, limit: int = 0) -> list[str]:
    """Evaluate what is not evaluated yet, write ``depth.csv``; returns lines for the terminal."""
    items = variant_items(test_samples(config, limit))
    methods = predicted_methods(config)
    settings = {"evaluate": asdict(config.evaluate), "pairs": asdict(config.pairs), "methods": methods}
    inputs = [STAGE_NAMES[5], STAGE_NAMES[6]]
    stage = Stage.open(config.run_folder, STAGE_NAMES[7], settings, inputs, force=force, seed=config.seed)
    stage.run_items(functools.partial(score_variant, config, items, methods), items, jobs=jobs, unit="head")
    rows = aggregate(config, list(read_parts(stage.folder, items)), "main")
    write_results(stage.folder / "depth.csv", rows)
    stage.close()
    return [*print_table(rows, SHOWN), f"{stage.name}: {len(rows)} rows in {stage.folder / 'depth.csv'}"]


def score_variant(config: Config, items: dict[str, list[Sample]], methods: list[str], item: str, out_dir: Path) -> None:
    """Score all views of one subject's variant into ``scores.json``."""
    samples = items[item]
    info = subject_info(config, samples[0].subject)
    scale = Scale.of(info)
    views = [View.load(config, sample) for sample in samples]
    records = [score for view in views for score in score_view(view, methods, scale, info)]
    if not any("surface" in view.pair.targets for view in views):
        records += score_consistency(views, methods, scale, info)
    write_json(out_dir / "scores.json", records)


def score_view(view: View, methods: list[str], scale: Scale, info: dict) -> list[dict]:
    """Records of every method, target, zone and measure that is defined in one view."""
    records = []
    for target_name, target in view.targets.items():
        truth = DepthTruth.build(
            target.depth, view.pair.camera, view.bilinear, view.code, view.pair.lr.encoding, scale.zones(view.config)
        )
        for method in methods:
            for zone, scores in evaluate_depth(view.prediction(method), truth).items():
                for metric, value in asdict(scores).items():
                    if metric == "n_pixels":
                        continue
                    is_length = metric in LENGTHS
                    records += record(
                        view, info, method, target_name, zone, metric, scale.length(value) if is_length else value,
                        scale.unit if is_length else UNITS.get(metric, "frac"),
                    )  # fmt: skip
    return records


def score_consistency(views: list[View], methods: list[str], scale: Scale, info: dict) -> list[dict]:
    """Records of multi-view consistency, where there is no truth; they carry the first view's name."""
    records = []
    cameras = [view.pair.camera for view in views]
    for method in methods:
        scores = multiview_consistency([view.prediction(method) for view in views], cameras, scale.diagonal_mm)
        for metric in ("consistency", "consistency_conflict"):
            records += record(views[0], info, method, "", "", metric, getattr(scores, metric), "frac")
    return records
