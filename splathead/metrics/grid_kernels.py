"""Numba kernels for surfaces that are depth grids: triangulation, and exact closest points through a quadtree of boxes.

A depth grid brings its own spatial order, so its search tree costs one pass over the pixels; indexing the same
triangles from scratch takes longer than all queries on them.
"""

from __future__ import annotations

import numba
import numpy as np

_STACK = 128
"""deeper than 3 waiting siblings on each of 32 levels"""


@numba.njit(cache=True, nogil=True, error_model="numpy")
def triangulate(index, depth, jump, keep_lone, faces, first_face):
    """Faces of a depth grid in row-major order of cells; returns how many.

    ``index`` [h, w] int32 numbers the vertices, -1 = none. Cell (r, c) lies between pixels (r, c) and (r + 1, c + 1);
    cell i has the faces ``first_face[i]`` up to ``first_face[i + 1]``. ``keep_lone``: a pixel that no triangle uses
    becomes a triangle without area.
    """
    height, width = index.shape
    used = np.zeros((height, width), dtype=np.bool_)
    kept = np.zeros((height, width, 2), dtype=np.bool_)
    for r in range(height - 1):
        for c in range(width - 1):
            a, b, d, e = depth[r, c], depth[r + 1, c], depth[r, c + 1], depth[r + 1, c + 1]
            if index[r + 1, c] < 0 or index[r, c + 1] < 0:
                continue
            if index[r, c] >= 0 and max(a, b, d) - min(a, b, d) <= jump:
                kept[r, c, 0] = True
                used[r, c] = used[r + 1, c] = used[r, c + 1] = True
            if index[r + 1, c + 1] >= 0 and max(b, e, d) - min(b, e, d) <= jump:
                kept[r, c, 1] = True
                used[r + 1, c] = used[r + 1, c + 1] = used[r, c + 1] = True
    count = 0
    for r in range(height):
        for c in range(width):
            first_face[r * width + c] = count
            if kept[r, c, 0]:
                faces[count, 0], faces[count, 1], faces[count, 2] = index[r, c], index[r + 1, c], index[r, c + 1]
                count += 1
            if kept[r, c, 1]:
                faces[count, 0], faces[count, 1], faces[count, 2] = index[r + 1, c], index[r + 1, c + 1], index[r, c + 1]
                count += 1
            if keep_lone and index[r, c] >= 0 and not used[r, c]:
                faces[count, :] = index[r, c]
                count += 1
    first_face[height * width] = count
    return count


@numba.njit(cache=True, nogil=True, error_model="numpy")
def face_geometry(vertices, faces, normals, areas):
    """Unit normals (zero where degenerate) and areas of triangles."""
    for face in range(len(faces)):
        i, j, k = faces[face, 0], faces[face, 1], faces[face, 2]
        ux, uy, uz = vertices[j, 0] - vertices[i, 0], vertices[j, 1] - vertices[i, 1], vertices[j, 2] - vertices[i, 2]
        vx, vy, vz = vertices[k, 0] - vertices[i, 0], vertices[k, 1] - vertices[i, 1], vertices[k, 2] - vertices[i, 2]
        x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        double_area = np.sqrt(x * x + y * y + z * z)
        scale = 1.0 / max(double_area, 1e-300)
        normals[face, 0], normals[face, 1], normals[face, 2] = x * scale, y * scale, z * scale
        areas[face] = 0.5 * double_area


@numba.njit(cache=True, nogil=True, error_model="numpy")
def build_boxes(vertices, faces, first_face, shapes, offsets, low, high):
    """Bounding boxes of all nodes, level 0 = the cells; an empty node has low = inf, high = -inf.

    ``first_face`` [cells + 1]: cell i has the faces first_face[i] up to first_face[i + 1].
    """
    low[:], high[:] = np.inf, -np.inf
    for cell in range(len(first_face) - 1):
        for face in range(first_face[cell], first_face[cell + 1]):
            for corner in range(3):
                for axis in range(3):
                    value = vertices[faces[face, corner], axis]
                    low[cell, axis] = min(low[cell, axis], value)
                    high[cell, axis] = max(high[cell, axis], value)
    for level in range(1, len(shapes)):
        below, width_below = offsets[level - 1], shapes[level - 1, 1]
        for r in range(shapes[level - 1, 0]):
            for c in range(width_below):
                child, node = below + r * width_below + c, offsets[level] + r // 2 * shapes[level, 1] + c // 2
                for axis in range(3):
                    low[node, axis] = min(low[node, axis], low[child, axis])
                    high[node, axis] = max(high[node, axis], high[child, axis])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _box_distance(low, high, node, x, y, z):
    """Squared distance of a point to a box; infinite for an empty box."""
    dx = max(low[node, 0] - x, x - high[node, 0], 0.0)
    dy = max(low[node, 1] - y, y - high[node, 1], 0.0)
    dz = max(low[node, 2] - z, z - high[node, 2], 0.0)
    return dx * dx + dy * dy + dz * dz


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _triangle_distance(vertices, faces, face, x, y, z):
    """Squared distance of a point to a triangle (Ericson, "Real-Time Collision Detection", 2005, section 5.1.5)."""
    i, j, k = faces[face, 0], faces[face, 1], faces[face, 2]
    ax, ay, az = vertices[i, 0], vertices[i, 1], vertices[i, 2]
    ux, uy, uz = vertices[j, 0] - ax, vertices[j, 1] - ay, vertices[j, 2] - az  # edge ab
    vx, vy, vz = vertices[k, 0] - ax, vertices[k, 1] - ay, vertices[k, 2] - az  # edge ac
    px, py, pz = x - ax, y - ay, z - az
    d1, d2 = ux * px + uy * py + uz * pz, vx * px + vy * py + vz * pz
    uu, uv, vv = ux * ux + uy * uy + uz * uz, ux * vx + uy * vy + uz * vz, vx * vx + vy * vy + vz * vz
    d3, d4, d5, d6 = d1 - uu, d2 - uv, d1 - uv, d2 - vv  # the same products at b and at c
    s, t = 0.0, 0.0  # the closest point is a + s ab + t ac
    va, vb, vc = d3 * d6 - d5 * d4, d5 * d2 - d1 * d6, d1 * d4 - d3 * d2
    if d1 <= 0 and d2 <= 0:
        pass
    elif d3 >= 0 and d4 <= d3:
        s = 1.0
    elif d6 >= 0 and d5 <= d6:
        t = 1.0
    elif vc <= 0 and d1 >= 0 and d3 <= 0:
        s = d1 / (d1 - d3)
    elif vb <= 0 and d2 >= 0 and d6 <= 0:
        t = d2 / (d2 - d6)
    elif va <= 0 and d4 - d3 >= 0 and d5 - d6 >= 0:
        t = (d4 - d3) / ((d4 - d3) + (d5 - d6))
        s = 1.0 - t
    else:
        scale = 1.0 / (va + vb + vc)
        s, t = vb * scale, vc * scale
    qx, qy, qz = px - s * ux - t * vx, py - s * uy - t * vy, pz - s * uz - t * vz
    return qx * qx + qy * qy + qz * qz


@numba.njit(cache=True, nogil=True, error_model="numpy")
def closest_faces(points, vertices, faces, first_face, shapes, offsets, low, high, squared, closest):
    """Squared distance and index of the closest face for each point; at least one face must exist.

    The face found for one point bounds the search for the next, so points should follow each other in space.
    """
    stack_node = np.empty((_STACK, 3), dtype=np.int64)  # level, row, column
    stack_distance = np.empty(_STACK)
    near = np.empty(4)
    order = np.empty(4, dtype=np.int64)
    face = 0
    for i in range(len(points)):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        best = _triangle_distance(vertices, faces, face, x, y, z)
        top = 0
        stack_node[0, 0], stack_node[0, 1], stack_node[0, 2] = len(shapes) - 1, 0, 0
        stack_distance[0] = 0.0
        while top >= 0:
            level, r, c, distance = stack_node[top, 0], stack_node[top, 1], stack_node[top, 2], stack_distance[top]
            top -= 1
            if distance >= best:
                continue
            if level == 0:
                cell = r * shapes[0, 1] + c
                for candidate in range(first_face[cell], first_face[cell + 1]):
                    found = _triangle_distance(vertices, faces, candidate, x, y, z)
                    if found < best:
                        best, face = found, candidate
                continue
            rows, columns, offset = shapes[level - 1, 0], shapes[level - 1, 1], offsets[level - 1]
            count = 0
            for child in range(4):  # insertion sort, farthest first: the nearest child is taken next
                cr, cc = 2 * r + child // 2, 2 * c + child % 2
                if cr >= rows or cc >= columns:
                    continue
                value = _box_distance(low, high, offset + cr * columns + cc, x, y, z)
                if value >= best:
                    continue
                at = count
                while at > 0 and near[at - 1] < value:
                    near[at], order[at] = near[at - 1], order[at - 1]
                    at -= 1
                near[at], order[at] = value, child
                count += 1
            for at in range(count):
                top += 1
                stack_node[top, 0], stack_node[top, 1] = level - 1, 2 * r + order[at] // 2
                stack_node[top, 2], stack_distance[top] = 2 * c + order[at] % 2, near[at]
        squared[i], closest[i] = best, face
