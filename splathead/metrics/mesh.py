"""Surface measures: precision, recall and F-score over thresholds, Chamfer, Hausdorff, normal consistency.

One evaluator for every method: a predicted depth map becomes vertices and triangles by one rule, and both
directions measure the exact distance to triangles (point-to-point distances would be floored by the
spacing of the samples). Nothing is aligned before scoring: the cameras are known.

* precision: predicted vertices to the true triangles. Every pixel of the mask counts, also one that no
  triangle uses, so a method cannot hide flying pixels behind the jump rule.
* recall: area-uniform samples of the true surface that the view sees, to the predicted triangles.
* F-score: their harmonic mean (Knapitsch et al., "Tanks and Temples", 2017), at every threshold of a curve;
  the area under the curve is the mean F-score over the curve's equally spaced thresholds.
* chamfer_l1: mean of the two directed mean distances; hausdorff and hausdorff_95: the larger of the two
  directed maxima and 95th percentiles.
* normal_consistency: mean absolute cosine between the normals at a point and at its closest point, mean of
  both directions (Mescheder et al., "Occupancy Networks", 2019). A predicted vertex without triangle
  counts as 0; where the closest point has no normal (a lone pixel) there is nothing to compare.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from splathead.cameras import Camera
from splathead.metrics.surface import Surface, pixel_of, sample_surface, visible_points
from splathead.metrics.zones import Zones, ZoneSettings, compute_zones
from splathead.results import threshold_text

THRESHOLDS_MM = (0.1, 0.25, 0.5, 1.0, 2.0)
"""Thresholds that tables show; the curve contains them."""
THRESHOLDS_PERCENT = (0.1, 0.5, 1.0)
"""The same in percent of the bounding-box diagonal."""
TABLE_THRESHOLDS = {threshold_text(v, "mm") for v in THRESHOLDS_MM} | {threshold_text(v, "%diag") for v in THRESHOLDS_PERCENT}
"""As result rows spell them; the other thresholds of the curve are for figures."""
CURVE_MM = tuple(round(0.05 * k, 2) for k in range(1, 41))
CURVE_PERCENT = tuple(round(0.025 * k, 3) for k in range(1, 41))
CURVE_THRESHOLDS = {threshold_text(v, "mm") for v in CURVE_MM} | {threshold_text(v, "%diag") for v in CURVE_PERCENT}


@dataclass(frozen=True)
class MeshSettings:
    """How surfaces are cut, sampled and compared; lengths in the data's unit."""

    zones: ZoneSettings = field(default_factory=ZoneSettings)
    """zones; their ``jump`` is also the largest depth span of a triangle"""
    samples: int = 100_000
    """area-uniform samples of the true surface, about"""
    vertex_stride: int = 1
    """use every n-th predicted vertex in row-major order; 1 = all"""
    metric_scale: bool = True
    """the data is in millimetres; otherwise all thresholds are percentages of the diagonal"""
    seed: int = 0

    @classmethod
    def for_diagonal(cls, diagonal: float, **changes: int) -> MeshSettings:
        """Settings for data without a known scale: lengths are the same parts of the bounding-box diagonal."""
        return cls(ZoneSettings.for_diagonal(diagonal), metric_scale=False, **changes)

    def thresholds(self, diagonal: float) -> tuple[dict[str, float], list[str]]:
        """Threshold texts with their lengths, and those texts that make up the curve."""
        percent = CURVE_PERCENT if not self.metric_scale else THRESHOLDS_PERCENT
        lengths = {threshold_text(value, "%diag"): value / 100 * diagonal for value in percent}
        if not self.metric_scale:
            return lengths, list(lengths)
        curve = {threshold_text(value, "mm"): value for value in CURVE_MM}
        return {**curve, **lengths}, list(curve)


@dataclass(frozen=True)
class MeshScores:
    """Surface measures of one prediction in one zone; lengths in the data's unit. NaN = undefined (nothing to measure).

    ``precision``, ``recall`` and ``f_score`` map a threshold (as in the results' ``threshold`` column) to a share.
    """

    n_vertices: int
    n_samples: int
    chamfer_l1: float
    hausdorff: float
    hausdorff_95: float
    normal_consistency: float
    f_score_auc: float
    precision: dict[str, float]
    recall: dict[str, float]
    f_score: dict[str, float]


@dataclass(frozen=True)
class SurfaceTruth:
    """The true surface of one view; built once with :meth:`from_mesh` or :meth:`from_depth`, used for every method."""

    surface: Surface
    camera: Camera
    zones: Zones
    diagonal: float
    settings: MeshSettings
    samples: np.ndarray  # [S, 3] area-uniform on the visible surface
    sample_normals: np.ndarray  # [S, 3]
    sample_interior: np.ndarray  # [S] bool, the sample projects into the interior zone

    @classmethod
    def from_mesh(cls, surface: Surface, target_depth: np.ndarray, camera: Camera, settings: MeshSettings) -> SurfaceTruth:
        """Truth for target ``surface``: a subject's true mesh (indexed once per subject) and its true depth in this view."""
        zones = compute_zones(target_depth, settings.zones)
        seeds = np.random.SeedSequence(settings.seed).generate_state(2)
        points, faces = _visible_samples(surface, [(camera, target_depth)], settings, seeds)
        _check_same_surface(points, camera, target_depth, settings.zones.jump)
        return cls(surface, camera, zones, surface.diagonal, settings, *_place_samples(surface, camera, zones, points, faces))

    @classmethod
    def from_depth(cls, target_depth: np.ndarray, camera: Camera, diagonal: float, settings: MeshSettings) -> SurfaceTruth:
        """Truth for target ``render``: the triangles of the target depth grid, all of them visible.

        A pixel that jumps cut off from every triangle is a point of the surface too (a triangle without
        area), or the target itself would not score 1. ``diagonal`` is the head's, which one view's grid
        does not show.
        """
        zones = compute_zones(target_depth, settings.zones)
        surface = Surface.from_depth(target_depth, zones.full, camera, settings.zones.jump, keep_lone=True)
        points, faces = sample_surface(surface, settings.samples, settings.seed)
        return cls(surface, camera, zones, diagonal, settings, *_place_samples(surface, camera, zones, points, faces))


def evaluate_mesh(predicted_depth: np.ndarray, mask: np.ndarray, truth: SurfaceTruth) -> dict[str, MeshScores]:
    """Surface measures of a predicted depth map in each zone: interior, silhouette, full.

    Distances are to the whole other surface; a zone selects the points they are measured from (a vertex by
    its pixel, a sample by the pixel it projects into).

    Args:
        predicted_depth: [H, W] in the truth's view.
        mask: [H, W] bool, pixels that are predicted vertices. Give the target's mask with empty pixels filled
            (``metrics.depth.fill_empty``) so that every method is measured on the same pixels.
        truth: of the view; its settings are used.
    """
    settings = truth.settings
    predicted = Surface.from_depth(predicted_depth, mask, truth.camera, settings.zones.jump)
    used = slice(None, None, settings.vertex_stride)
    to_truth, true_face = truth.surface.closest(predicted.vertices[used])
    to_prediction, predicted_face = predicted.closest(truth.samples)
    vertex_cosine = _abs_cosine(predicted.vertex_normals()[used], truth.surface.face_normals, true_face)
    sample_cosine = _abs_cosine(truth.sample_normals, predicted.face_normals, predicted_face)
    vertex_interior = truth.zones.interior[mask][used]
    scores = {}
    for zone, vertices, samples in (
        ("interior", vertex_interior, truth.sample_interior),
        ("silhouette", ~vertex_interior, ~truth.sample_interior),
        ("full", slice(None), slice(None)),
    ):
        measured = to_truth[vertices], to_prediction[samples], vertex_cosine[vertices], sample_cosine[samples]
        scores[zone] = _scores(*measured, truth.diagonal, settings)
    return scores


def evaluate_mesh_against_mesh(
    predicted: Surface,
    true_surface: Surface,
    settings: MeshSettings,
    views: Sequence[tuple[Camera, np.ndarray]] = (),
) -> MeshScores:
    """Surface measures of a whole mesh (a fused one, say) against the true mesh.

    Precision is over area-uniform samples of the predicted surface instead of its vertices, whose density
    decimation makes arbitrary. With ``views`` (cameras with their true depth maps [H, W]), recall is over
    the true surface that at least one of them sees.
    """
    seeds = np.random.SeedSequence(settings.seed).generate_state(3)
    predicted_points, own_faces = sample_surface(predicted, settings.samples, seeds[2])
    if views:
        true_points, true_own_faces = _visible_samples(true_surface, views, settings, seeds[:2])
    else:
        true_points, true_own_faces = sample_surface(true_surface, settings.samples, seeds[0])
    to_truth, true_faces = true_surface.closest(predicted_points)
    to_prediction, predicted_faces = predicted.closest(true_points)
    return _scores(
        to_truth,
        to_prediction,
        _abs_cosine(predicted.face_normals[own_faces], true_surface.face_normals, true_faces),
        _abs_cosine(true_surface.face_normals[true_own_faces], predicted.face_normals, predicted_faces),
        true_surface.diagonal,
        settings,
    )


def _visible_samples(
    surface: Surface, views: Sequence[tuple[Camera, np.ndarray]], settings: MeshSettings, seeds: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """About ``settings.samples`` area-uniform points and faces of the part of a surface that some view sees."""

    def draw(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        points, faces = sample_surface(surface, count, seed)
        seen = np.zeros(count, dtype=bool)
        for camera, depth in views:
            hidden = np.flatnonzero(~seen)
            seen[hidden] = visible_points(surface, points[hidden], faces[hidden], camera, depth)
        return points[seen], faces[seen]

    trial = 20_000
    found = len(draw(trial, int(seeds[0]))[0])
    if not found:
        raise ValueError("the views see no part of the true mesh: do they and their depth maps belong to this mesh?")
    return draw(math.ceil(settings.samples * trial / found), int(seeds[1]))


def _place_samples(
    surface: Surface, camera: Camera, zones: Zones, points: np.ndarray, faces: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points in row-major pixel order (neighbours in space follow each other), their normals, and which are interior."""
    row, column, inside = pixel_of(points, camera)
    order = np.lexsort((column, row))
    interior = inside & zones.interior[row, column]
    return points[order], surface.face_normals[faces[order]], interior[order]


def _check_same_surface(points: np.ndarray, camera: Camera, depth: np.ndarray, tolerance: float) -> None:
    row, column, _ = pixel_of(points, camera)
    difference = float(np.median(np.abs(camera.project(points)[1] - depth[row, column])))
    if difference > tolerance:
        raise ValueError(
            f"true mesh and true depth map differ by {difference:.4g} (median of the visible points), expected below "
            f"{tolerance:.4g}: do they belong to the same view and unit?"
        )


def _abs_cosine(normals: np.ndarray, face_normals: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Absolute cosine [N] between normals and those of the closest faces; NaN where a face has no area."""
    if not len(face_normals):
        return np.full(len(normals), np.nan)
    closest = face_normals[faces]
    return np.where(closest.any(axis=1), np.abs((normals * closest).sum(axis=1)), np.nan)


def _scores(
    to_truth: np.ndarray,
    to_prediction: np.ndarray,
    vertex_cosine: np.ndarray,
    sample_cosine: np.ndarray,
    diagonal: float,
    settings: MeshSettings,
) -> MeshScores:
    lengths, curve = settings.thresholds(diagonal)
    limits = np.array(list(lengths.values()))
    precision, recall = _share_within(to_truth, limits), _share_within(to_prediction, limits)
    total = precision + recall
    f_score = np.divide(2 * precision * recall, total, out=np.where(np.isnan(total), np.nan, 0.0), where=total > 0)
    by_threshold = dict(zip(lengths, f_score.tolist()))
    both = to_truth.size > 0 and to_prediction.size > 0 and bool(np.isfinite(to_prediction).all())
    return MeshScores(
        n_vertices=to_truth.size,
        n_samples=to_prediction.size,
        chamfer_l1=float(to_truth.mean() + to_prediction.mean()) / 2 if both else math.nan,
        hausdorff=float(max(to_truth.max(), to_prediction.max())) if both else math.nan,
        hausdorff_95=float(max(np.quantile(to_truth, 0.95), np.quantile(to_prediction, 0.95))) if both else math.nan,
        normal_consistency=(_mean_defined(vertex_cosine) + _mean_defined(sample_cosine)) / 2,
        f_score_auc=float(np.mean([by_threshold[text] for text in curve])),
        precision=dict(zip(lengths, precision.tolist())),
        recall=dict(zip(lengths, recall.tolist())),
        f_score=by_threshold,
    )


def _mean_defined(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else math.nan


def _share_within(distances: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Share of ``distances`` at or below each limit; NaN without distances."""
    if not distances.size:
        return np.full(len(limits), np.nan)
    return np.searchsorted(np.sort(distances), limits, side="right") / distances.size
