"""Stage 11: fuse each method's predicted depth of a head into one mesh and score it.

An item is ``<method>/<subject>/<variant>``. Its folder holds ``mesh.ply`` and the formats asked for,
``fusion.json`` (what was fused, how) and ``scores.json``. Depth is read from stage 06's predictions only (the baseline
``poisson_centres`` reads stage 02's Gaussians instead);
colours come from the cleaned maps of stage 04.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from splathead.config import Config
from splathead.evaluation.views import Scale
from splathead.fusion.files import save_mesh
from splathead.fusion.scores import POISSON_CENTRES, score_item
from splathead.fusion.surface import FusedMesh, decimated, extract_surface, largest_component, vertex_colours
from splathead.fusion.tsdf import DepthView, fuse_views
from splathead.images import DepthMap, load_depth_png, load_maps, write_json
from splathead.samples import Sample, list_samples, predictions_folder, stage_folder, subject_info

COLOUR_TOLERANCE_VOXELS = 2.0


def list_items(config: Config, limit: int = 0) -> list[str]:
    """Items to fuse: each of ``fuse.methods`` for each variant of the first ``fuse.subjects`` (or ``limit``) subjects.

    Subjects are those of ``evaluate.splits``. A method without predictions is an error that names those there are.
    """
    there = sorted(path.name for path in predictions_folder(config).glob("*") if path.is_dir())
    for method in _depth_methods(config):
        if method not in there:
            found = ", ".join(there) or "none"
            raise ValueError(f"fuse.methods: no predictions of {method!r} in {predictions_folder(config)}, it has {found}")
    limit = min((n for n in (limit, config.fuse.subjects) if n), default=0)
    samples = list_samples(config, 4, splits=tuple(config.evaluate.splits), limit=limit)
    heads = dict.fromkeys((s.subject, s.variant) for s in samples if _predicted(config, s))
    return [f"{method}/{subject}/{variant}" for method in config.fuse.methods for subject, variant in heads]


def _depth_methods(config: Config) -> list[str]:
    """Those of ``fuse.methods`` that fuse depth maps; a ValueError when there is none, as these say which views there are."""
    methods = [method for method in config.fuse.methods if method != POISSON_CENTRES]
    if not methods:
        raise ValueError(f"fuse.methods {config.fuse.methods}: expected at least one method with depth maps")
    return methods


def _predicted(config: Config, sample: Sample) -> bool:
    return sample.prediction_path(config, _depth_methods(config)[0]).is_file()


def fuse_item(config: Config, item: str, out_dir: Path) -> None:
    """Fuse, clean, colour, write and score one item."""
    method, subject, variant = item.split("/")
    started = time.perf_counter()
    of_centres = method == POISSON_CENTRES
    predictions = load_predictions(config, _depth_methods(config)[0] if of_centres else method, subject, variant)
    views = [_depth_view(config, sample, depth_map) for sample, depth_map in predictions.items()]
    mesh, record = _mesh_of_centres(config, subject, variant, views) if of_centres else fuse_head(views, config)
    scale = "metric" if Scale.of(subject_info(config, subject)).metric else "nominal"
    for suffix in dict.fromkeys(["ply", *config.fuse.formats]):
        save_mesh(out_dir / f"mesh.{suffix}", mesh, scale=scale)
    record |= {"method": method, "subject": subject, "variant": variant, "views": [sample.view for sample in predictions]}
    write_json(out_dir / "fusion.json", {**record, "scale": scale, "seconds": round(time.perf_counter() - started, 3)})
    write_json(out_dir / "scores.json", score_item(config, predictions, mesh, agreement=not of_centres))


def _mesh_of_centres(config: Config, subject: str, variant: str, views: list[DepthView]) -> tuple[FusedMesh, dict]:
    from splathead.fusion.poisson import poisson_of_gaussians
    from splathead.ply import load_gaussians_ply

    fit = Sample(subject, variant, "").fit
    mesh = poisson_of_gaussians(load_gaussians_ply(stage_folder(config, 2) / subject / fit / "gaussians.ply"))
    record = {"faces_extracted": len(mesh.faces)}
    mesh = decimated(largest_component(mesh), config.fuse.target_faces)
    tolerance = COLOUR_TOLERANCE_VOXELS * config.fuse.voxel_mm
    mesh.colours = vertex_colours(mesh.vertices, views, tolerance=tolerance, jump=config.pairs.jump_mm)
    return mesh, record | {"faces": len(mesh.faces)}


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
