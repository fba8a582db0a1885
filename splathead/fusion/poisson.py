"""Screened Poisson reconstruction (Kazhdan & Hoppe, ACM TOG 2013) by open3d: a closed surface through oriented points."""

from __future__ import annotations

import contextlib
import ctypes

import numpy as np

from splathead.fusion.surface import FusedMesh
from splathead.gaussians import Gaussians

SOLID_OPACITY = 0.5
"""Gaussians below this opacity are haze, not surface"""
DEPTH = 9
"""Levels of the octree: cells of 1/512 of the bounding box's longest side"""
DOMAIN = 1.3
"""Side of the octree over that of the points' bounding box: room for the surface that closes an open one"""
TRIMMED_SHARE = 0.02
"""Share of the vertices, those farthest from any point, that is cut off a surface of Gaussian centres"""


def poisson_mesh(points: np.ndarray, normals: np.ndarray, *, depth: int = DEPTH, trimmed_share: float = 0.0) -> FusedMesh:
    """Surface through points [N, 3] with outward normals [N, 3].

    ``trimmed_share`` 0 keeps it closed; otherwise that share of its vertices, where points are rarest, is removed. One
    thread: the same bytes every time. Raises RuntimeError where open3d cannot be loaded, ValueError for too few points.
    """
    if len(points) < 100 or points.shape != normals.shape:
        raise ValueError(f"Poisson of {len(points)} points and {len(normals)} normals, expected as many, at least 100")
    open3d = load_open3d()
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(np.asarray(points, dtype=np.float64)))
    cloud.normals = open3d.utility.Vector3dVector(np.asarray(normals, dtype=np.float64))
    mesh, density = open3d.geometry.TriangleMesh.create_from_point_cloud_poisson(
        cloud, depth=depth, scale=DOMAIN, n_threads=1
    )
    if trimmed_share:
        mesh.remove_vertices_by_mask(np.asarray(density) < np.quantile(density, trimmed_share))
    return FusedMesh(np.asarray(mesh.vertices, dtype=np.float32), np.asarray(mesh.triangles, dtype=np.int32))


def poisson_of_gaussians(gaussians: Gaussians) -> FusedMesh:
    """Surface through the centres of the solid Gaussians, oriented by their shortest axes away from the head's middle."""
    solid = gaussians.opacities > SOLID_OPACITY
    chosen = gaussians.select(solid)
    middle = chosen.means.median(dim=0).values
    outward = -chosen.shortest_axis_normals(middle)
    return poisson_mesh(chosen.means.double().numpy(), outward.double().numpy(), trimmed_share=TRIMMED_SHARE)


def load_open3d():
    """The package open3d; RuntimeError that says what is missing where it cannot be loaded."""
    with contextlib.suppress(ImportError, OSError):  # a bare system lacks libusb; this package brings it
        import libusb_package

        ctypes.CDLL(str(libusb_package.get_library_path()), mode=ctypes.RTLD_GLOBAL)
    try:
        import open3d
    except (ImportError, OSError) as error:
        raise RuntimeError(
            f"Poisson reconstruction needs open3d, which cannot be loaded here ({error}); pip install open3d, and on a bare "
            "Debian or Ubuntu: apt install libgl1 libegl1 libgomp1 libusb-1.0-0 libx11-6"
        ) from error
    return open3d
