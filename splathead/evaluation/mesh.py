"""Stage 08: surface measures of every method, target and zone.

The method ``true_depth`` is the target ``surface``'s own depth map, scored like a prediction: the best that a map of
these pixels can get.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from splathead.config import Config
from splathead.evaluation.scores import ScoreKey, ScoreSheet
from splathead.evaluation.stage import Evaluation, run_evaluation
from splathead.evaluation.summary import Column
from splathead.evaluation.views import Method, View, spread_views
from splathead.metrics.mesh import TABLE_THRESHOLDS, MeshScores, MeshSettings, SurfaceTruth, evaluate_mesh
from splathead.metrics.surface import Surface
from splathead.samples import Sample, subject_folder

CEILING = "true_depth"
SCALARS = ("chamfer_l1", "hausdorff", "hausdorff_95", "normal_consistency")

def score_mesh(config: Config, methods: Sequence[Method], samples: Sequence[Sample]) -> ScoreSheet:
    """Scores of ``evaluate.mesh_views`` of one head's samples (of one variant) against every target that it has."""
    sheet = ScoreSheet.of(config, samples[0])
    views = [View.load(config, sample) for sample in samples]
    chosen = [views[i] for i in spread_views([view.pair.yaw_deg for view in views], config.evaluate.mesh_views)]
    surface = true_surface(config, samples[0]) if any("surface" in view.targets for view in chosen) else None
    for view in chosen:
        _score_view(sheet, view, methods, surface)
    return sheet


def true_surface(config: Config, sample: Sample) -> Surface:
    """The subject's true mesh, indexed; a missing one is an error."""
    from splathead.fusion.files import load_mesh

    path = subject_folder(config, sample.subject) / "mesh.ply"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no true mesh, but {sample.subject} has the target surface; run stage 01 again")
    mesh = load_mesh(path)
    return Surface.build(mesh.vertices, mesh.faces)


def _score_view(sheet: ScoreSheet, view: View, methods: Sequence[Method], surface: Surface | None) -> None:
    settings = _mesh_settings(sheet, view.config)
    for name, target in view.targets.items():
        if name == "surface":
            truth = SurfaceTruth.from_mesh(surface, target.depth, target.camera, settings)
            _add(sheet, view, name, CEILING, truth, target.depth)
        else:
            truth = SurfaceTruth.from_depth(target.depth, target.camera, sheet.scale.diagonal_mm, settings)
        for method in methods:
            if method.scored_on(name):
                _add(sheet, view, name, method.folder, truth, view.prediction(method))


def _mesh_settings(sheet: ScoreSheet, config: Config) -> MeshSettings:
    evaluate = config.evaluate
    return MeshSettings(
        sheet.scale.zones(config), samples=evaluate.mesh_samples, vertex_stride=evaluate.mesh_stride,
        metric_scale=sheet.scale.metric, seed=config.seed,
    )  # fmt: skip


def _add(sheet: ScoreSheet, view: View, target: str, method: str, truth: SurfaceTruth, depth: np.ndarray) -> None:
    mask = truth.zones.full
    found = evaluate_mesh(view.filled(depth, mask), mask, truth)
    _, curve = truth.settings.thresholds(truth.diagonal)
    scores = {key: value for zone, part in found.items() for key, value in _flat(sheet, zone, part, curve[-1]).items()}
    sheet.add(view.sample.view, view.pair.yaw_deg, target, method, scores)


def _flat(sheet: ScoreSheet, zone: str, scores: MeshScores, curve_end: str) -> dict[ScoreKey, float]:
    """One zone's scores by key; the area under the curve carries the curve's largest threshold."""
    flat = {sheet.key(metric, zone): getattr(scores, metric) for metric in SCALARS}
    flat[sheet.key("f_score_auc", zone, curve_end)] = scores.f_score_auc
    for metric in ("precision", "recall", "f_score"):
        for threshold, share in getattr(scores, metric).items():  # the F-score along the whole curve
            if metric == "f_score" or threshold in TABLE_THRESHOLDS:
                flat[sheet.key(metric, zone, threshold)] = share
    return flat


def _in_views(key: ScoreKey) -> bool:
    return not key.threshold or key.metric == "f_score_auc" or key.threshold in TABLE_THRESHOLDS


MESH_EVALUATION = Evaluation(
    number=8,
    results_name="mesh.csv",
    settings=("mesh_samples", "mesh_stride", "mesh_views"),
    score=score_mesh,
    columns=(
        *(Column("f_score", "interior", text) for text in ("0.25mm", "0.5mm", "1mm", "0.1%diag", "0.5%diag", "1%diag")),
        Column("chamfer_l1", "interior"), Column("normal_consistency", "interior"), Column("hausdorff_95", "full"),
    ),
    in_views=_in_views,
)  # fmt: skip

run_stage = functools.partial(run_evaluation, MESH_EVALUATION)
"""``run_stage(config, jobs=1, force=False, limit=0)``: see ``run_evaluation``."""
