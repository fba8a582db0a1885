"""Normals from a depth map: one operator for predicted and true depth, so that its own error cancels. And the slopes of depth
that normals imply."""

from __future__ import annotations

import numba
import numpy as np

from splathead.cameras import Camera

MIN_COSINE = 0.05
"""Normals more slanted than this (87 degrees) say nothing about the slope"""


def normals_from_depth(depth: np.ndarray, mask: np.ndarray, camera: Camera, *, jump: float) -> tuple[np.ndarray, np.ndarray]:
    """Unit normals of the surface that a depth map shows, by central differences of its unprojected points.

    With r(u, v) the ray of a pixel at z = 1 and P = z r its point, the tangents are a = P(u+1) - P(u-1) and
    b = P(v+1) - P(v-1); b x a points towards the camera whatever the depths, and has a closed form because
    neighbouring rays differ only in x or y.

    Args:
        depth: [H, W] z-depth, 0 = no surface; the unit does not matter, but is that of ``jump``.
        mask: [H, W] bool, pixels that may be used.
        camera: the view; its size must be that of ``depth``.
        jump: a pixel is invalid where a neighbour's depth differs from its own by more than this
            (``math.inf`` keeps every pixel with four neighbours).

    Returns:
        normals [H, W, 3] float32 in camera axes (x right, y down, z forward; z < 0 faces the camera), zero where
        invalid, and valid [H, W] bool. A pixel is invalid where one of its four neighbours is not in ``mask``.
    """
    shape = (camera.height, camera.width)
    if depth.shape != shape or mask.shape != shape:
        raise ValueError(f"depth of shape {depth.shape} and mask of shape {mask.shape}, camera {camera.name!r} has {shape}")
    z = np.where(mask, depth, 0.0).astype(np.float64)
    centre, left, right, up, down = z[1:-1, 1:-1], z[1:-1, :-2], z[1:-1, 2:], z[:-2, 1:-1], z[2:, 1:-1]
    known = mask[1:-1, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:] & mask[:-2, 1:-1] & mask[2:, 1:-1]
    for neighbour in (left, right, up, down):
        known = known & (np.abs(neighbour - centre) <= jump)
    rows, columns = np.nonzero(known)
    normals = np.zeros((*shape, 3), dtype=np.float32)
    valid = np.zeros(shape, dtype=bool)
    valid[1:-1, 1:-1] = known
    normals[valid] = normals_at(z, rows + 1, columns + 1, camera)
    return normals, valid


def normals_at(depth: np.ndarray, rows: np.ndarray, columns: np.ndarray, camera: Camera) -> np.ndarray:
    """The operator of :func:`normals_from_depth` at single pixels: unit normals [N, 3] float64 in camera axes.

    Args:
        depth: [H, W] z-depth, positive at the four neighbours of each pixel.
        rows, columns: [N] pixels, none at the image's border.
        camera: the view.

    Raises ValueError for a pixel at the border or outside: the loop checks no bounds.
    """
    for name, places, size in (("row", rows, depth.shape[0]), ("column", columns, depth.shape[1])):
        if len(places) and not 1 <= places.min() <= places.max() <= size - 2:
            raise ValueError(f"{name}s {places.min()}..{places.max()}, expected 1..{size - 2}, inside of the border")
    intrinsics = (camera.fx, camera.fy, camera.cx, camera.cy)
    return _unit_normals(np.ascontiguousarray(depth, dtype=np.float64), rows, columns, *intrinsics)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _unit_normals(
    depth: np.ndarray, rows: np.ndarray, columns: np.ndarray, fx: float, fy: float, cx: float, cy: float
) -> np.ndarray:
    """Unit normals [N, 3] of ``depth`` [H, W] at N pixels. A loop: the same in whole arrays is fifteen passes over memory."""
    normals = np.empty((len(rows), 3))
    for n in range(len(rows)):
        row, column = rows[n], columns[n]
        left, right, up, down = depth[row, column - 1], depth[row, column + 1], depth[row - 1, column], depth[row + 1, column]
        x, y = (column + 0.5 - cx) / fx, (row + 0.5 - cy) / fy
        # a = dz_u r + s_u e_x and b = dz_v r + s_v e_y with the neighbours' rays at distance 1 / focal length
        dz_u, s_u = right - left, (right + left) / fx
        dz_v, s_v = down - up, (down + up) / fy
        a, b = dz_u * s_v, dz_v * s_u
        c = -(y * b + x * a + s_u * s_v)
        length = np.sqrt(a * a + b * b + c * c)
        normals[n, 0], normals[n, 1], normals[n, 2] = a / length, b / length, c / length
    return normals


def slopes_of_normals(
    normals: np.ndarray, camera: Camera, depth: np.ndarray | float = 1.0, length: np.ndarray | float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Change of depth per pixel, along x and along y, on the planes that normals describe; in the type of ``normals``.

    The plane through a surface point P = z r, r = ((x - cx) / fx, (y - cy) / fy, 1), has n . dP/dx = 0, hence
    dz/dx = -z (n_x / fx) / (n . r).

    Args:
        normals: [H, W, 3] in camera axes.
        camera: the view; its size must be that of ``normals``.
        depth: [H, W] z; 1 gives the slopes of log depth.
        length: [H, W] of the normals.

    Returns:
        slopes [H, W, 2], NaN where a normal is too slanted, and the cosine [H, W] between normal and ray.
    """
    rays = camera.ray_directions().astype(normals.dtype)
    along = np.einsum("hwc,hwc->hw", normals, rays)
    cosine = np.abs(along) / np.maximum(length * np.linalg.norm(rays, axis=-1), 1e-12)
    factor = -depth / np.where(cosine > MIN_COSINE, along, np.nan)
    return factor[..., None] * normals[..., :2] / np.array([camera.fx, camera.fy], normals.dtype), cosine
