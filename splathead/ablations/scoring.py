"""Ablations are scored in memory: networks predict where they are scored, no prediction is written.

Zones, PSNR's peak (far - near) and the bilinear map that fills what a method leaves empty are those of the view's real
8-bit low-resolution render for every input, so that columns of a table differ in the prediction alone. Otherwise the scores
are stage 07's (whose predictions went through a 16-bit PNG: a step of about 0.003 mm).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from splathead.ablations.networks import Ablation
from splathead.config import Config
from splathead.devices import gpu_count, network_jobs
from splathead.evaluation.depth import score_view
from splathead.evaluation.live import Trial, held_network
from splathead.evaluation.rows import aggregate
from splathead.evaluation.scores import ScoreSheet
from splathead.evaluation.views import Method, View, evaluated_items
from splathead.images import DepthMap
from splathead.maps.low_resolution import load_low_resolution
from splathead.maps.view_maps import load_guide_maps
from splathead.prediction import interpolate_depth
from splathead.results import ResultRow, read_results, write_results
from splathead.samples import Sample
from splathead.stages import Stage

REFERENCE_INPUT = "8bit"
LEFT_OUT = ("interval_violation", "interval_excess")
"""They compare with the 8-bit render's code, which most of these networks have not seen."""


@dataclass(frozen=True)
class LiveView(View):
    """A view whose predictions are made when they are asked for."""

    trials: Mapping[str, Trial] = field(default_factory=dict)
    """by the method's folder"""
    inputs: dict[str, DepthMap] = field(default_factory=dict)

    @classmethod
    def of(cls, config: Config, sample: Sample, trials: Sequence[Trial]) -> LiveView:
        """The view of a sample, scored against ``config.evaluate.targets``."""
        view = View.load(config, sample)
        return cls(view.config, view.sample, view.pair, {trial.method.folder: trial for trial in trials})

    def prediction(self, method: Method) -> np.ndarray:
        """Predicted depth [H, W] float32 mm, 0 = left empty; ValueError for a network of another factor."""
        name = method.lr_input
        if name not in self.inputs:
            self.inputs[name] = load_low_resolution(self.sample.path(self.config, 5), name, self.config.seed)
        lr, trial = self.inputs[name], self.trials[method.folder]
        scale = self.pair.camera.width // lr.camera.width
        if trial.weights is None:
            return interpolate_depth(lr, scale, "bilinear").depth
        network = held_network(self.config, trial.weights, trial.sha256, self.sample, scale)
        maps = load_guide_maps(self.config, self.sample, network.guides) if method.guided else None
        return network.predict(lr, maps).depth


def _score_item(config: Config, trials: Sequence[Trial], items: dict[str, list[Sample]], item: str, out_dir: Path) -> None:
    samples = items[item]
    sheet = ScoreSheet.of(config, samples[0])
    for sample in samples:
        score_view(sheet, LiveView.of(config, sample, trials), [trial.method for trial in trials])
    sheet.write(out_dir)


def score_trials(ablation: Ablation, experiment: str, trials: Sequence[Trial], targets: Sequence[str]) -> list[ResultRow]:
    """Rows of an experiment, written to ``<stage>/<experiment>.csv``: means over people with intervals, and each network
    paired with bilinear interpolation of the same input.

    Heads are scored in ``<stage>/scores_<experiment>/``; what is finished is kept. Raises TimeLimitReached when
    ``--time_limit`` ended it, ValueError when no head has a target.
    """
    config = replace(
        ablation.config, evaluate=replace(ablation.config.evaluate, targets=list(targets)),
        train=replace(ablation.config.train, lr_input=REFERENCE_INPUT),
    )  # fmt: skip
    items = evaluated_items(config, [], ablation.limit)
    settings = {key: getattr(config.evaluate, key) for key in ("splits", "targets", "frontal_yaw_deg", "bootstrap")}
    settings |= {"zones": [config.pairs.interior_px, config.pairs.jump_mm], "trials": [[t.method, t.sha256] for t in trials]}
    extra = {"upstream": ablation.upstream(), "items": sorted(items)}
    part = Stage.open(
        ablation.folder, f"scores_{experiment}", settings, extra=extra, force=ablation.force, seed=config.seed
    )
    path = ablation.folder / f"{experiment}.csv"
    if part.finished and path.is_file():
        ablation.parts.append(part)
        return read_results(path)
    work, workers = functools.partial(_score_item, config, trials, items), network_jobs(config.device, ablation.jobs)
    part.run_items(work, items, jobs=workers, unit="head", gpus=gpu_count(config.device))
    sheets = [ScoreSheet.read(part.folder / item) for item in items]
    rows = aggregate(config, sheets, [trial.method for trial in trials], part.record["fingerprint"], experiment)
    rows = [row for row in rows if row.metric not in LEFT_OUT]
    if not rows:
        raise ValueError(f"{ablation.name}: nothing to score: no head has a target among {', '.join(targets)}")
    write_results(path, rows)
    part.close()
    ablation.parts.append(part)
    return read_results(path)  # in the file's order, as the next time
