"""What stages 07 and 08 have in common: workers score heads, the parent aggregates."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from splathead.config import Config
from splathead.evaluation.rows import aggregate
from splathead.evaluation.scores import ScoreKey, ScoreSheet, write_views
from splathead.evaluation.summary import Column, summary_lines
from splathead.evaluation.views import Method, evaluated_items, predicted_methods
from splathead.results import read_results, write_results
from splathead.samples import STAGE_NAMES, Sample, input_stage
from splathead.stages import Stage

VIEWS_NAME = "views.csv"
COMMON_SETTINGS = ("splits", "targets", "frontal_yaw_deg", "bootstrap")
Scorer = Callable[[Config, Sequence[Method], Sequence[Sample]], ScoreSheet]


@dataclass(frozen=True)
class Evaluation:
    """One of the two evaluations."""

    number: int
    results_name: str
    settings: tuple[str, ...]
    """fields of ``config.evaluate`` that the result depends on"""
    score: Scorer
    """scores of one head's samples"""
    columns: tuple[Column, ...]
    """what the terminal shows"""
    in_views: Callable[[ScoreKey], bool] = lambda key: True
    """measures that views.csv lists"""


def run_evaluation(evaluation: Evaluation, config: Config, *, jobs: int = 1, force: bool = False, limit: int = 0) -> list[str]:
    """Score what is not scored yet, write the results file and ``views.csv``; returns lines for the terminal.

    Raises RuntimeError when stage 05 or 06 is not finished, FileNotFoundError for a missing prediction or true mesh,
    ValueError for predictions, targets or subjects that do not fit together.
    """
    name = STAGE_NAMES[evaluation.number]
    methods = predicted_methods(config)
    items = evaluated_items(config, methods, limit)
    settings = {key: getattr(config.evaluate, key) for key in (*COMMON_SETTINGS, *evaluation.settings)}
    settings |= {"zones": [config.pairs.interior_px, config.pairs.jump_mm], "lr_input": config.train.lr_input}
    inputs = [STAGE_NAMES[input_stage(config)], STAGE_NAMES[6]]
    stage = Stage.open(config.run_folder, name, settings, inputs, extra=sorted(items), force=force, seed=config.seed)
    path = stage.folder / evaluation.results_name
    if stage.finished and path.is_file():
        rows = read_results(path)
    else:
        work = functools.partial(_score_item, evaluation.score, config, methods, items)
        stage.run_items(work, items, jobs=jobs, unit="head")
        sheets = [ScoreSheet.read(stage.folder / item) for item in items]
        rows = aggregate(config, sheets, methods, stage.record["fingerprint"])
        if not rows:
            raise ValueError(f"{name}: nothing to score: no head has a target of evaluate.targets {config.evaluate.targets}")
        write_views(stage.folder / VIEWS_NAME, sheets, evaluation.in_views)
        write_results(path, rows)
        stage.close()
    return [*summary_lines(rows, evaluation.columns, methods), f"{name}: {len(items)} heads, {len(rows)} rows in {path}"]


def _score_item(
    score: Scorer, config: Config, methods: Sequence[Method], items: dict[str, list[Sample]], item: str, out_dir: Path
) -> None:
    score(config, methods, items[item]).write(out_dir)
