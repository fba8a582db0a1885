"""Triangle surfaces: from meshes and depth grids, exact distances, area-uniform samples, visibility.

Distances to a general mesh come from libigl, visibility from Embree. Depth grids have a search tree of their own
(:mod:`splathead.metrics.grid_kernels`): indexing half a million triangles anew for every prediction would cost more than
everything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from splathead.cameras import Camera
from splathead.metrics.zones import bounding_box, check_depth

FLOAT32_HAIR = 1e-5
"""Relative distance within which two hits of a float32 ray are one."""


@dataclass(frozen=True)
class GridTree:
    """Quadtree of bounding boxes over the cells of a depth grid's triangles: built in one pass, exact queries."""

    vertices: np.ndarray  # [V, 3] float64
    faces: np.ndarray  # [F, 3] int32, in row-major order of cells
    first_face: np.ndarray  # [cells + 1] int64
    shapes: np.ndarray  # [L, 2] rows and columns of each level, level 0 = the cells
    offsets: np.ndarray  # [L + 1] first node of each level
    low: np.ndarray  # [nodes, 3]
    high: np.ndarray  # [nodes, 3]

    @classmethod
    def build(cls, vertices: np.ndarray, faces: np.ndarray, first_face: np.ndarray, shape: tuple[int, int]) -> GridTree:
        """Tree over the faces of ``grid_kernels.triangulate`` for a grid of ``shape`` cells."""
        from splathead.metrics import grid_kernels

        shapes = [shape]
        while shapes[-1] != (1, 1):
            shapes.append(((shapes[-1][0] + 1) // 2, (shapes[-1][1] + 1) // 2))
        sizes = np.array(shapes, dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(sizes.prod(axis=1))])
        low, high = np.empty((2, offsets[-1], 3))
        grid_kernels.build_boxes(vertices, faces, first_face, sizes, offsets, low, high)
        return cls(vertices, faces, first_face, sizes, offsets, low, high)

    def closest(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Squared distance [N] and closest face [N] of points [N, 3]."""
        from splathead.metrics import grid_kernels

        squared, face = np.empty(len(points)), np.empty(len(points), dtype=np.int64)
        tree = (self.vertices, self.faces, self.first_face, self.shapes, self.offsets, self.low, self.high)
        grid_kernels.closest_faces(points, *tree, squared, face)
        return squared, face


@dataclass(frozen=True)
class MeshTree:
    """libigl's tree over the triangles of any mesh."""

    vertices: np.ndarray  # [V, 3] float64
    faces: np.ndarray  # [F, 3] int64
    tree: object  # igl.AABB

    @classmethod
    def build(cls, vertices: np.ndarray, faces: np.ndarray) -> MeshTree:
        """Index a mesh with at least one face."""
        import igl

        tree = igl.AABB()
        tree.init(vertices, faces)
        return cls(vertices, faces, tree)

    def closest(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Squared distance [N] and closest face [N] of points [N, 3]."""
        squared, face, _ = self.tree.squared_distance(self.vertices, self.faces, points)
        return squared.ravel(), face.ravel()


@dataclass(frozen=True)
class Surface:
    """Triangles with their search tree; made once with :meth:`build` or :meth:`from_depth`, queried many times."""

    vertices: np.ndarray  # [V, 3] float64
    faces: np.ndarray  # [F, 3] integer
    face_normals: np.ndarray  # [F, 3] unit, zero for degenerate triangles
    face_areas: np.ndarray  # [F]
    tree: MeshTree | GridTree | None  # None without faces

    @classmethod
    def build(cls, vertices: np.ndarray, faces: np.ndarray) -> Surface:
        """Index a mesh of vertices [V, 3] and faces [F, 3]; F may be 0. NaN and indices out of range are errors."""
        vertices = np.ascontiguousarray(vertices, dtype=np.float64).reshape(-1, 3)
        faces = np.ascontiguousarray(faces, dtype=np.int64).reshape(-1, 3)
        if not np.isfinite(vertices).all():
            raise ValueError("mesh with NaN or infinite vertices")
        if len(faces) and (faces.min() < 0 or faces.max() >= len(vertices)):
            raise ValueError(f"mesh with face indices {faces.min()}..{faces.max()}, expected 0..{len(vertices) - 1}")
        tree = MeshTree.build(vertices, faces) if len(faces) else None
        return cls(vertices, faces, *_normals_and_areas(vertices, faces), tree)

    @classmethod
    def from_depth(
        cls, depth: np.ndarray, mask: np.ndarray, camera: Camera, jump: float, *, keep_lone: bool = False
    ) -> Surface:
        """Triangulate a depth grid.

        Each square of four pixels gives two triangles (split along the same diagonal everywhere); a triangle is
        kept when its three pixels are in ``mask`` and their depths span at most ``jump``. This is the one rule by
        which surfaces are cut at depth jumps.

        Args:
            depth: [H, W] z-depth.
            mask: [H, W] bool, not empty; ``depth`` must be positive there.
            camera: the view.
            jump: largest depth difference within a triangle, in the depth's unit.
            keep_lone: make a pixel that no triangle uses a triangle without area (a point of the surface).

        Returns:
            A surface with one vertex per mask pixel in row-major order (also where no triangle uses it) in the
            world, and faces in row-major order of pixels, facing the camera.
        """
        from splathead.metrics import grid_kernels

        check_depth(depth, "grid", (camera.height, camera.width))
        if mask.shape != depth.shape or not (depth[mask] > 0).all():
            raise ValueError(
                f"mask of shape {mask.shape} for depth of shape {depth.shape}, expected the same and depth > 0 inside"
            )
        if not mask.any():
            raise ValueError("empty mask: a depth grid without any pixel has no surface")
        box = bounding_box(mask)
        mask, depth, camera = mask[box], depth[box].astype(np.float64), camera.cropped(*box)
        index = np.full(mask.shape, -1, dtype=np.int32)
        index[mask] = np.arange(np.count_nonzero(mask), dtype=np.int32)
        faces, first_face = np.empty((2 * mask.size, 3), dtype=np.int32), np.empty(mask.size + 1, dtype=np.int64)
        faces = faces[: grid_kernels.triangulate(index, depth, jump, keep_lone, faces, first_face)]
        vertices = _unproject(depth, mask, camera)
        tree = GridTree.build(vertices, faces, first_face, mask.shape) if len(faces) else None
        return cls(vertices, faces, *_normals_and_areas(vertices, faces), tree)

    @property
    def diagonal(self) -> float:
        """Length of the bounding box's diagonal."""
        return float(np.linalg.norm(np.ptp(self.vertices, axis=0)))

    def closest(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Exact distance [N] of points [N, 3] to the triangles and the closest triangle's index [N].

        Points that follow each other in space are found faster. Without triangles the distance is infinite
        and the index -1.
        """
        if self.tree is None:
            return np.full(len(points), np.inf), np.full(len(points), -1, dtype=np.int64)
        if not len(points):
            return np.zeros(0), np.zeros(0, dtype=np.int64)
        squared, face = self.tree.closest(np.ascontiguousarray(points, dtype=np.float64))
        return np.sqrt(np.maximum(squared, 0.0)), face

    @cached_property
    def _ray_scene(self) -> tuple[object, object]:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        scene = EmbreeScene(robust=True)
        geometry = TriangleMesh(scene, self.vertices.astype(np.float32), self.faces.astype(np.int32))
        return scene, geometry  # the geometry must live as long as the scene

    def first_hit(self, origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First triangle [N] (-1: none) that rays [N, 3] from ``origin`` [3] meet, and where [N], in lengths of the ray."""
        single = np.ascontiguousarray(rays, dtype=np.float32)
        origins = np.ascontiguousarray(np.broadcast_to(origin.astype(np.float32), single.shape))
        hits = self._ray_scene[0].run(origins, single, output=True)
        return hits["primID"], hits["tfar"]

    def vertex_normals(self) -> np.ndarray:
        """Area-weighted unit normals of the vertices [V, 3]; zero for a vertex that no triangle uses."""
        weighted = self.face_normals * self.face_areas[:, None]
        normals = np.empty_like(self.vertices)
        for axis in range(3):
            repeated = np.repeat(weighted[:, axis], 3)
            normals[:, axis] = np.bincount(self.faces.ravel(), weights=repeated, minlength=len(self.vertices))
        return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-300)


def _unproject(depth: np.ndarray, mask: np.ndarray, camera: Camera) -> np.ndarray:
    """World points [V, 3] of the pixels in ``mask``, as :meth:`Camera.unproject` but for these only."""
    rows, columns = np.nonzero(mask)
    z = depth[rows, columns]
    points = np.empty((len(z), 3))
    points[:, 0] = (columns + 0.5 - camera.cx) / camera.fx * z - camera.translation[0]
    points[:, 1] = (rows + 0.5 - camera.cy) / camera.fy * z - camera.translation[1]
    points[:, 2] = z - camera.translation[2]
    return points @ camera.rotation


def _normals_and_areas(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit normals [F, 3] (zero where degenerate) and areas [F] of triangles."""
    from splathead.metrics import grid_kernels

    normals, areas = np.empty((len(faces), 3)), np.empty(len(faces))
    grid_kernels.face_geometry(vertices, faces, normals, areas)
    return normals, areas


def sample_surface(surface: Surface, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """``count`` area-uniform points [count, 3] on a surface and their faces [count].

    Stratified: point i lies at a random place of the i-th of ``count`` equal parts of the area, in face order.
    """
    total = float(surface.face_areas.sum())
    if not total > 0:
        raise ValueError(f"mesh with {len(surface.faces)} faces and area {total}, nothing to sample")
    rng = np.random.default_rng(seed)
    at = (np.arange(count) + rng.random(count)) / count
    edges = np.cumsum(surface.face_areas)
    faces = np.minimum(np.searchsorted(edges, at * edges[-1], side="right"), len(edges) - 1)
    u, v = rng.random((2, count))
    u, v = np.where(u + v > 1, (1 - u, 1 - v), (u, v))
    a, b, c = (surface.vertices[surface.faces[faces, corner]] for corner in range(3))
    return a + u[:, None] * (b - a) + v[:, None] * (c - a), faces


def pixel_of(points: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row and column [N] of the pixels that points [N, 3] project into, and whether they are in front and inside."""
    pixels, z = camera.project(points)
    with np.errstate(invalid="ignore"):
        column, row = np.floor(pixels[:, 0]), np.floor(pixels[:, 1])
    inside = (z > 0) & (column >= 0) & (row >= 0) & (column < camera.width) & (row < camera.height)
    return np.where(inside, row, 0).astype(np.int64), np.where(inside, column, 0).astype(np.int64), inside


def visible_points(surface: Surface, points: np.ndarray, faces: np.ndarray, camera: Camera, depth: np.ndarray) -> np.ndarray:
    """Which surface points a view sees: nothing of the surface lies before them, and the view's true map shows a surface.

    Args:
        surface: the whole true surface, which also occludes.
        points: [N, 3] points on it, in the world.
        faces: [N] the triangles that they lie on.
        camera: the view.
        depth: [H, W] true z-depth, 0 = no surface.

    Returns:
        [N] bool, exact (rays, not a comparison of depths, which fails where the surface is steep).
    """
    row, column, inside = pixel_of(points, camera)
    candidates = np.flatnonzero(inside & (depth[row, column] > 0))
    visible = np.zeros(len(points), dtype=bool)
    if not len(candidates):
        return visible
    hit_face, hit_at = surface.first_hit(camera.position, points[candidates] - camera.position)
    # the ray reaches the point at 1; a neighbouring triangle may be hit a float32 hair before its own, or none at an edge
    visible[candidates] = (hit_face == faces[candidates]) | (hit_at > 1 - FLOAT32_HAIR) | (hit_face < 0)
    return visible
