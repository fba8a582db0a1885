"""From a signed distance volume to a mesh that other programs open: marching cubes, clean-up, decimation, colours."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from splathead.fusion.tsdf import DepthView, TsdfVolume, intrinsics_vector, observation_map
from splathead.threads import thread_map

DECIMATION_PASSES = 6


@dataclass
class FusedMesh:
    """A triangle mesh in world units (pipeline: mm, +Y up, +Z out of the face)."""

    vertices: np.ndarray  # [V, 3] float32
    faces: np.ndarray  # [F, 3] int32, counter-clockwise seen from outside
    colours: np.ndarray | None = None  # [V, 3] uint8 sRGB


def extract_surface(volume: TsdfVolume) -> FusedMesh:
    """Marching cubes (Lewiner et al. 2003, skimage) at distance 0 over fully observed cells."""
    from skimage.measure import marching_cubes

    from splathead.fusion import kernels

    cells = np.zeros(volume.distance.shape, dtype=np.bool_)
    with kernels.ONE_AT_A_TIME:
        kernels.mark_cells(cells, volume.distance, volume.weight, volume.blocks, volume.truncation)
    try:
        vertices, faces, _, _ = marching_cubes(volume.distance, 0.0, allow_degenerate=False, mask=cells)
    except (RuntimeError, ValueError) as error:
        blocks = f"{len(volume.blocks)} blocks of voxels of {volume.voxel:.3g}"
        raise ValueError(f"fusion found no surface in {blocks}: {error}") from error
    world = volume.origin + volume.voxel * vertices.astype(np.float64)
    return FusedMesh(world.astype(np.float32), np.ascontiguousarray(faces, dtype=np.int32))


def largest_component(mesh: FusedMesh) -> FusedMesh:
    """The connected component with most faces, without unused vertices."""
    component = _components(mesh)
    return _compacted(mesh.vertices, mesh.faces[component == np.bincount(component).argmax()])


def large_components(mesh: FusedMesh, min_share: float) -> FusedMesh:
    """The connected components that have at least ``min_share`` of the mesh's faces each, or the largest one."""
    component = _components(mesh)
    counts = np.bincount(component)
    return _compacted(mesh.vertices, mesh.faces[counts[component] >= min(min_share * len(mesh.faces), counts.max())])


def _components(mesh: FusedMesh) -> np.ndarray:
    """Number of the connected component of each face [F]."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    count = len(mesh.vertices)
    rows, columns = mesh.faces[:, [0, 1]].T.ravel(), mesh.faces[:, [1, 2]].T.ravel()
    graph = coo_matrix((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(count, count))
    _, label = connected_components(graph, directed=False)
    return label[mesh.faces[:, 0]]


def decimated(mesh: FusedMesh, target_faces: int) -> FusedMesh:
    """At most ``target_faces`` triangles by quadric edge collapse (Garland & Heckbert 1997, fast-simplification)."""
    import fast_simplification

    if target_faces < 4:
        raise ValueError(f"target_faces {target_faces}, expected at least 4")
    vertices, faces = mesh.vertices, mesh.faces
    for attempt in range(DECIMATION_PASSES):  # one pass may stop short; later ones collapse more eagerly
        if len(faces) <= target_faces:
            break
        vertices, faces = fast_simplification.simplify(vertices, faces, target_count=target_faces, agg=7.0 + 2 * attempt)
    if len(faces) > target_faces:
        raise ValueError(f"decimation stopped at {len(faces)} faces, expected at most {target_faces}; raise target_faces")
    return _compacted(np.asarray(vertices, dtype=np.float32), proper_faces(faces))


def proper_faces(faces: np.ndarray) -> np.ndarray:
    """Those of the faces [F, 3] that have three different vertices."""
    return faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])]


def vertex_colours(vertices: np.ndarray, views: Sequence[DepthView], *, tolerance: float, jump: float) -> np.ndarray:
    """Colours [V, 3] uint8 of vertices [V, 3] from the views that see them within ``tolerance`` of their depth.

    A vertex that no view sees takes the colour of the nearest one that is seen; an error when none is.
    """
    from scipy.spatial import cKDTree

    from splathead.fusion import kernels

    sums, totals = np.zeros((len(vertices), 3)), np.zeros(len(vertices))
    points = np.ascontiguousarray(vertices, dtype=np.float64)
    views = [view.cropped() for view in views]
    for view in views:
        if view.rgb is None:
            raise ValueError(f"view {view.camera.name!r}: no rgb to colour the mesh with")
    maps = thread_map(functools.partial(observation_map, jump=jump), views)
    with kernels.ONE_AT_A_TIME:
        for view, observed in zip(views, maps):
            projection = intrinsics_vector(view.camera), view.camera.world_to_cam
            kernels.add_colours(sums, totals, points, tolerance, observed, view.rgb, *projection)
    seen = totals > 0
    if not seen.any():
        raise ValueError(f"none of {len(vertices)} vertices lies within {tolerance:.3g} of a view's depth")
    colours = np.zeros((len(vertices), 3))
    colours[seen] = sums[seen] / totals[seen, None]
    if not seen.all():
        colours[~seen] = colours[seen][cKDTree(points[seen]).query(points[~seen])[1]]
    return np.clip(np.rint(colours), 0, 255).astype(np.uint8)


def _compacted(vertices: np.ndarray, faces: np.ndarray) -> FusedMesh:
    used = np.zeros(len(vertices), dtype=bool)
    used[faces] = True
    index = np.cumsum(used) - 1
    return FusedMesh(np.ascontiguousarray(vertices[used]), np.ascontiguousarray(index[faces], dtype=np.int32))
