"""Surfaces whose depth, normals and mesh are known exactly, for the evaluator's tests."""

from __future__ import annotations

import numpy as np

from splathead.cameras import Camera, orbit_camera
from splathead.images import DepthEncoding

HEAD_AXES_MM = np.array([75.0, 110.0, 95.0])
"""Semi-axes of a head-sized ellipsoid around the origin."""


def plane_depth(camera: Camera, normal: tuple[float, float, float], distance: float) -> np.ndarray:
    """z-depth [H, W] float32 of the camera-frame plane normal . P = distance (unit normal away from the camera)."""
    return (distance / (camera.ray_directions() @ np.asarray(normal))).astype(np.float32)


def ellipsoid_depth(camera: Camera, axes: np.ndarray = HEAD_AXES_MM, *, back: bool = False) -> np.ndarray:
    """Exact z-depth [H, W] float32 of an ellipsoid around the origin, 0 where the ray misses; ``back``: its far side."""
    directions = camera.ray_directions() @ camera.rotation / axes  # space in which the ellipsoid is the unit sphere
    origin = camera.position / axes
    a, b, c = (directions**2).sum(-1), directions @ origin, origin @ origin - 1
    discriminant = b**2 - a * c
    z = (-b + np.where(back, 1, -1) * np.sqrt(np.maximum(discriminant, 0))) / a
    return np.where(discriminant > 0, z, 0).astype(np.float32)


def ellipsoid_normals(camera: Camera, depth: np.ndarray, axes: np.ndarray = HEAD_AXES_MM) -> np.ndarray:
    """Exact outward normals [H, W, 3] in camera axes at the points of ``depth``."""
    gradient = camera.unproject(depth) / axes**2
    normals = gradient @ camera.rotation.T
    return normals / np.linalg.norm(normals, axis=-1, keepdims=True)


def ellipsoid_mesh(subdivisions: int = 6, axes: np.ndarray = HEAD_AXES_MM) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [V, 3] and outward faces [F, 3] of the ellipsoid."""
    from trimesh.creation import icosphere

    sphere = icosphere(subdivisions=subdivisions)
    return np.asarray(sphere.vertices) * axes, np.asarray(sphere.faces)


def head_view(size: int = 256, yaw_deg: float = 20.0) -> tuple[Camera, np.ndarray]:
    """A camera on the rig and the head ellipsoid's depth."""
    camera = orbit_camera(yaw_deg, 5.0, size)
    return camera, ellipsoid_depth(camera)


def low_resolution_code(depth: np.ndarray, factor: int = 4, bits: int = 8) -> tuple[np.ndarray, DepthEncoding]:
    """Code [h, w] of the area mean of each cell that lies wholly on the surface, and its encoding."""
    h, w = depth.shape[0] // factor, depth.shape[1] // factor
    cells = depth.astype(np.float64).reshape(h, factor, w, factor)
    mask = (cells > 0).all(axis=(1, 3))
    mean = cells.mean(axis=(1, 3))
    encoding = DepthEncoding.from_depth(mean, mask, bits, "mm")
    return encoding.encode(mean, mask), encoding
