"""Compiled loops over triangles and ray hits (numba, single-threaded: subjects run in parallel processes)."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def sum_face_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Sum of the area-weighted normals of each vertex's faces, [V, 3] float64."""
    total = np.zeros((len(vertices), 3))
    for f in range(len(faces)):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        a0, a1, a2 = float(vertices[i, 0]), float(vertices[i, 1]), float(vertices[i, 2])
        ux, uy, uz = vertices[j, 0] - a0, vertices[j, 1] - a1, vertices[j, 2] - a2
        vx, vy, vz = vertices[k, 0] - a0, vertices[k, 1] - a1, vertices[k, 2] - a2
        x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for corner in (i, j, k):
            total[corner, 0] += x
            total[corner, 1] += y
            total[corner, 2] += z
    return total


@numba.njit(cache=True, nogil=True)
def window_directions(
    rows: tuple[int, int], columns: tuple[int, int], intrinsics: np.ndarray, rotation: np.ndarray
) -> np.ndarray:
    """World directions [N, 3] float64 of the pixel centres in rows and columns [start, stop), camera z scaled to 1.

    ``intrinsics`` are fx, fy, cx, cy; ``rotation`` is world to camera.
    """
    width = columns[1] - columns[0]
    directions = np.empty(((rows[1] - rows[0]) * width, 3))
    for row in range(rows[0], rows[1]):
        y = (row + 0.5 - intrinsics[3]) / intrinsics[1]
        for column in range(columns[0], columns[1]):
            x = (column + 0.5 - intrinsics[2]) / intrinsics[0]
            n = (row - rows[0]) * width + column - columns[0]
            for axis in range(3):
                directions[n, axis] = x * rotation[0, axis] + y * rotation[1, axis] + rotation[2, axis]
    return directions


@numba.njit(cache=True, nogil=True)
def intersect_planes(
    vertices: np.ndarray, faces: np.ndarray, triangles: np.ndarray, origin: np.ndarray, directions: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Moeller & Trumbore (1997) in float64 for rays [N, 3] whose triangle [N] is known.

    Returns distances along ``directions`` [N], barycentric coordinates [N, 3] and facing [N] (+1 outside seen, -1
    inside). Coordinates of a ray that grazes an edge are clamped to the triangle, and its distance from there.
    """
    count = len(triangles)
    distance, barycentric, facing = np.empty(count), np.empty((count, 3)), np.empty(count)
    for n in range(count):
        corner = faces[triangles[n]]
        a0, a1, a2 = float(vertices[corner[0], 0]), float(vertices[corner[0], 1]), float(vertices[corner[0], 2])
        e0, e1, e2 = vertices[corner[1], 0] - a0, vertices[corner[1], 1] - a1, vertices[corner[1], 2] - a2
        g0, g1, g2 = vertices[corner[2], 0] - a0, vertices[corner[2], 1] - a1, vertices[corner[2], 2] - a2
        d0, d1, d2 = directions[n, 0], directions[n, 1], directions[n, 2]
        p0, p1, p2 = d1 * g2 - d2 * g1, d2 * g0 - d0 * g2, d0 * g1 - d1 * g0
        determinant = e0 * p0 + e1 * p1 + e2 * p2
        inverse = 1.0 / (determinant if determinant != 0 else 1e-300)
        o0, o1, o2 = origin[0] - a0, origin[1] - a1, origin[2] - a2
        q0, q1, q2 = o1 * e2 - o2 * e1, o2 * e0 - o0 * e2, o0 * e1 - o1 * e0
        u = min(max((o0 * p0 + o1 * p1 + o2 * p2) * inverse, 0.0), 1.0)
        v = min(max((d0 * q0 + d1 * q1 + d2 * q2) * inverse, 0.0), 1.0 - u)
        barycentric[n, 0], barycentric[n, 1], barycentric[n, 2] = 1.0 - u - v, u, v
        h0, h1, h2 = u * e0 + v * g0 - o0, u * e1 + v * g1 - o1, u * e2 + v * g2 - o2
        distance[n] = (h0 * d0 + h1 * d1 + h2 * d2) / (d0 * d0 + d1 * d1 + d2 * d2)
        facing[n] = 1.0 if determinant >= 0 else -1.0
    return distance, barycentric, facing


@numba.njit(cache=True, nogil=True)
def interpolate(values: np.ndarray, faces: np.ndarray, triangles: np.ndarray, barycentric: np.ndarray) -> np.ndarray:
    """Barycentric interpolation of vertex ``values`` [V, 3] at hits, [N, 3] float32."""
    result = np.empty((len(triangles), 3), dtype=np.float32)
    for n in range(len(triangles)):
        i, j, k = faces[triangles[n], 0], faces[triangles[n], 1], faces[triangles[n], 2]
        a, b, c = barycentric[n, 0], barycentric[n, 1], barycentric[n, 2]
        for axis in range(3):
            result[n, axis] = a * values[i, axis] + b * values[j, axis] + c * values[k, axis]
    return result


@numba.njit(cache=True, nogil=True)
def unit_normals(
    vertex_normals: np.ndarray, faces: np.ndarray, triangles: np.ndarray, barycentric: np.ndarray, facing: np.ndarray
) -> np.ndarray:
    """Interpolated vertex normals at hits, of the side that is seen, unit length, [N, 3] float32 (0 where undefined)."""
    result = np.empty((len(triangles), 3), dtype=np.float32)
    for n in range(len(triangles)):
        i, j, k = faces[triangles[n], 0], faces[triangles[n], 1], faces[triangles[n], 2]
        a, b, c = barycentric[n, 0], barycentric[n, 1], barycentric[n, 2]
        x = a * vertex_normals[i, 0] + b * vertex_normals[j, 0] + c * vertex_normals[k, 0]
        y = a * vertex_normals[i, 1] + b * vertex_normals[j, 1] + c * vertex_normals[k, 1]
        z = a * vertex_normals[i, 2] + b * vertex_normals[j, 2] + c * vertex_normals[k, 2]
        length = np.sqrt(x * x + y * y + z * z)
        scale = facing[n] / length if length > 0 else 0.0
        result[n, 0], result[n, 1], result[n, 2] = x * scale, y * scale, z * scale
    return result


@numba.njit(cache=True, nogil=True)
def face_normals(vertices: np.ndarray, faces: np.ndarray, triangles: np.ndarray, facing: np.ndarray) -> np.ndarray:
    """Normals of the hit triangles, of the side that is seen, unit length, [N, 3] float32 (0 where degenerate)."""
    result = np.empty((len(triangles), 3), dtype=np.float32)
    for n in range(len(triangles)):
        i, j, k = faces[triangles[n], 0], faces[triangles[n], 1], faces[triangles[n], 2]
        a0, a1, a2 = float(vertices[i, 0]), float(vertices[i, 1]), float(vertices[i, 2])
        ux, uy, uz = vertices[j, 0] - a0, vertices[j, 1] - a1, vertices[j, 2] - a2
        vx, vy, vz = vertices[k, 0] - a0, vertices[k, 1] - a1, vertices[k, 2] - a2
        x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        length = np.sqrt(x * x + y * y + z * z)
        scale = facing[n] / length if length > 0 else 0.0
        result[n, 0], result[n, 1], result[n, 2] = x * scale, y * scale, z * scale
    return result


@numba.njit(cache=True, nogil=True)
def rotate(vectors: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """``rotation`` [3, 3] applied to each of ``vectors`` [N, 3] (a matrix product this thin is slower through BLAS)."""
    result = np.empty_like(vectors)
    for n in range(len(vectors)):
        for axis in range(3):
            result[n, axis] = (
                rotation[axis, 0] * vectors[n, 0] + rotation[axis, 1] * vectors[n, 1] + rotation[axis, 2] * vectors[n, 2]
            )
    return result


@numba.njit(cache=True, nogil=True)
def lambert(normals: np.ndarray, ambient: float, directions: np.ndarray, intensities: np.ndarray) -> np.ndarray:
    """ambient + sum over lights of intensity * max(normal . direction, 0), [N] float32."""
    result = np.empty(len(normals), dtype=np.float32)
    for n in range(len(normals)):
        total = ambient
        for light in range(len(intensities)):
            x, y, z = directions[light, 0], directions[light, 1], directions[light, 2]
            total += intensities[light] * max(normals[n, 0] * x + normals[n, 1] * y + normals[n, 2] * z, 0.0)
        result[n] = total
    return result
