"""Stage 11: fuse each method's predicted depth of a head into one mesh and score it.

An item is ``<method>/<subject>/<variant>``. Its folder holds ``mesh.ply`` and the formats asked for,
``fusion.json`` (what was fused, how) and ``scores.json``. Depth is read from stage 06's predictions only;
colours come from the cleaned maps of stage 04.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import numpy as np

from splathead.config import Config
from splathead.fusion.files import load_mesh, save_mesh
from splathead.fusion.surface import FusedMesh, decimated, extract_surface, largest_component, vertex_colours
from splathead.fusion.tsdf import DepthView, fuse_views
from splathead.images import DepthMap, load_depth_png, load_maps, write_json
from splathead.results import ResultRow, device_name, git_state
from splathead.samples import Sample, list_samples, predictions_folder, stage_folder, subject_folder, subject_info

EXPERIMENT = "fused"
COLOUR_TOLERANCE_VOXELS = 2.0
SCALAR_SCORES = {"chamfer_l1": "length", "hausdorff": "length", "hausdorff_95": "length", "normal_consistency": "frac"}
CURVE_SCORES = ("precision", "recall", "f_score")


def list_items(config: Config, limit: int = 0) -> list[str]:
    """Items to fuse: each of ``fuse.methods`` for each variant of the first ``fuse.subjects`` (or ``limit``) subjects.

    Subjects are those of ``evaluate.splits``. A method without predictions is an error that names those there are.
    """
    there = sorted(path.name for path in predictions_folder(config).glob("*") if path.is_dir())
    for method in config.fuse.methods:
        if method not in there:
            found = ", ".join(there) or "none"
            raise ValueError(f"fuse.methods: no predictions of {method!r} in {predictions_folder(config)}, it has {found}")
    limit = min((n for n in (limit, config.fuse.subjects) if n), default=0)
    samples = list_samples(config, 4, splits=tuple(config.evaluate.splits), limit=limit)
    heads = dict.fromkeys((s.subject, s.variant) for s in samples if _predicted(config, s))
    return [f"{method}/{subject}/{variant}" for method in config.fuse.methods for subject, variant in heads]


def _predicted(config: Config, sample: Sample) -> bool:
    return sample.prediction_path(config, config.fuse.methods[0]).is_file()


def fuse_item(config: Config, item: str, out_dir: Path) -> None:
    """Fuse, clean, colour, write and score one item."""
    method, subject, variant = item.split("/")
    started = time.perf_counter()
    predictions = load_predictions(config, method, subject, variant)
    views = [_depth_view(config, sample, depth_map) for sample, depth_map in predictions.items()]
    mesh, record = fuse_head(views, config)
    scale = "nominal" if subject_info(config, subject).get("scale") == "nominal" else "metric"
    for suffix in dict.fromkeys(["ply", *config.fuse.formats]):
        save_mesh(out_dir / f"mesh.{suffix}", mesh, scale=scale)
    record |= {"method": method, "subject": subject, "variant": variant, "views": [sample.view for sample in predictions]}
    write_json(out_dir / "fusion.json", {**record, "scale": scale, "seconds": round(time.perf_counter() - started, 3)})
    write_json(out_dir / "scores.json", score_item(config, predictions, mesh, scale))


def load_predictions(config: Config, method: str, subject: str, variant: str) -> dict[Sample, DepthMap]:
    """Every predicted depth map of one head by one method, in order of view."""
    folder = predictions_folder(config) / method / subject / variant
    paths = sorted(folder.glob("*.png"))
    if not paths:
        raise FileNotFoundError(f"{folder}: no predicted depth; run scripts/06_train_depth_sr.py --apply first")
    return {Sample(subject, variant, path.stem): load_depth_png(path) for path in paths}


def _depth_view(config: Config, sample: Sample, depth_map: DepthMap) -> DepthView:
    path = sample.path(config, 4, "_hr.npz")
    maps = load_maps(path, ("rgb", "alpha"))
    if maps["alpha"].shape != depth_map.depth.shape:
        raise ValueError(f"{path}: maps of shape {maps['alpha'].shape}, the prediction has {depth_map.depth.shape}")
    weight = np.maximum(maps["alpha"].astype(np.float32), 1 / 255)[..., None]
    rgb = np.clip(maps["rgb"] / weight + 0.5, 0, 255).astype(np.uint8)  # colours are premultiplied
    return DepthView(depth_map.depth, depth_map.mask, depth_map.camera, rgb=rgb)


def fuse_head(views: list[DepthView], config: Config) -> tuple[FusedMesh, dict]:
    """Views to one decimated, coloured mesh, and what to record of how it was made."""
    settings, jump = config.fuse, config.pairs.jump_mm
    volume = fuse_views(views, voxel=settings.voxel_mm, truncation_voxels=settings.truncation_voxels, jump=jump)
    surface = extract_surface(volume)
    head = largest_component(surface)
    mesh = decimated(head, settings.target_faces)
    tolerance = COLOUR_TOLERANCE_VOXELS * volume.voxel
    mesh.colours = vertex_colours(mesh.vertices, views, tolerance=tolerance, jump=jump)
    record = {
        "voxel_mm": volume.voxel, "truncation_mm": volume.truncation, "lattice": list(volume.distance.shape),
        "faces_extracted": len(surface.faces), "faces_largest_component": len(head.faces), "faces": len(mesh.faces),
    }  # fmt: skip
    return mesh, record


def score_item(config: Config, predictions: dict[Sample, DepthMap], mesh: FusedMesh, scale: str) -> dict:
    """Measures of a fused mesh: against the true mesh where there is one, and between the views always.

    Keys: ``unit`` of lengths (mm or frac), ``scores`` (``MeshScores`` or None), ``consistency``.
    """
    from splathead.metrics.consistency import multiview_consistency

    depths, cameras = [m.depth for m in predictions.values()], [m.camera for m in predictions.values()]
    diagonal = float(np.linalg.norm(np.ptp(mesh.vertices.astype(np.float64), axis=0)))
    agreement = asdict(multiview_consistency(depths, cameras, diagonal)) if len(cameras) > 1 else {}
    scores = _score_against_truth(config, predictions, mesh)
    unit = "frac" if scale == "nominal" else "mm"
    result = {"unit": unit, "faces": len(mesh.faces), "scores": scores, "consistency": agreement}
    return _without_nan(result)


def _score_against_truth(config: Config, predictions: dict[Sample, DepthMap], mesh: FusedMesh) -> dict | None:
    from splathead.metrics.mesh import MeshSettings, evaluate_mesh_against_mesh
    from splathead.metrics.surface import Surface
    from splathead.metrics.zones import ZoneSettings

    samples = list(predictions)
    path = subject_folder(config, samples[0].subject) / "mesh.ply"
    if not path.is_file():
        return None
    true_mesh = load_mesh(path)
    truth = [load_depth_png(sample.path(config, 5) / "hr_surface.png") for sample in samples]
    zones = ZoneSettings(config.pairs.interior_px, config.pairs.jump_mm)
    settings = MeshSettings(zones, samples=config.evaluate.mesh_samples, seed=config.seed)
    surfaces = (Surface.build(m.vertices, m.faces) for m in (mesh, true_mesh))
    return asdict(evaluate_mesh_against_mesh(*surfaces, settings, [(t.camera, t.depth) for t in truth]))


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
