"""Scores of fused meshes: against the true mesh by stage 08's evaluator, between the views, and as result rows."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import asdict, replace
from itertools import chain

from splathead.config import Config
from splathead.evaluation.views import Scale, predicted_methods
from splathead.fusion.files import load_mesh
from splathead.fusion.surface import FusedMesh
from splathead.images import DepthMap, load_depth_png
from splathead.results import ResultRow, device_name, git_state
from splathead.samples import Sample, stage_folder, subject_folder, subject_info
from splathead.stages import fingerprint

EXPERIMENT = "fused"
POISSON_CENTRES = "poisson_centres"
"""A method of ``fuse.methods`` without depth maps: Poisson reconstruction from the Gaussians' centres"""
LENGTHS = ("chamfer_l1", "hausdorff", "hausdorff_95")
CURVES = ("precision", "recall", "f_score")


def score_item(
    config: Config, predictions: dict[Sample, DepthMap], mesh: FusedMesh, *, agreement: bool = True
) -> list[dict]:
    """Records of a fused mesh: of its distance to the true mesh where there is one, and of how well its views agree.

    Each record has ``metric``, ``threshold``, ``unit``, ``target`` and ``value``; undefined measures are left out.
    Recall is over the true surface that at least one of the fused views sees. ``agreement`` False: the mesh was not made of
    ``predictions``, whose views alone count.
    """
    from splathead.metrics.consistency import multiview_consistency

    samples = list(predictions)
    scale = Scale.of(subject_info(config, samples[0].subject))
    depths, cameras = [m.depth for m in predictions.values()], [m.camera for m in predictions.values()]
    records = [_record("faces", len(mesh.faces), "count")]
    if agreement:
        found = multiview_consistency(depths, cameras, scale.diagonal_mm)
        records += [_record(name, getattr(found, name), "frac") for name in ("consistency", "consistency_conflict")]
    if (subject_folder(config, samples[0].subject) / "mesh.ply").is_file():
        records += _records_against_truth(config, samples, mesh, scale)
    return [record for record in records if math.isfinite(record["value"])]


def _record(metric: str, value: float, unit: str, threshold: str = "", target: str = "") -> dict:
    return {"metric": metric, "threshold": threshold, "unit": unit, "target": target, "value": float(value)}


def _records_against_truth(config: Config, samples: list[Sample], mesh: FusedMesh, scale: Scale) -> list[dict]:
    from splathead.metrics.mesh import MeshSettings, evaluate_mesh_against_mesh
    from splathead.metrics.surface import Surface

    true_mesh = load_mesh(subject_folder(config, samples[0].subject) / "mesh.ply")
    truth = [load_depth_png(sample.path(config, 5) / "hr_surface.png") for sample in samples]
    settings = MeshSettings(
        scale.zones(config), samples=config.evaluate.mesh_samples, metric_scale=scale.metric, seed=config.seed
    )  # fmt: skip
    surfaces = (Surface.build(m.vertices, m.faces) for m in (mesh, true_mesh))
    scores = evaluate_mesh_against_mesh(*surfaces, settings, [(view.camera, view.depth) for view in truth])
    _, curve = settings.thresholds(scale.diagonal_mm)
    records = [_record(name, scale.length(getattr(scores, name)), scale.unit, target="surface") for name in LENGTHS]
    records.append(_record("normal_consistency", scores.normal_consistency, "frac", target="surface"))
    records.append(_record("f_score_auc", scores.f_score_auc, "frac", curve[-1], "surface"))
    for name in CURVES:
        records += [_record(name, share, "frac", text, "surface") for text, share in getattr(scores, name).items()]
    return records


def result_rows(config: Config, items: list[str]) -> list[ResultRow]:
    """Mean over identities of every measure of the items, with bootstrap intervals, one row per method and variant."""
    groups: dict[tuple[str, str], list[tuple[str, list[dict]]]] = defaultdict(list)
    for item in items:
        method, subject, variant = item.split("/")
        records = json.loads((stage_folder(config, 11) / item / "scores.json").read_text())
        groups[method, variant].append((subject, records))
    tracks = {method.folder: method.track for method in predicted_methods(config)} | {POISSON_CENTRES: "C"}
    return list(chain.from_iterable(_group_rows(config, *key, tracks[key[0]], found) for key, found in groups.items()))


def _group_rows(
    config: Config, method: str, variant: str, track: str, found: list[tuple[str, list[dict]]]
) -> list[ResultRow]:
    from splathead.metrics.statistics import bootstrap_mean

    sample = Sample(found[0][0], variant, "")
    commit, dirty = git_state()
    config_hash = fingerprint(replace(config, runs_dir="", jobs=0))  # not where or how it ran
    common = {
        "experiment": EXPERIMENT, "fit": sample.fit, "raster_mode": sample.mode, "views": "all", "method": method,
        "track": track, "degradation_test": "render", "seed": config.seed,
        "device": device_name(), "commit": commit, "dirty": dirty, "config_hash": config_hash,
    }  # fmt: skip
    values: dict[tuple[str, ...], list[tuple[str, float]]] = defaultdict(list)
    infos = {subject: subject_info(config, subject) for subject, _ in found}
    together = "+".join(sorted({info["source"] for info in infos.values()}))
    for subject, records in found:
        info = infos[subject]
        for record in records:
            for dataset in dict.fromkeys((info["source"], together)):  # heads of several models also count as one data set
                key = (dataset, info["split"], *(record[name] for name in ("metric", "threshold", "unit", "target")))
                values[key].append((info["identity"], record["value"]))
    rows = []
    for key, pairs in values.items():
        identities, numbers = zip(*pairs)
        estimate = bootstrap_mean(numbers, identities, resamples=config.evaluate.bootstrap, seed=config.seed)
        columns = dict(zip(("dataset", "split", "metric", "threshold", "unit", "target"), key))
        rows.append(ResultRow(**common, **columns, **asdict(estimate)))
    return rows
