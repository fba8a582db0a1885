"""F-score audit: the published study's two scripts, applied to the same predictions, so that their gap can be judged.

The study prints one F-score column "at 1e-3", but two scripts with different settings filled it (NCCA/
industry-project-skyechiu at 69f5789, ``scripts/eval_mesh_quality.py`` and ``scripts/eval_baselines_extended.py``). Both
compare clouds of pixels, point to nearest point, in a space where depth runs from 0 to 1:

==================  =============================================  ================================================
                    setting ``a``: bicubic, UNets                  setting ``b``: EDSR, SRResNet, SGNet
==================  =============================================  ================================================
thresholds          0.01 and 0.005                                 0.001 and 0.0005
column names        f_score_001, f_score_0005                      f_score_001, f_score_0005 (the digits behind "0.")
Z of depth d        d (the nearest point has Z = 1)                1 - d (the nearest point has Z = 0)
focal length        512 / tan(25 deg) = 1098 pixels                500 pixels
pixels              every second row and column                    every second one of the mask's, row by row
left out            nothing                                        pixels with d <= 1e-6; clouds below 100 points
samples             the first 5 validation heads                   all 129
==================  =============================================  ================================================

Here both score every method on the same heads and views. What we had to assume:

* d is 1 at the 0.1st and 0 at the 99th percentile of the target's depth, clipped, as the study normalises its maps
  (without its nose landmark, which only ever widens this range); predictions are clipped to the same range, as it does.
* Focal lengths are in proportion to the map's width, which was always 1024 in the study.
* The mask is the target's; pixels that a method left empty have bilinear's value, as in every evaluation here.
* Arithmetic is in float64; the study's was in float32.

Target ``render`` and near-frontal views, as the study had. X and Y are d (or 1 - d) times a ray: the space is no scaled
copy of the head, so a threshold is a fraction (``frac``) of the depth range and of nothing else, and mirrored or squeezed
surfaces score alike. This is how the study measured, not how to measure; stage 08's mesh.csv has the F-scores to compare
methods by. Experiments ``f_score_audit_a`` and ``f_score_audit_b`` in stage 08's ``f_score_audit.csv``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from splathead.config import Config
from splathead.evaluation.rows import aggregate
from splathead.evaluation.scores import ScoreKey, ScoreSheet
from splathead.evaluation.stage import COMMON_SETTINGS
from splathead.evaluation.views import Method, View, evaluated_items, predicted_methods
from splathead.results import read_results, threshold_text, write_results
from splathead.samples import STAGE_NAMES, Sample, input_stage, stage_folder
from splathead.stages import Stage

EXPERIMENT = "f_score_audit"
RESULTS_NAME = "f_score_audit.csv"
TARGET = "render"
RANGE_PERCENTILES = (0.1, 99.0)
"""Depths of the target that become 1 and 0"""


@dataclass(frozen=True)
class AuditSetting:
    """How one of the published scripts compares two depth maps."""

    name: str
    thresholds: tuple[float, ...]
    focal_px: float
    """for maps of 1024 pixels"""
    nearest_is_zero: bool
    """Z = 1 - d instead of d, and pixels at d = 0 left out"""
    grid: bool
    """every second row and column, otherwise every second pixel of the mask"""
    min_points: int = 1

    @property
    def experiment(self) -> str:
        """Name in results."""
        return f"{EXPERIMENT}_{self.name}"


SETTING_A = AuditSetting("a", (0.01, 0.005), 512 / math.tan(math.radians(25)), nearest_is_zero=False, grid=True)
SETTING_B = AuditSetting("b", (0.001, 0.0005), 500.0, nearest_is_zero=True, grid=False, min_points=100)
SETTINGS = (SETTING_A, SETTING_B)


@dataclass(frozen=True)
class AuditScores:
    """Scores of one map with one setting, in units of the depth range; shares by threshold. NaN = not scored."""

    precision: dict[float, float]
    recall: dict[float, float]
    f_score: dict[float, float]
    chamfer_l1: float
    """mean of the two directed mean distances"""
    hausdorff: float


@dataclass(frozen=True)
class AuditTruth:
    """A target map as one setting sees it; built once with :meth:`build`, used for every method."""

    setting: AuditSetting
    mask: np.ndarray  # [H, W] bool
    near: float
    far: float
    points: np.ndarray  # [N, 3]
    tree: cKDTree

    @classmethod
    def build(cls, target_depth: np.ndarray, mask: np.ndarray, setting: AuditSetting) -> AuditTruth:
        """From target depth [H, W] on ``mask`` [H, W]; ValueError for an empty or constant target."""
        if target_depth.shape != mask.shape or not mask.any():
            raise ValueError(
                f"audit target of shape {target_depth.shape}, mask of shape {mask.shape} with {int(mask.sum())} pixels, "
                "expected the same shape and some pixels"
            )
        near, far = (float(value) for value in np.percentile(target_depth[mask], RANGE_PERCENTILES))
        if not far > near:
            raise ValueError(f"audit target between {near} and {far} in depth, expected a range above 0")
        points = point_cloud(target_depth, mask, near, far, setting)
        return cls(setting, mask, near, far, points, _tree(points))


def point_cloud(depth: np.ndarray, mask: np.ndarray, near: float, far: float, setting: AuditSetting) -> np.ndarray:
    """The points [N, 3] that a setting makes of a depth map [H, W], see the module's table."""
    height, width = depth.shape
    if setting.grid:
        rows, columns = (index * 2 for index in np.nonzero(mask[::2, ::2]))
    else:
        rows, columns = (index[::2] for index in np.nonzero(mask))
    closeness = np.clip((far - depth[rows, columns].astype(np.float64)) / (far - near), 0, 1)
    if setting.nearest_is_zero:
        kept = closeness > 1e-6
        rows, columns, z = rows[kept], columns[kept], 1 - closeness[kept]
    else:
        z = closeness
    focal_px = setting.focal_px * width / 1024
    return np.stack([(columns - width / 2) / focal_px * z, (rows - height / 2) / focal_px * z, z], axis=1)


def _tree(points: np.ndarray) -> cKDTree:
    """Index of a cloud. All pixels at Z = 0 are one point, the origin, kept once: many equal points make searches slow."""
    at_origin = points[:, 2] == 0
    return cKDTree(np.concatenate([points[~at_origin], points[at_origin][:1]]))


def f_score_audit(prediction_depth: np.ndarray, truth: AuditTruth) -> AuditScores:
    """Scores of predicted depth [H, W], filled on the truth's mask, with the truth's setting."""
    setting = truth.setting
    points = point_cloud(prediction_depth, truth.mask, truth.near, truth.far, setting)
    if min(len(points), len(truth.points)) < setting.min_points:
        nothing = dict.fromkeys(setting.thresholds, math.nan)
        return AuditScores(nothing, nothing, nothing, math.nan, math.nan)
    there, _ = truth.tree.query(points)
    back, _ = _tree(points).query(truth.points)
    precision = {tau: float(np.mean(there < tau)) for tau in setting.thresholds}
    recall = {tau: float(np.mean(back < tau)) for tau in setting.thresholds}
    f_score = {tau: _harmonic_mean(precision[tau], recall[tau]) for tau in setting.thresholds}
    chamfer = (float(there.mean()) + float(back.mean())) / 2
    return AuditScores(precision, recall, f_score, chamfer, float(max(there.max(), back.max())))


def _harmonic_mean(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b > 0 else 0.0


def largest_mean_distance(threshold: float, f_score: float, hausdorff: float) -> float:
    """The largest Chamfer-L1 distance that an F-score at a threshold and a Hausdorff distance leave possible.

    Points within the threshold (precision P of one cloud, recall R of the other) are at most that far, the others at most
    the Hausdorff distance h: the mean of both directions is at most m tau + (1 - m) h with m = (P + R) / 2. As m >= F, the
    harmonic mean, and h >= tau where there are others, tau F + (1 - F) h is not smaller. A printed Chamfer-L1 above this
    was not measured together with that F-score at that threshold.
    """
    if not (threshold > 0 and 0 <= f_score <= 1 and hausdorff >= 0):
        given = f"threshold {threshold}, F-score {f_score}, Hausdorff distance {hausdorff}"
        raise ValueError(f"{given}: expected above 0, 0 to 1, at least 0")
    return min(threshold, hausdorff) * f_score + (1 - f_score) * hausdorff


def score_f_audit(config: Config, methods: Sequence[Method], samples: Sequence[Sample]) -> dict[str, ScoreSheet]:
    """Experiment -> scores of the near-frontal views of one head's samples, one sheet for each of the two settings."""
    sheets = {setting.experiment: ScoreSheet.of(config, samples[0]) for setting in SETTINGS}
    for view in (View.load(config, sample) for sample in samples):
        if abs(view.pair.yaw_deg) > config.evaluate.frontal_yaw_deg:
            continue
        target = view.pair.targets[TARGET]
        truths = [AuditTruth.build(target.depth, target.mask, setting) for setting in SETTINGS]
        for method in methods:
            if method.scored_on(TARGET):
                depth = view.filled(view.prediction(method), target.mask)
                for truth in truths:
                    sheet, scores = sheets[truth.setting.experiment], f_score_audit(depth, truth)
                    sheet.add(view.sample.view, view.pair.yaw_deg, TARGET, method.folder, _flat(sheet, scores))
    return sheets


def _flat(sheet: ScoreSheet, scores: AuditScores) -> dict[ScoreKey, float]:
    return {
        sheet.key(metric, "full", threshold_text(tau, "frac")): share
        for metric in ("precision", "recall", "f_score") for tau, share in getattr(scores, metric).items()
    }  # fmt: skip


def run_f_score_audit(config: Config, *, jobs: int = 1, force: bool = False, limit: int = 0) -> list[str]:
    """Score every head of ``evaluate.splits`` and write stage 08's ``f_score_audit.csv``; returns lines for the terminal.

    Raises RuntimeError when stage 05 or 06 is not finished, ValueError without target ``render`` or near-frontal views.
    """
    name = f"{STAGE_NAMES[8]}/{EXPERIMENT}"
    if TARGET not in config.evaluate.targets:
        raise ValueError(f"evaluate.targets {config.evaluate.targets}: the F-score audit needs the target {TARGET}")
    methods = predicted_methods(config)
    items = evaluated_items(config, methods, limit)
    settings = {key: getattr(config.evaluate, key) for key in COMMON_SETTINGS} | {"lr_input": config.train.lr_input}
    inputs = [STAGE_NAMES[input_stage(config)], STAGE_NAMES[6]]
    stage = Stage.open(config.run_folder, name, settings, inputs, extra=sorted(items), force=force, seed=config.seed)
    path = stage_folder(config, 8) / RESULTS_NAME
    if stage.finished and path.is_file():
        rows = read_results(path)
    else:
        stage.run_items(functools.partial(_score_item, config, methods, items), items, jobs=jobs, unit="head")
        rows = []
        for experiment in (setting.experiment for setting in SETTINGS):
            sheets = [ScoreSheet.read(stage.folder / item / experiment) for item in items]
            found = aggregate(config, sheets, methods, stage.record["fingerprint"], experiment=experiment)
            rows += [row for row in found if row.views == "near_frontal"]  # no others were scored
        if not rows:
            frontal = f"evaluate.frontal_yaw_deg = {config.evaluate.frontal_yaw_deg} deg"
            raise ValueError(f"{name}: no view within {frontal} of the front")
        write_results(path, rows)
        stage.close()
    return [f"{name}: {len(items)} heads, {len(rows)} rows in {path}"]


def _score_item(
    config: Config, methods: Sequence[Method], items: dict[str, list[Sample]], item: str, out_dir: Path
) -> None:
    for experiment, sheet in score_f_audit(config, methods, items[item]).items():
        sheet.write(out_dir / experiment)
