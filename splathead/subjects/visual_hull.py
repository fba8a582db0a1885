"""Where a fit may start when a capture has no point cloud: points on the silhouettes' visual hull (Laurentini 1994).

Nothing but the photographs is used. Without masks the hull is the volume that the cameras see in common.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from splathead.cameras import Camera
from splathead.subjects.photos import Photo

GRID = 96
"""Voxels along each side of the carved cube."""

MIN_SEEN = 0.5
"""A voxel must lie inside the image of at least this share of the views."""

_FACING_POWER = 4  # how much more a view that looks straight at the surface counts for its colour


def initial_points(
    photos: Sequence[Photo], half_extent: float, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """``count`` points [N, 3] and colours [N, 3] in 0..1 around the world's origin.

    With masks: on the hull's surface, coloured from the views that face it. Without: anywhere in the common
    volume, in the mean colour seen there. ``half_extent`` is half the side of the cube that is searched.
    Raises ValueError when no voxel is consistent with all silhouettes.
    """
    masked = all(photo.has_mask for photo in photos)
    inside = carve(photos, half_extent)
    step = 2 * half_extent / GRID
    if masked:
        voxels = inside & ~ndimage.binary_erosion(inside)
        smooth = ndimage.gaussian_filter(inside.astype(np.float32), 2.0)
        normals = -np.stack([derivative[voxels] for derivative in np.gradient(smooth)], axis=1)
    else:
        voxels, normals = inside, None
    index = np.argwhere(voxels)
    chosen = rng.choice(len(index), count, replace=len(index) < count)
    points = (index[chosen] + rng.uniform(0, 1, (count, 3))) * step - half_extent
    return points, _colours(points, normals[chosen] if masked else None, photos)


def carve(photos: Sequence[Photo], half_extent: float, grid: int = GRID) -> np.ndarray:
    """Occupancy [grid, grid, grid] (x, y, z) of the cube: voxel centres inside every silhouette that could show them."""
    centres = (np.arange(grid) + 0.5) * (2 * half_extent / grid) - half_extent
    points = np.stack(np.meshgrid(centres, centres, centres, indexing="ij"), axis=-1).reshape(-1, 3)
    alive = np.arange(len(points))
    seen = np.zeros(len(points), dtype=np.int32)
    for photo in photos:
        row, column, visible = _pixels(points[alive], photo.camera)
        covered = photo.rgba[row, column, 3] > 127
        seen[alive] += visible
        alive = alive[covered | ~visible]
    alive = alive[seen[alive] >= MIN_SEEN * len(photos)]
    if not len(alive):
        raise ValueError(
            "the silhouettes have no volume in common: wrong masks, wrong poses, or cameras that do not look at one head"
        )
    inside = np.zeros(len(points), dtype=bool)
    inside[alive] = True
    return inside.reshape(grid, grid, grid)


def foreground_share(points: np.ndarray, photos: Sequence[Photo]) -> tuple[np.ndarray, np.ndarray]:
    """Share [N] of the views that see a point (in their frame) and show the head there, and the number [N] of such views."""
    covered, seen = np.zeros(len(points)), np.zeros(len(points), dtype=np.int32)
    for photo in photos:
        row, column, visible = _pixels(points, photo.camera)
        covered += visible & (photo.rgba[row, column, 3] > 127)
        seen += visible
    return covered / np.maximum(seen, 1), seen


def _pixels(points: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row and column of the pixel that shows each point (clamped into the image), and whether it is in the image."""
    pixels, depth = camera.project(points)
    visible = (depth > 0) & (pixels >= 0).all(axis=1) & (pixels[:, 0] < camera.width) & (pixels[:, 1] < camera.height)
    column, row = np.where(visible[:, None], pixels, 0).astype(np.int64).T
    return row, column, visible


def _colours(points: np.ndarray, normals: np.ndarray | None, photos: Sequence[Photo]) -> np.ndarray:
    total, weights = np.zeros((len(points), 3)), np.full(len(points), 1e-15)
    if normals is not None:
        normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    for photo in photos:
        row, column, visible = _pixels(points, photo.camera)
        weight = visible * (photo.rgba[row, column, 3] / 255.0)
        if normals is not None:
            towards = photo.camera.position - points
            cosine = (normals * towards).sum(1) / np.linalg.norm(towards, axis=1)
            weight = weight * np.maximum(cosine, 1e-3) ** _FACING_POWER
        total += weight[:, None] * photo.rgba[row, column, :3] / 255.0
        weights += weight
    return total / weights[:, None]
