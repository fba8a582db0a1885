"""Stage 08: surface measures of every method, target and zone; a ceiling row ``true_depth`` scores the target itself."""

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
from splathead.images import DepthMap, write_json
from splathead.metrics.mesh import MeshScores, MeshSettings, SurfaceTruth, evaluate_mesh
from splathead.metrics.surface import Surface
from splathead.results import write_results
from splathead.samples import STAGE_NAMES, Sample, stage_folder, subject_info
from splathead.stages import Stage
from splathead.subjects.writer import load_subject

CEILING = "true_depth"
"""The target's own depth map scored like a prediction: what the pixel grid allows."""

SHOWN_MM, SHOWN_PERCENT = ("0.25mm", "0.5mm", "1mm"), ("0.1%diag", "0.5%diag", "1%diag")
"""Thresholds that the terminal shows."""
LENGTHS = ("chamfer_l1", "hausdorff", "hausdorff_95")


def run_stage(config: Config, *, jobs: int, force: bool = False, limit: int = 0) -> list[str]:
    """Evaluate what is not evaluated yet, write ``mesh.csv``; returns lines for the terminal."""
    items = variant_items(test_samples(config, limit))
    methods = predicted_methods(config)
    settings = {"evaluate": asdict(config.evaluate), "pairs": asdict(config.pairs), "methods": methods}
    inputs = [STAGE_NAMES[5], STAGE_NAMES[6]]
    stage = Stage.open(config.run_folder, STAGE_NAMES[8], settings, inputs, force=force, seed=config.seed)
    stage.run_items(functools.partial(score_variant, config, items, methods), items, jobs=jobs, unit="head")
    rows = aggregate(config, list(read_parts(stage.folder, items)), "main")
    write_results(stage.folder / "mesh.csv", rows)
    stage.close()
    metric = all(row.unit == "mm" for row in rows if row.metric == "chamfer_l1")
    shown = [(f"f_score {threshold}", "interior") for threshold in (SHOWN_MM if metric else SHOWN_PERCENT)]
    shown += [("chamfer_l1", "interior"), ("hausdorff_95", "full")]
    return [*print_table(rows, shown), f"{stage.name}: {len(rows)} rows in {stage.folder / 'mesh.csv'}"]


def score_variant(config: Config, items: dict[str, list[Sample]], methods: list[str], item: str, out_dir: Path) -> None:
    """Score the chosen views of one subject's variant into ``scores.json``."""
    info = subject_info(config, items[item][0].subject)
    scale = Scale.of(info)
    surface = _true_surface(config, items[item][0].subject)
    views = [View.load(config, sample) for sample in items[item]]
    views.sort(key=lambda view: (abs(view.pair.yaw_deg), view.sample.view))
    records = []
    for view in views[: config.evaluate.mesh_views or None]:
        for target_name, target in view.targets.items():
            truth = _surface_truth(config, scale, surface if target_name == "surface" else None, target)
            for method in [*methods, CEILING]:
                mask = truth.zones.full
                depth = target.depth if method == CEILING else view.filled(method, mask)
                for zone, scores in evaluate_mesh(depth, mask, truth).items():
                    records += _records(view, info, scale, method, target_name, zone, scores)
    write_json(out_dir / "scores.json", records)


def _true_surface(config: Config, subject: str) -> Surface | None:
    folder = stage_folder(config, 1) / subject
    if not (folder / "mesh.ply").is_file():
        return None
    mesh = load_subject(folder).mesh
    return Surface.build(mesh.vertices, mesh.faces)


def _surface_truth(config: Config, scale: Scale, surface: Surface | None, target: DepthMap) -> SurfaceTruth:
    settings = MeshSettings(
        scale.zones(config), samples=config.evaluate.mesh_samples, vertex_stride=config.evaluate.mesh_stride,
        metric_scale=scale.metric, seed=config.seed,
    )  # fmt: skip
    if surface is None:
        return SurfaceTruth.from_depth(target.depth, target.camera, scale.diagonal_mm, settings)
    return SurfaceTruth.from_mesh(surface, target.depth, target.camera, settings)


def _records(
    view: View, info: dict, scale: Scale, method: str, target: str, zone: str, scores: MeshScores
) -> list[dict]:
    make = functools.partial(record, view, info, method, target, zone)
    records = [entry for name in LENGTHS for entry in make(name, scale.length(getattr(scores, name)), scale.unit)]
    records += make("normal_consistency", scores.normal_consistency, "frac")
    for metric in ("precision", "recall", "f_score"):
        for threshold, value in getattr(scores, metric).items():
            records += make(metric, value, "frac", threshold)
    curve_end = "2mm" if scale.metric else "1%diag"
    return records + make("f_score_auc", scores.f_score_auc, "frac", curve_end)
