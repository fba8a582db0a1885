"""Scores of fused meshes: against the true mesh by stage 08's evaluator, between the views, and as result rows."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from itertools import chain

import numpy as np

from splathead.cameras import load_cameras
from splathead.config import Config
from splathead.fusion.files import load_mesh
from splathead.fusion.surface import FusedMesh
from splathead.images import DepthMap, load_depth_png, load_maps
from splathead.results import ResultRow, device_name, git_state
from splathead.samples import Sample, stage_folder, subject_folder

EXPERIMENT = "fused"
SCALAR_SCORES = {"chamfer_l1": "length", "hausdorff": "length", "hausdorff_95": "length", "normal_consistency": "frac"}
CURVE_SCORES = ("precision", "recall", "f_score")


def score_item(config: Config, predictions: dict[Sample, DepthMap], mesh: FusedMesh, scale: str) -> dict:
    """Measures of a fused mesh: against the true mesh where there is one, and between the views.

    Keys: ``unit`` of lengths (mm, or frac: fractions of the head's bounding-box diagonal), ``faces``, ``scores``
    (``MeshScores`` or None) and ``consistency`` (``ConsistencyScores``).
    """
    from splathead.metrics.consistency import multiview_consistency

    samples = list(predictions)
    path = subject_folder(config, samples[0].subject) / "mesh.ply"
    truth = load_mesh(path) if path.is_file() else None
    diagonal = bounding_diagonal(truth.vertices if truth else _splat_points(config, samples))
    depths, cameras = [m.depth for m in predictions.values()], [m.camera for m in predictions.values()]
    agreement = multiview_consistency(depths, cameras, diagonal)
    scores = _score_against_truth(config, samples, mesh, truth, scale) if truth else None
    unit = "frac" if scale == "nominal" else "mm"
    return _without_nan({"unit": unit, "faces": len(mesh.faces), "scores": scores, "consistency": asdict(agreement)})


def bounding_diagonal(points: np.ndarray) -> float:
    """Length of the diagonal of the bounding box of points [N, 3]."""
    return float(np.linalg.norm(np.ptp(np.asarray(points, dtype=np.float64), axis=0)))


def _splat_points(config: Config, samples: list[Sample]) -> np.ndarray:
    """Points that the Gaussians' own depth shows in all views: the same for every method."""
    points = []
    for camera in load_cameras(samples[0].path(config, 4).parent / "cameras.json"):
        view = Sample(samples[0].subject, samples[0].variant, camera.name)
        maps = load_maps(view.path(config, 4, "_hr.npz"), ("depth", "mask"))
        points.append(camera.unproject(maps["depth"])[maps["mask"].astype(bool)])
    return np.concatenate(points)


def _score_against_truth(config: Config, samples: list[Sample], mesh: FusedMesh, true_mesh: FusedMesh, scale: str) -> dict:
    from splathead.metrics.mesh import MeshSettings, evaluate_mesh_against_mesh
    from splathead.metrics.surface import Surface
    from splathead.metrics.zones import ZoneSettings

    truth = [load_depth_png(sample.path(config, 5) / "hr_surface.png") for sample in samples]
    surfaces = [Surface.build(m.vertices, m.faces) for m in (mesh, true_mesh)]
    options = {"samples": config.evaluate.mesh_samples, "seed": config.seed}
    if scale == "nominal":
        settings = MeshSettings.for_diagonal(surfaces[1].diagonal, **options)
    else:
        settings = MeshSettings(ZoneSettings(config.pairs.interior_px, config.pairs.jump_mm), **options)
    scores = asdict(evaluate_mesh_against_mesh(*surfaces, settings, [(t.camera, t.depth) for t in truth]))
    if scale == "nominal":
        lengths = [name for name, kind in SCALAR_SCORES.items() if kind == "length"]
        scores |= {name: scores[name] / surfaces[1].diagonal for name in lengths}
    return scores


def _without_nan(data: object) -> object:
    """Undefined measures (NaN) as None, for JSON."""
    if isinstance(data, dict):
        return {key: _without_nan(value) for key, value in data.items()}
    return None if isinstance(data, float) and not math.isfinite(data) else data


def result_rows(config: Config, items: list[str], config_hash: str) -> list[ResultRow]:
    """Mean over identities of every measure of the items, with bootstrap intervals, one row per method and variant."""
    groups: dict[tuple[str, str], list[tuple[str, dict]]] = {}
    for item in items:
        method, subject, variant = item.split("/")
        scores = json.loads((stage_folder(config, 11) / item / "scores.json").read_text())
        groups.setdefault((method, variant), []).append((subject, scores))
    rows = (_group_rows(config, method, variant, found, config_hash) for (method, variant), found in groups.items())
    return list(chain.from_iterable(rows))


def _group_rows(config: Config, method: str, variant: str, found: list[tuple[str, dict]], config_hash: str) -> list[ResultRow]:
    from splathead.metrics.statistics import bootstrap_mean

    sample = Sample(found[0][0], variant, "")
    commit, dirty = git_state()
    common = {
        "experiment": EXPERIMENT, "dataset": config.subjects.source, "fit": sample.fit, "raster_mode": sample.mode,
        "split": config.evaluate.splits[0] if len(config.evaluate.splits) == 1 else "", "views": "all", "method": method,
        "seed": config.seed, "device": device_name(), "commit": commit, "dirty": dirty, "config_hash": config_hash,
    }  # fmt: skip
    values: dict[tuple[str, str, str, str], list[tuple[str, float]]] = {}
    for subject, scores in found:
        for key, value in _measures(scores).items():
            values.setdefault(key, []).append((subject, value))
    rows = []
    for (metric, threshold, unit, target), pairs in values.items():
        subjects, numbers = zip(*pairs)
        estimate = bootstrap_mean(numbers, subjects, resamples=config.evaluate.bootstrap, seed=config.seed)
        key = {"metric": metric, "threshold": threshold, "unit": unit, "target": target}
        rows.append(ResultRow(**common, **key, **asdict(estimate)))
    return rows


def _measures(scores: dict) -> dict[tuple[str, str, str, str], float]:
    """One item's defined measures: (metric, threshold, unit, target) -> value."""
    measures = {("faces", "", "count", ""): float(scores["faces"])}
    for metric in ("consistency", "consistency_conflict"):
        measures[metric, "", "frac", ""] = scores["consistency"].get(metric)
    for metric, unit in SCALAR_SCORES.items() if scores["scores"] else ():
        measures[metric, "", scores["unit"] if unit == "length" else unit, "surface"] = scores["scores"][metric]
    for metric in CURVE_SCORES if scores["scores"] else ():
        for threshold, share in scores["scores"][metric].items():
            measures[metric, threshold, "frac", "surface"] = share
    return {key: value for key, value in measures.items() if value is not None}
