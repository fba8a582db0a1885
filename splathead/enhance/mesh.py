"""From enhanced views, or from one depth map, to the mesh that is handed out, and what is known of its holes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from splathead.enhance.options import EnhanceOptions
from splathead.enhance.views import EnhancedView
from splathead.fusion import FusedMesh, decimated, extract_surface, fuse_views, largest_component, vertex_colours
from splathead.images import DepthMap
from splathead.subjects.base import vertex_normals

VOXEL_MM = 0.8
"""Two pixels of the default views"""
TRUNCATION_VOXELS = 6.0
"""Views of one fit disagree by some millimetres; a narrower band would keep both surfaces"""
JUMP_MM = 4.0
COLOUR_TOLERANCE_VOXELS = 3.0


@dataclass(frozen=True)
class Holes:
    """Boundary loops of a mesh."""

    count: int
    largest: float
    """diagonal of the largest loop's bounding box, in the mesh's unit"""


def fused_mesh(views: Sequence[EnhancedView], options: EnhanceOptions, *, enhanced: bool) -> tuple[FusedMesh, list[str]]:
    """One coloured component out of the views' depth, and lines on what was dropped. ``enhanced`` False: raw depth."""
    observed = [view.depth_view(enhanced=enhanced) for view in views]
    volume = fuse_views(observed, voxel=VOXEL_MM, truncation_voxels=TRUNCATION_VOXELS, jump=JUMP_MM)
    surface = extract_surface(volume)
    head = largest_component(surface)
    dropped = len(surface.faces) - len(head.faces)
    lines = [f"detached pieces removed from the mesh: {dropped:,} of {len(surface.faces):,} faces"]
    if options.watertight and enhanced:
        from splathead.fusion.poisson import poisson_mesh

        head = largest_component(poisson_mesh(head.vertices, vertex_normals(head.vertices, head.faces)))
        lines.append("closed by screened Poisson reconstruction: what no view saw is made up")
    mesh = decimated(head, options.faces)
    mesh.colours = vertex_colours(mesh.vertices, observed, tolerance=COLOUR_TOLERANCE_VOXELS * volume.voxel, jump=JUMP_MM)
    return mesh, lines


def depth_mesh(depth_map: DepthMap, rgb: np.ndarray | None, jump: float, faces: int) -> FusedMesh:
    """The triangles of one depth map, in its camera's world with +Y up and +Z towards the camera; the largest piece only."""
    from splathead.metrics.surface import Surface

    surface = Surface.from_depth(depth_map.depth, depth_map.mask, depth_map.camera, jump)
    at_origin = np.allclose(depth_map.camera.world_to_cam, np.eye(4))
    vertices = surface.vertices * (1.0, -1.0, -1.0) if at_origin else surface.vertices
    mesh = largest_component(FusedMesh(np.float32(vertices), np.int32(surface.faces)))
    mesh = decimated(mesh, faces)
    if rgb is not None:
        pixels, _ = depth_map.camera.project(mesh.vertices * ((1.0, -1.0, -1.0) if at_origin else 1.0))
        height, width = depth_map.depth.shape
        columns, rows = (np.clip(pixels[:, axis].astype(int), 0, size - 1) for axis, size in ((0, width), (1, height)))
        mesh.colours = rgb[rows, columns]
    return mesh


def find_holes(mesh: FusedMesh) -> Holes:
    """Boundary loops: connected sets of edges that one triangle alone uses."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    edges = np.sort(np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]]), axis=1)
    found, uses = np.unique(edges, axis=0, return_counts=True)
    boundary = found[uses == 1]
    if not len(boundary):
        return Holes(0, 0.0)
    vertices, ends = np.unique(boundary, return_inverse=True)
    ends = ends.reshape(-1, 2)
    graph = coo_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(vertices), len(vertices)))
    count, label = connected_components(graph, directed=False)
    points = mesh.vertices[vertices].astype(np.float64)
    low, high = np.full((count, 3), np.inf), np.full((count, 3), -np.inf)
    np.minimum.at(low, label, points)
    np.maximum.at(high, label, points)
    return Holes(count, float(np.linalg.norm(high - low, axis=1).max()))
