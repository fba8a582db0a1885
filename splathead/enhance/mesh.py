"""From enhanced views, or from one depth map, to the mesh that is handed out, and what is known of its holes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from splathead.fusion import DepthView, FusedMesh, decimated, extract_surface, fuse_views, vertex_colours
from splathead.fusion.surface import large_components, largest_component, proper_faces
from splathead.images import DepthMap
from splathead.result_view.folder import unit_label
from splathead.result_view.report import small_mesh
from splathead.subjects.base import vertex_normals

VOXEL_MM = 0.8
"""Two pixels of the default views; where a pixel is larger, voxels have its size"""
TRUNCATION_VOXELS = 6.0
"""Views of one fit disagree by some millimetres; a narrower band would keep both surfaces"""
JUMP_MM, JUMP_PIXELS = 4.0, 4.5
"""Depth difference of neighbouring pixels that separates surfaces: the larger of both. Where pixels are large a slanted surface
would come apart otherwise"""
COLOUR_TOLERANCE_VOXELS = 3.0
"""A view colours a vertex that lies so near the depth it saw"""
SPECK_SHARE = 0.002
"""Pieces of the mesh of a single view with fewer of its faces are left out: an ear beside a cheek is a piece of its own"""
END_MM, STEEPEST = 60.0, 0.5
"""Boundary loops at least so wide, wider than high, in the lower third of a mesh are where the splats end, or a throat that no
view looked at; sine of the angle by which such a cut looks down at least"""
MOST_CUT = 0.01
"""Share of the faces of a closed mesh that its repair may cost without a word"""


@dataclass(frozen=True)
class Holes:
    """Boundary loops of a mesh."""

    count: int
    largest: float
    """diagonal of the largest loop's bounding box, in the mesh's unit"""


def fused_mesh(views: Sequence[DepthView], faces: int, *, watertight: bool = False) -> tuple[FusedMesh, list[str]]:
    """A coloured mesh of at most ``faces`` faces out of the views' depth, and lines on what was dropped.

    One component; of a single view, which does not see how its parts hang together, all but specks.
    """
    pixel = _pixel_size(views[0])
    jump = max(JUMP_MM, JUMP_PIXELS * pixel)
    volume = fuse_views(views, voxel=max(VOXEL_MM, pixel), truncation_voxels=TRUNCATION_VOXELS, jump=jump)
    surface = extract_surface(volume)
    head = largest_component(surface) if len(views) > 1 else large_components(surface, SPECK_SHARE)
    dropped = len(surface.faces) - len(head.faces)
    lines = [f"detached pieces removed from the mesh: {dropped:,} of {len(surface.faces):,} faces"]
    if watertight:
        from splathead.fusion.poisson import poisson_mesh

        points, normals = _flat_ends(head, max(VOXEL_MM, pixel))
        oriented = vertex_normals(head.vertices, head.faces)
        head = poisson_mesh(np.concatenate([head.vertices, points]), np.concatenate([oriented, normals]))
        head = capped(largest_component(head))
        unseen = f"none of the {len(views)} views saw" if len(views) > 1 else "the one view did not see"
        lines.append(f"NOTE: closed by screened Poisson reconstruction: what {unseen} is made up")
        if len(views) > 1 and not len(points):
            lines.append("NOTE: no rim of a neck was found to close flat: the mesh may bulge where the splats end")
    mesh = decimated(head, faces)
    if watertight:
        whole = closed(mesh)
        if len(whole.faces) < (1 - MOST_CUT) * len(mesh.faces):
            lines.append(f"NOTE: where the closed mesh touched itself a piece came off: {len(whole.faces):,} faces are left")
        mesh = whole
        if not is_watertight(mesh):
            lines.append("NOTE: the mesh could not be closed everywhere, or touches itself along an edge: it is not watertight")
    mesh.colours = vertex_colours(mesh.vertices, views, tolerance=COLOUR_TOLERANCE_VOXELS * volume.voxel, jump=jump)
    return mesh, lines


def _pixel_size(view: DepthView) -> float:
    """Side of a pixel on the surface, in the world's unit."""
    return float(np.median(view.depth[view.mask])) / view.camera.fx


def mesh_before(views: Sequence[DepthView], faces: int) -> tuple[FusedMesh, FusedMesh]:
    """:func:`fused_mesh` of raw depth, and that mesh as the report shows it: what another process makes in one go."""
    mesh, _ = fused_mesh(views, faces)
    return mesh, small_mesh(mesh)


def depth_mesh(depth_map: DepthMap, rgb: np.ndarray | None, jump: float, faces: int) -> FusedMesh:
    """The triangles of one depth map, in its camera's world with +Y up and +Z towards the camera, without specks.

    A chin hides where the neck begins: it is a piece of its own. ValueError where no three pixels belong together.
    """
    from splathead.metrics.surface import Surface

    surface = Surface.from_depth(depth_map.depth, depth_map.mask, depth_map.camera, jump)
    if not len(surface.faces):
        raise ValueError(
            "no surface to mesh: nowhere does the depth of three neighbouring pixels differ by at most "
            f"{jump:.3g} {unit_label(depth_map.encoding.unit)}; are its numbers depth, and is --scale_mm right?"
        )
    at_origin = np.allclose(depth_map.camera.world_to_cam, np.eye(4))
    axes = np.array([1.0, -1.0, -1.0]) if at_origin else 1.0  # a camera of the user's has no place in the world: y is down
    mesh = large_components(FusedMesh(np.float32(surface.vertices * axes), np.int32(surface.faces)), SPECK_SHARE)
    mesh = decimated(mesh, faces)
    if rgb is not None:
        pixels, _ = depth_map.camera.project(mesh.vertices * axes)
        height, width = depth_map.depth.shape
        columns, rows = (np.clip(pixels[:, axis].astype(int), 0, size - 1) for axis, size in ((0, width), (1, height)))
        mesh.colours = rgb[rows, columns]
    return mesh


def is_watertight(mesh: FusedMesh) -> bool:
    """Whether each edge belongs to two triangles: no holes, and nowhere does the surface touch itself along an edge."""
    return bool((_edge_uses(mesh) == 2).all())


def closed(mesh: FusedMesh, attempts: int = 4) -> FusedMesh:
    """The largest piece of a mesh, watertight: triangles around edges that more than two share are cut out, holes capped.

    Poisson and edge collapse leave a few such edges, and vertices in one place, which other programs merge, where two sheets
    meet. ``attempts``: a cap can make new ones. A mesh that nothing would be left of stays as it is.
    """
    mesh = _welded(mesh)
    for _ in range(attempts):
        uses = _edge_uses(mesh)
        if (uses == 2).all():
            break
        around = np.isin(mesh.faces, _directed_edges(mesh)[uses > 2]).any(axis=1)
        if around.all():
            break
        mesh = capped(largest_component(FusedMesh(mesh.vertices, mesh.faces[~around])))
    return mesh


def find_holes(mesh: FusedMesh) -> Holes:
    """Boundary loops of a mesh: how many, and how large."""
    edges, label, vertices = _boundary(mesh)
    if not len(edges):
        return Holes(0, 0.0)
    points, count = mesh.vertices[vertices].astype(np.float64), int(label.max()) + 1
    low, high = np.full((count, 3), np.inf), np.full((count, 3), -np.inf)
    np.minimum.at(low, label, points)
    np.maximum.at(high, label, points)
    return Holes(count, float(np.linalg.norm(high - low, axis=1).max()))


def _flat_ends(mesh: FusedMesh, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Points [N, 3] about ``spacing`` apart, and outward normals, on flat cuts where the splats end (``END_MM``).

    Without them a closing surface bulges out of a neck by a centimetre.
    """
    import trimesh

    edges, label, vertices = _boundary(mesh)
    lowest = mesh.vertices[:, 1].min() + np.ptp(mesh.vertices[:, 1]) / 3
    points, normals = [np.zeros((0, 3))], [np.zeros((0, 3))]
    for loop in range(int(label.max(initial=-1)) + 1):
        rim = mesh.vertices[vertices[label == loop]]
        width, height, depth = np.ptp(rim, axis=0)
        if max(width, depth) < max(END_MM, height) or rim[:, 1].mean() > lowest:
            continue
        cut = trimesh.Trimesh(*_fans(mesh, edges, label, vertices, [loop]), process=False)
        outward = cut.triangles_cross.sum(axis=0)  # one direction for all: the rim may be ragged
        if outward[1] < -STEEPEST * np.linalg.norm(outward):
            points.append(trimesh.sample.sample_surface(cut, max(1, round(cut.area / spacing**2)), seed=0)[0])
            normals.append(np.broadcast_to(outward / np.linalg.norm(outward), points[-1].shape))
    return np.concatenate(points), np.concatenate(normals)


def capped(mesh: FusedMesh) -> FusedMesh:
    """Every boundary loop closed by a fan of triangles around its middle: where a closing surface left its domain."""
    edges, label, vertices = _boundary(mesh)
    if not len(edges):
        return mesh
    points, fans = _fans(mesh, edges, label, vertices, range(int(label.max()) + 1))
    return FusedMesh(np.float32(points), np.int32(np.concatenate([mesh.faces, fans])))


def _fans(
    mesh: FusedMesh, edges: np.ndarray, label: np.ndarray, vertices: np.ndarray, loops: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """The V vertices and one more in the middle of each of L boundary loops [V + L, 3], and triangles around those of ``loops``
    [T, 3]."""
    count = int(label.max()) + 1
    middles = np.stack([np.bincount(label, mesh.vertices[vertices, axis], count) for axis in range(3)], axis=1)
    middles /= np.bincount(label, minlength=count)[:, None]
    loop_of = np.zeros(len(mesh.vertices), dtype=np.int64)
    loop_of[vertices] = label
    fans = np.stack([edges[:, 1], edges[:, 0], len(mesh.vertices) + loop_of[edges[:, 0]]], axis=1)
    return np.concatenate([mesh.vertices, middles]), fans[np.isin(loop_of[edges[:, 0]], loops)]


def _boundary(mesh: FusedMesh) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Directed edges [E, 2] that one triangle alone uses, and for each of their vertices [B] the loop [B] it belongs to."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    edges = _directed_edges(mesh)[_edge_uses(mesh) == 1]
    vertices, ends = np.unique(edges, return_inverse=True)
    ends = ends.reshape(-1, 2)
    graph = coo_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(vertices), len(vertices)))
    label = connected_components(graph, directed=False)[1] if len(edges) else np.zeros(0, dtype=np.int64)
    return edges, label, vertices


def _welded(mesh: FusedMesh) -> FusedMesh:
    """The mesh with one vertex at each place."""
    points, place = np.unique(mesh.vertices, axis=0, return_inverse=True)
    if len(points) == len(mesh.vertices):
        return mesh
    return FusedMesh(points, proper_faces(place.reshape(-1)[mesh.faces].astype(np.int32)))


def _directed_edges(mesh: FusedMesh) -> np.ndarray:
    """[3F, 2]: the first, second and third edges of all faces."""
    return np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])


def _edge_uses(mesh: FusedMesh) -> np.ndarray:
    """How many faces have the edge, in either direction, for each of the directed edges [3F]."""
    ends = np.sort(_directed_edges(mesh).astype(np.int64), axis=1)
    _, place, uses = np.unique(ends[:, 0] * len(mesh.vertices) + ends[:, 1], return_inverse=True, return_counts=True)
    return uses[place]
