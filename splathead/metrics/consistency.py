"""Multi-view consistency: how far the views' depth maps disagree, where there is no truth to compare with.

Every pixel of a source view is unprojected and seen from a nearby view, whose own depth there is compared
with the point's. Lengths are fractions of the head's bounding-box diagonal.

What to do with a pair of depths z (of the reprojected source pixel) and z' (what the other view's map shows):

* |z - z'| <= tolerance: both see the same surface; the difference counts towards the mean disagreement.
* z > z' + tolerance: something nearer hides the point from the other view. Occlusion, says nothing: left out.
* z < z' - tolerance: the other view looks through the point. No occlusion can explain that, so it counts as
  a conflict; without this share, a method could lower its disagreement by being wrong beyond the tolerance.

Pixels of the other view without surface, and depth jumps between the four pixels that a value is
interpolated from, are left out as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from splathead.cameras import Camera
from splathead.metrics.zones import check_depth


@dataclass(frozen=True)
class ConsistencySettings:
    """Which views and pixels are compared."""

    max_angle_deg: float = 60.0
    """largest angle between two views' optical axes; farther views see other sides of the head"""
    tolerance: float = 0.01
    """largest disagreement still taken as the same surface, fraction of the diagonal; also the jump rule"""
    stride: int = 2
    """use every n-th pixel of a source view in both directions"""


@dataclass(frozen=True)
class ConsistencyScores:
    """Disagreement of a set of depth maps. NaN = undefined (no overlapping views)."""

    consistency: float
    """mean |z - z'| over points that both views see, fraction of the diagonal"""
    consistency_conflict: float
    """share of points, among those seen or looked through, that the other view looks through"""
    n_points: int
    """point and view pairs that were compared"""
    n_pairs: int
    """ordered pairs of views with at least one such point"""


def multiview_consistency(
    depths: Sequence[np.ndarray], cameras: Sequence[Camera], diagonal: float, settings: ConsistencySettings | None = None
) -> ConsistencyScores:
    """Disagreement of reprojected depth between all pairs of nearby views.

    Args:
        depths: each [H, W] z-depth, 0 = no surface.
        cameras: the view of each, in one world.
        diagonal: bounding-box diagonal of the head, in the depths' unit.
        settings: which views and pixels are compared.

    Every pair of views weighs by its number of compared points.
    """
    settings = settings or ConsistencySettings()
    if len(depths) != len(cameras):
        raise ValueError(f"{len(depths)} depth maps for {len(cameras)} cameras, expected one each")
    if not diagonal > 0:
        raise ValueError(f"bounding-box diagonal {diagonal}, expected > 0")
    for depth, camera in zip(depths, cameras):
        check_depth(depth, f"view {camera.name!r}", (camera.height, camera.width))
    maps = [depth.astype(np.float64) for depth in depths]
    tolerance = settings.tolerance * diagonal
    minimal_cosine = math.cos(math.radians(settings.max_angle_deg))
    total, agreeing, conflicting, pairs = 0.0, 0, 0, 0
    for i, source in enumerate(cameras):
        near = [j for j, other in enumerate(cameras) if j != i and _cosine(source, other) >= minimal_cosine - 1e-9]
        points = _surface_points(maps[i], source, settings.stride) if near else None
        for j in near:
            difference = _depth_differences(points, maps[j], cameras[j], tolerance)
            same = np.abs(difference) <= tolerance
            in_front = int((difference < -tolerance).sum())
            total += float(np.abs(difference[same]).sum())
            agreeing += int(same.sum())
            conflicting += in_front
            pairs += bool(same.any() or in_front)
    compared = agreeing + conflicting
    return ConsistencyScores(
        consistency=total / agreeing / diagonal if agreeing else math.nan,
        consistency_conflict=conflicting / compared if compared else math.nan,
        n_points=compared,
        n_pairs=pairs,
    )


def _cosine(one: Camera, other: Camera) -> float:
    """Of the angle between two optical axes."""
    return one.rotation[2] @ other.rotation[2]


def _surface_points(depth: np.ndarray, camera: Camera, stride: int) -> np.ndarray:
    """World points [N, 3] of every ``stride``-th pixel with a surface."""
    part = (slice(None, None, stride),) * 2
    z = depth[part]
    points = camera.ray_directions()[part][z > 0] * z[z > 0][:, None]
    return (points - camera.translation) @ camera.rotation


def _depth_differences(points: np.ndarray, depth: np.ndarray, camera: Camera, jump: float) -> np.ndarray:
    """z of points minus the map's depth there [M], for the points that fall between four pixels of one surface.

    The inverse of depth is interpolated: it is linear on a plane seen in perspective, depth is not.
    """
    pixels, z = camera.project(points)
    column, row = pixels[:, 0] - 0.5, pixels[:, 1] - 0.5
    inside = (z > 0) & (column >= 0) & (row >= 0) & (column <= camera.width - 1) & (row <= camera.height - 1)
    column, row, z = column[inside], row[inside], z[inside]
    x = np.minimum(column.astype(np.int64), camera.width - 2)
    y = np.minimum(row.astype(np.int64), camera.height - 2)
    corners = np.stack([depth[y, x], depth[y, x + 1], depth[y + 1, x], depth[y + 1, x + 1]])
    one_surface = (corners > 0).all(axis=0) & (np.ptp(corners, axis=0) <= jump)
    u, v = (column - x)[one_surface], (row - y)[one_surface]
    weights = np.stack([(1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v])
    return z[one_surface] - 1.0 / (weights / corners[:, one_surface]).sum(axis=0)
