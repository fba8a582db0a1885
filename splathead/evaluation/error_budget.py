"""Error budget: what of splat depth's error is bias, noise, resolution and quantisation. Interior zones only.

One chain of maps runs from the true surface, another from the Gaussians, to the 8-bit low-resolution input; each link is a
``method`` of the rows. Every fit is measured in both raster modes, whatever stage 03 rendered. Named for maps of 1024 and
256 pixels, which are ``subjects.map_size`` and ``render.lr_size``:

==============================  ======================================================================================
method                          map
==============================  ======================================================================================
splat_1024                      the Gaussians' own depth in float; ``depth_std`` is its spread along the ray
splat_1024_unbiased             the same without each map's mean error: what is left is noise and shape
splat_1024_median               median instead of expected depth (``render.median``)
splat_normals                   no depth: the Gaussians' shortest axes, composited, as normals
splat_256_bilinear              depth rendered at low resolution in float, enlarged
splat_256_8bit_bilinear         the same through the 8-bit code: the baseline ``bilinear``
truth_8bit_1024                 true depth through an 8-bit code: quantisation alone
truth_area_256_bilinear         true depth averaged over low-resolution cells, enlarged: resolution alone
truth_area_256_8bit_bilinear    both
splat_256, splat_256_8bit       ``interval_violation``: share of low-resolution cells where the mean of the high-resolution
                                render is more than half an 8-bit step off the low-resolution render, in float and as coded
==============================  ======================================================================================

The maps are scored against ``surface``, the enlarged renders also against ``render``, the Gaussians' own high-resolution
depth; the last two compare renders with each other.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from splathead.cameras import Camera, camera_yaw_elevation
from splathead.config import Config
from splathead.evaluation.rows import aggregate
from splathead.evaluation.scores import ScoreSheet
from splathead.evaluation.summary import Column, summary_lines
from splathead.evaluation.views import Method, enlarged
from splathead.images import DepthEncoding, load_maps
from splathead.maps.degrade import downsample
from splathead.maps.normals import normals_at, normals_from_depth
from splathead.maps.pairs import load_truth
from splathead.maps.render_subject import NORMAL_SCALE, list_fits, map_cameras
from splathead.metrics.depth import angles_deg, error_statistics, fill_empty, interval_violation
from splathead.metrics.zones import ZoneSettings, bounding_box, cells_within, compute_zones
from splathead.results import read_results, write_results
from splathead.samples import STAGE_NAMES, Sample, list_subjects, of_fits, stage_folder, subject_folder
from splathead.stages import Stage

EXPERIMENT = "error_budget"
RESULTS_NAME = "error_budget.csv"
RASTER_MODES = ("classic", "antialiased")
CODE_BITS = 8
METHODS = (
    "splat_1024", "splat_1024_unbiased", "splat_1024_median", "splat_normals", "splat_256", "splat_256_8bit",
    "splat_256_bilinear", "splat_256_8bit_bilinear", "truth_8bit_1024", "truth_area_256_bilinear",
    "truth_area_256_8bit_bilinear",
)  # fmt: skip
"""In the order of tables"""
COLUMNS = (Column("rmse", "interior"), Column("bias", "interior"), Column("normal_error", "interior"))

Maps = Mapping[str, np.ndarray]
"""Clean maps of one view as stage 04 stores them."""
Scores = dict[tuple[str, str], dict[str, float]]
"""(target, method) -> metric -> value; lengths in the maps' unit."""


def run_error_budget(config: Config, *, jobs: int = 1, force: bool = False, limit: int = 0) -> list[str]:
    """Score every head of ``evaluate.splits`` and write stage 07's ``error_budget.csv``; returns lines for the terminal.

    Raises RuntimeError when stage 04 is not finished, ValueError for a head without true surface.
    """
    from splathead.devices import gpu_count, gpu_jobs

    subjects = [name for split in config.evaluate.splits for name in list_subjects(config, splits=(split,), limit=limit)]
    if not subjects:
        raise ValueError(f"{config.run_folder}: no subject in evaluate.splits {config.evaluate.splits} for the error budget")
    settings = {key: getattr(config.evaluate, key) for key in ("splits", "frontal_yaw_deg", "bootstrap")}
    settings |= {"zones": [config.pairs.interior_px, config.pairs.jump_mm], "render": config.render}
    settings |= {"fits": config.evaluate.fits} if config.evaluate.fits else {}
    name = f"{STAGE_NAMES[7]}/{EXPERIMENT}"
    stage = Stage.open(config.run_folder, name, settings, [STAGE_NAMES[4]], extra=subjects, force=force, seed=config.seed)
    path = stage_folder(config, 7) / RESULTS_NAME
    if stage.finished and path.is_file():
        rows = read_results(path)
    else:
        work, jobs = functools.partial(score_subject, config), gpu_jobs(config.device, jobs)
        stage.run_items(work, subjects, jobs=jobs, unit="head", gpus=gpu_count(config.device))
        sheets = [ScoreSheet.read(folder) for subject in subjects for folder in sorted((stage.folder / subject).iterdir())]
        rows = aggregate(config, sheets, (), stage.record["fingerprint"], experiment=EXPERIMENT)
        rows = [replace(row, degradation_test="") for row in rows]  # each method's name says what was done to its map
        write_results(path, rows)
        stage.close()
    methods = [Method(method, method, "") for method in METHODS]  # the terminal's order
    return [*summary_lines(rows, COLUMNS, methods), f"{name}: {len(subjects)} heads, {len(rows)} rows in {path}"]


def score_subject(config: Config, subject: str, out_dir: Path) -> None:
    """Write ``<fit>-<mode>/scores.json`` for every fit (of ``evaluate.fits``) and raster mode of one head."""
    found = [Sample(subject, f"{fit}-{mode}", "") for fit in list_fits(config, subject) for mode in RASTER_MODES]
    chosen = of_fits(found, config.evaluate.fits, "evaluate.fits")
    modes = {sample.variant: (sample.fit, sample.mode) for sample in chosen}
    sheets = {variant: ScoreSheet.of(config, Sample(subject, variant, "")) for variant in modes}
    sources = {variant: maps_of_variant(config, subject, *names) for variant, names in modes.items()}
    settings = next(iter(sheets.values())).scale.zones(config)
    for camera in map_cameras(config, subject):
        truth = load_truth(config, subject, camera)
        if truth is None:
            raise ValueError(f"{subject_folder(config, subject)}: no true surface, which evaluate.error_budget needs")
        surface = Reference.build(truth["depth"], camera, settings)
        from_truth = truth_scores(surface, truth["depth"], config.render.lr_size)
        for variant, sheet in sheets.items():
            scores = from_truth | splat_scores(surface, *sources[variant](camera), camera, settings)
            for (target, method), found in scores.items():
                keyed = {sheet.key(metric, "interior"): value for metric, value in found.items()}
                sheet.add(camera.name, camera_yaw_elevation(camera)[0], target, method, keyed)
    for variant, sheet in sheets.items():
        sheet.write(out_dir / variant)


def maps_of_variant(config: Config, subject: str, fit: str, mode: str) -> Callable[[Camera], tuple[Maps, Maps]]:
    """Clean high- and low-resolution maps of a map camera: stage 04's, or rendered now where it has no such mode."""
    folder = stage_folder(config, 4) / subject / f"{fit}-{mode}"
    if folder.is_dir():
        return lambda camera: tuple(load_maps(folder / f"{camera.name}_{suffix}.npz") for suffix in ("hr", "lr"))
    from splathead.devices import raster_device
    from splathead.maps.postprocess import clean_view
    from splathead.maps.render_subject import render_maps
    from splathead.ply import load_gaussians_ply
    from splathead.raster import RasterSettings

    gaussians = load_gaussians_ply(stage_folder(config, 2) / subject / fit / "gaussians.ply")
    gaussians = gaussians.to(raster_device(config.device, config.render.backend))
    settings = RasterSettings(antialiased=mode == "antialiased")

    def maps(camera: Camera) -> Maps:
        rendered = render_maps(gaussians, camera, settings, config)
        return clean_view(rendered, camera, config.postprocess, f"subject {subject}, {fit}-{mode}, view {camera.name}")

    return lambda camera: (maps(camera), maps(camera.resized(config.render.lr_size)))


@dataclass(frozen=True)
class Reference:
    """What a view's maps are compared with, cut to the box around it. Pixels and normals are those of the interior."""

    depth: np.ndarray  # [h, w] float64, 0 = no surface
    interior: np.ndarray  # [h, w] bool
    box: tuple[slice, slice]
    camera: Camera  # of the box
    pixels: tuple[np.ndarray, np.ndarray]  # rows and columns [N] where the normal is known
    normals: np.ndarray  # [N, 3]

    @classmethod
    def build(cls, depth: np.ndarray, camera: Camera, settings: ZoneSettings) -> Reference:
        """From the target's depth [H, W], 0 = no surface."""
        zones = compute_zones(depth, settings)
        box = bounding_box(zones.full, margin=1)
        cut, part, interior = depth[box].astype(np.float64), camera.cropped(*box), zones.interior[box]
        normals, valid = normals_from_depth(cut, zones.full[box], part, jump=settings.jump)
        known = valid & interior
        return cls(cut, interior, box, part, np.nonzero(known), normals[known])

    def filled(self, depth: np.ndarray, fallback: np.ndarray) -> np.ndarray:
        """A map [H, W] in the box [h, w], with ``fallback``'s value where it is empty."""
        return fill_empty(depth[self.box], fallback[self.box], self.depth > 0)

    def depth_scores(self, filled: np.ndarray) -> dict[str, float]:
        """rmse, mae, bias and normal_error of a filled map [h, w]."""
        rmse, mae, bias = error_statistics((filled - self.depth)[self.interior])
        normals = normals_at(filled, *self.pixels, self.camera)
        return {"rmse": rmse, "mae": mae, "bias": bias, "normal_error": self.normal_error(normals)}

    def unbiased_scores(self, filled: np.ndarray) -> dict[str, float]:
        """rmse and mae once the mean error is removed."""
        error = (filled - self.depth)[self.interior]
        rmse, mae, _ = error_statistics(error - error_statistics(error)[2])
        return {"rmse": rmse, "mae": mae}

    def normal_error(self, normals: np.ndarray) -> float:
        """Mean angle in degrees of unit normals [N, 3] at ``pixels``; NaN when there is none."""
        return float(angles_deg(normals, self.normals).mean()) if len(normals) else float("nan")


def truth_scores(surface: Reference, depth: np.ndarray, lr_size: int) -> Scores:
    """What resolution and quantisation alone do to true depth [H, W]."""
    mask = depth > 0
    low, low_mask = downsample(depth, mask, len(depth) // lr_size, "area")
    maps = {
        "truth_8bit_1024": coded(depth, mask)[0],
        "truth_area_256_bilinear": enlarged(low, low_mask, depth.shape),
        "truth_area_256_8bit_bilinear": enlarged(coded(low, low_mask)[0], low_mask, depth.shape),
    }
    return {("surface", method): surface.depth_scores(surface.filled(found, found)) for method, found in maps.items()}


def splat_scores(surface: Reference, high: Maps, low: Maps, camera: Camera, settings: ZoneSettings) -> Scores:
    """How far the Gaussians' maps of a view are from the true surface, and its low-resolution maps from its high one."""
    low_depth, low_mask = low["depth"], low["mask"].astype(bool)
    decoded, encoding = coded(low_depth, low_mask)
    shape = (camera.height, camera.width)
    bilinear = enlarged(low_depth, low_mask, shape)
    enlargements = {"splat_256_bilinear": bilinear, "splat_256_8bit_bilinear": enlarged(decoded, low_mask, shape)}
    own = surface.filled(high["depth"], bilinear)
    drawn = surface.interior & (high["alpha"][surface.box] > 0)  # not where clean-up filled a hole
    spread = np.sqrt(high["depth_variance"][surface.box][drawn])
    depth_std = float(spread.mean()) if spread.size else float("nan")
    scores = {
        ("surface", "splat_1024"): surface.depth_scores(own) | {"depth_std": depth_std},
        ("surface", "splat_1024_unbiased"): surface.unbiased_scores(own),
        ("surface", "splat_normals"): {"normal_error": surface.normal_error(_splat_normals(surface, high["normal"], own))},
    }
    if "depth_median" in high:
        scores["surface", "splat_1024_median"] = surface.depth_scores(surface.filled(high["depth_median"], bilinear))
    render = Reference.build(high["depth"], camera, settings)
    for method, found in enlargements.items():
        for target, reference in (("surface", surface), ("render", render)):
            scores[target, method] = reference.depth_scores(reference.filled(found, found))
    return scores | _interval_scores(high, low, decoded, encoding, render)


def _splat_normals(surface: Reference, stored: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """The Gaussians' unit normals [N, 3] at the reference's pixels; those of ``depth`` where nothing was drawn."""
    normals = stored[surface.box][surface.pixels].astype(np.float64) / NORMAL_SCALE
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.where(length > 0, normals / np.maximum(length, 1e-9), normals_at(depth, *surface.pixels, surface.camera))


def _interval_scores(high: Maps, low: Maps, decoded: np.ndarray, encoding: DepthEncoding, render: Reference) -> Scores:
    """Low-resolution cells, inside of the render's interior, that contradict the mean of the high-resolution render."""
    factor = len(high["depth"]) // len(low["depth"])
    mean, _ = downsample(high["depth"], high["depth"] > 0, factor, "area")
    interior = np.zeros(high["depth"].shape, dtype=bool)
    interior[render.box] = render.interior
    cells = cells_within(interior, factor)
    code = encoding.encode(decoded, low["mask"].astype(bool))
    scores = {}
    # the metric compares with the decoded code; moving the mean by the code's rounding compares with the float render
    for method, compared in (("splat_256", mean + (decoded - low["depth"])), ("splat_256_8bit", mean)):
        violation, excess = interval_violation(compared, code, encoding, cells)
        scores["render", method] = {"interval_violation": violation, "interval_excess": excess}
    return scores


def coded(depth: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, DepthEncoding]:
    """Depth [H, W] float32 mm after an 8-bit code between the nearest and farthest depth of ``mask``, and the code."""
    encoding = DepthEncoding.from_depth(depth, mask, CODE_BITS, "mm")
    return encoding.decode(encoding.encode(depth, mask))[0], encoding
