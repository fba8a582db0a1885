"""Numba kernels of TSDF fusion. Each voxel or vertex is written by one thread: results do not depend on their number."""

from __future__ import annotations

import math
import threading

import numba
import numpy as np

from splathead.fusion.tsdf import BLOCK

# OpenMP first: where a package has loaded a TBB that is too old for numba, trying it first prints a warning
numba.config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]

ONE_AT_A_TIME = threading.Lock()
"""Held around parallel kernels: numba's simplest threading layer ends the process when two threads enter it together"""
OBSERVED_FRACTION = 0.98
"""a cell with a corner at the truncation distance is a border between free and unseen space, not a surface (as in Open3D)"""


@numba.njit(cache=True, inline="always")
def _sample(observed, column, row):
    """Bilinear (1/z, plane factor, weight) at fractional pixel-centre coordinates; weight 0 unless all four count."""
    c, r = math.floor(column), math.floor(row)
    if c < 0 or r < 0 or c + 1 >= observed.shape[1] or r + 1 >= observed.shape[0]:
        return 0.0, 0.0, 0.0
    a, b, d, e = observed[r, c], observed[r, c + 1], observed[r + 1, c], observed[r + 1, c + 1]
    if a[2] == 0 or b[2] == 0 or d[2] == 0 or e[2] == 0:
        return 0.0, 0.0, 0.0
    x, y = column - c, row - r
    wa, wb, wd, we = (1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y
    return (
        wa * a[0] + wb * b[0] + wd * d[0] + we * e[0],
        wa * a[1] + wb * b[1] + wd * d[1] + we * e[1],
        wa * a[2] + wb * b[2] + wd * d[2] + we * e[2],
    )


@numba.njit(cache=True, nogil=True)
def mark_blocks(active, origin, block_size, truncation, observed, intrinsics, pose):
    """Set ``active`` [X, Y, Z] for every block within ``truncation`` (box distance) of an observed point."""
    fx, fy, cx, cy = intrinsics
    for row in range(observed.shape[0]):
        for column in range(observed.shape[1]):
            if observed[row, column, 2] == 0:
                continue
            z = 1.0 / observed[row, column, 0]
            x, y = (column + 0.5 - cx) / fx * z - pose[0, 3], (row + 0.5 - cy) / fy * z - pose[1, 3]
            z -= pose[2, 3]
            first, last = np.empty(3, np.int64), np.empty(3, np.int64)
            for axis in range(3):
                p = pose[0, axis] * x + pose[1, axis] * y + pose[2, axis] * z - origin[axis]
                first[axis] = max(math.floor((p - truncation) / block_size), 0)
                last[axis] = min(math.floor((p + truncation) / block_size), active.shape[axis] - 1)
            for i in range(first[0], last[0] + 1):
                for j in range(first[1], last[1] + 1):
                    for k in range(first[2], last[2] + 1):
                        active[i, j, k] = True


@numba.njit(cache=True, parallel=True, nogil=True)
def integrate(distance, weight, blocks, origin, voxel, truncation, observed, intrinsics, pose):
    """Add one view: weighted sums of truncated distance and of weight at every node of ``blocks``.

    Nodes far behind the surface are unseen. Between half and the whole truncation distance behind it the weight
    fades to 0, so that the back of one view's surface does not eat into a thin part seen from the other side.
    """
    fx, fy, cx, cy = intrinsics
    for b in numba.prange(blocks.shape[0]):
        for i in range(BLOCK * blocks[b, 0], BLOCK * (blocks[b, 0] + 1)):
            for j in range(BLOCK * blocks[b, 1], BLOCK * (blocks[b, 1] + 1)):
                wx, wy = origin[0] + voxel * i, origin[1] + voxel * j
                for k in range(BLOCK * blocks[b, 2], BLOCK * (blocks[b, 2] + 1)):
                    wz = origin[2] + voxel * k
                    z = pose[2, 0] * wx + pose[2, 1] * wy + pose[2, 2] * wz + pose[2, 3]
                    if z <= 0:
                        continue
                    x = pose[0, 0] * wx + pose[0, 1] * wy + pose[0, 2] * wz + pose[0, 3]
                    y = pose[1, 0] * wx + pose[1, 1] * wy + pose[1, 2] * wz + pose[1, 3]
                    inverse, plane_factor, w = _sample(observed, fx * x / z + cx - 0.5, fy * y / z + cy - 0.5)
                    if w == 0:
                        continue
                    along_z = 1.0 / inverse - z
                    signed = along_z * plane_factor
                    if signed <= -truncation or along_z < -2 * truncation:
                        continue
                    fade = min(1.0, 2.0 + 2.0 * signed / truncation)
                    distance[i, j, k] += w * fade * min(signed, truncation)
                    weight[i, j, k] += w * fade


@numba.njit(cache=True, parallel=True, nogil=True)
def normalise(distance, weight, blocks):
    """Turn the weighted sums of ``integrate`` into means."""
    for b in numba.prange(blocks.shape[0]):
        for i in range(BLOCK * blocks[b, 0], BLOCK * (blocks[b, 0] + 1)):
            for j in range(BLOCK * blocks[b, 1], BLOCK * (blocks[b, 1] + 1)):
                for k in range(BLOCK * blocks[b, 2], BLOCK * (blocks[b, 2] + 1)):
                    if weight[i, j, k] > 0:
                        distance[i, j, k] /= weight[i, j, k]


@numba.njit(cache=True, parallel=True, nogil=True)
def mark_cells(cells, distance, weight, blocks, truncation):
    """Set ``cells[i, j, k]`` where the cell between nodes (i-1, j-1, k-1) and (i, j, k) may hold surface.

    All eight nodes must have been observed, none of them at the truncation distance.
    """
    limit = OBSERVED_FRACTION * truncation
    for b in numba.prange(blocks.shape[0]):
        for i in range(max(BLOCK * blocks[b, 0], 1), BLOCK * (blocks[b, 0] + 1)):
            for j in range(max(BLOCK * blocks[b, 1], 1), BLOCK * (blocks[b, 1] + 1)):
                for k in range(max(BLOCK * blocks[b, 2], 1), BLOCK * (blocks[b, 2] + 1)):
                    inside = True
                    for corner in range(8):
                        p, q, r = i - (corner & 1), j - (corner >> 1 & 1), k - (corner >> 2 & 1)
                        if weight[p, q, r] == 0 or abs(distance[p, q, r]) >= limit:
                            inside = False
                            break
                    cells[i, j, k] = inside


@numba.njit(cache=True, parallel=True, nogil=True)
def add_colours(sums, totals, vertices, tolerance, observed, rgb, intrinsics, pose):
    """Add one view's bilinear colours to ``sums`` [V, 3] and their weights to ``totals`` [V] where it sees the vertex.

    Seen means within ``tolerance`` of the view's depth. The weight is that of fusion squared, so that the view
    that faces the surface dominates and texture stays sharp.
    """
    fx, fy, cx, cy = intrinsics
    for v in numba.prange(vertices.shape[0]):
        wx, wy, wz = vertices[v]
        z = pose[2, 0] * wx + pose[2, 1] * wy + pose[2, 2] * wz + pose[2, 3]
        if z <= 0:
            continue
        x = pose[0, 0] * wx + pose[0, 1] * wy + pose[0, 2] * wz + pose[0, 3]
        y = pose[1, 0] * wx + pose[1, 1] * wy + pose[1, 2] * wz + pose[1, 3]
        column, row = fx * x / z + cx - 0.5, fy * y / z + cy - 0.5
        inverse, plane_factor, w = _sample(observed, column, row)
        if w == 0 or abs(1.0 / inverse - z) * plane_factor > tolerance:
            continue
        c, r = math.floor(column), math.floor(row)
        fraction_x, fraction_y = column - c, row - r
        for channel in range(3):
            upper = (1 - fraction_x) * rgb[r, c, channel] + fraction_x * rgb[r, c + 1, channel]
            lower = (1 - fraction_x) * rgb[r + 1, c, channel] + fraction_x * rgb[r + 1, c + 1, channel]
            sums[v, channel] += w * w * ((1 - fraction_y) * upper + fraction_y * lower)
        totals[v] += w * w
