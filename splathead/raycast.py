"""Mesh to true depth, normals and shaded RGBA by ray casting (embreex: Embree 4).

Embree finds which triangle each pixel's ray meets; z-depth and barycentric coordinates are then computed
again from that triangle's plane in float64, so depth is exact to float32 rounding. Conventions are those of
``splathead.cameras``.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from splathead.cameras import Camera
from splathead.subjects.base import HeadMesh

MIN_DEPTH_MM = 1e-3
"""surfaces nearer than this to the camera plane count as not visible"""


@dataclass(frozen=True)
class Lighting:
    """Ambient plus directional Lambert lights, fixed in the world so that every view of a head agrees."""

    ambient: float
    directions: np.ndarray  # [L, 3] unit vectors towards the lights, world axes
    intensities: np.ndarray  # [L]

    @classmethod
    def sample(cls, seed: int) -> Lighting:
        """A key light from above the face, a fill light and a light from behind, all varied by ``seed``."""
        rng = np.random.default_rng([seed, 0x11647])
        means = np.array([[0.5 * rng.choice([-1.0, 1.0]), 0.6, 1.0], [0.0, 0.2, 1.0], [0.0, 0.5, -1.0]])
        directions = means + rng.normal(0.0, 0.25, (3, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        intensities = rng.uniform([0.32, 0.08, 0.10], [0.48, 0.18, 0.28])
        return cls(float(rng.uniform(0.45, 0.55)), directions, intensities)

    def shade(self, normals_world: np.ndarray) -> np.ndarray:
        """Irradiance [N] at unit world normals [N, 3]: ambient + sum_l intensity_l * max(n . l, 0)."""
        cosines = np.maximum(normals_world @ self.directions.T.astype(normals_world.dtype), 0)
        return self.ambient + cosines @ self.intensities.astype(normals_world.dtype)


@dataclass(frozen=True)
class RayHits:
    """The N pixels of one view that see the mesh."""

    camera: Camera
    mesh: HeadMesh
    pixels: np.ndarray  # [N] flat row-major pixel indices
    triangles: np.ndarray  # [N] face indices
    barycentric: np.ndarray  # [N, 3] float64 weights of the face's corners
    depth: np.ndarray  # [N] float64 z-depth, mm
    facing: np.ndarray  # [N] +1 where the face's outside is seen, -1 where its inside is

    def to_map(self, values: np.ndarray, dtype: np.dtype | type | None = None) -> np.ndarray:
        """Scatter per-hit values [N] or [N, C] to an image [H, W] or [H, W, C] with 0 where nothing was hit."""
        dtype = values.dtype if dtype is None else dtype
        image = np.zeros((self.camera.height * self.camera.width, *values.shape[1:]), dtype=dtype)
        image[self.pixels] = values
        return image.reshape(self.camera.height, self.camera.width, *values.shape[1:])

    def points_world(self) -> np.ndarray:
        """Where the rays meet the surface [N, 3], world mm."""
        rays = self.camera.ray_directions().reshape(-1, 3)[self.pixels]
        return (rays * self.depth[:, None] - self.camera.translation) @ self.camera.rotation

    @property
    def mask(self) -> np.ndarray:
        """[H, W] bool: the pixel's centre sees the mesh."""
        return self.to_map(np.ones(len(self.pixels), dtype=bool))

    @property
    def depth_map(self) -> np.ndarray:
        """True z-depth [H, W] float32 in mm; 0 = no surface."""
        return self.to_map(self.depth, np.float32)

    def interpolate(self, vertex_values: np.ndarray) -> np.ndarray:
        """Barycentric interpolation of vertex values [V, C] at the hits, [N, C] float32."""
        corners = self.mesh.faces[self.triangles]
        weights = self.barycentric.astype(np.float32)
        result = vertex_values[corners[:, 0]] * weights[:, :1]
        result += vertex_values[corners[:, 1]] * weights[:, 1:2]
        result += vertex_values[corners[:, 2]] * weights[:, 2:]
        return result

    def normals_world(self, smooth: bool = True) -> np.ndarray:
        """Unit normals [N, 3] float32 in world axes, of the side that is seen: interpolated, or the triangles' own."""
        if smooth:
            normals = self.interpolate(self.mesh.vertex_normals)
        else:
            a, b, c = (self.mesh.vertices[self.mesh.faces[self.triangles, k]].astype(np.float64) for k in range(3))
            normals = np.cross(b - a, c - a)
        length = np.linalg.norm(normals, axis=1)
        scale = self.facing / np.where(length > 0, length, 1)
        return (normals * scale[:, None]).astype(np.float32)

    def normal_map(self, smooth: bool = True) -> np.ndarray:
        """Unit normals [H, W, 3] float32 in camera axes (x right, y down, z forward); 0 = no surface."""
        return self.to_map(self.normals_world(smooth) @ self.camera.rotation.T.astype(np.float32))

    def albedo(self) -> np.ndarray:
        """Surface colour [N, 3] float32 in [0, 1]: the texture where the mesh has one, else vertex colours."""
        if self.mesh.texture is None:
            return self.interpolate(self.mesh.colours)
        uv = (self.mesh.face_uv[self.triangles] * self.barycentric[:, :, None]).sum(1)
        return sample_texture(self.mesh.texture, uv)


class RayCaster:
    """An Embree scene of one mesh; build once, cast many views. Not picklable: build it in the worker."""

    def __init__(self, mesh: HeadMesh) -> None:
        try:
            from embreex.mesh_construction import TriangleMesh
            from embreex.rtcore_scene import EmbreeScene
        except ImportError as error:
            raise ImportError(f"ray casting needs the package embreex: pip install embreex ({error})") from error
        self.mesh = mesh
        self._scene = EmbreeScene(robust=True)  # robust: no ray slips through an edge shared by two triangles
        vertices = np.ascontiguousarray(mesh.vertices, dtype=np.float32)
        self._geometry = TriangleMesh(self._scene, vertices, np.ascontiguousarray(mesh.faces, dtype=np.int32))
        lower, upper = mesh.vertices.min(0), mesh.vertices.max(0)
        self._corners = np.array(list(itertools.product(*zip(lower, upper))), dtype=np.float64)

    @cached_property
    def _face_corners(self) -> np.ndarray:
        """[F, 9] float32: one gather per hit instead of four."""
        return self.mesh.vertices[self.mesh.faces].reshape(-1, 9)

    def cast(self, camera: Camera) -> RayHits:
        """Cast one ray through each pixel centre of ``camera``; the nearest hits, either side of a triangle."""
        rows, columns = self._window(camera)
        x = (np.arange(columns.start, columns.stop) + 0.5 - camera.cx) / camera.fx
        y = (np.arange(rows.start, rows.stop) + 0.5 - camera.cy) / camera.fy
        # direction of pixel (v, u) in the world, scaled so that its camera z is 1: hit distance = z-depth
        right, down, forward = camera.rotation
        directions = (y[:, None, None] * down + forward) + x[None, :, None] * right
        directions = directions.reshape(-1, 3)
        single = directions.astype(np.float32)
        origins = np.broadcast_to(camera.position.astype(np.float32), single.shape)
        triangles = self._scene.run(np.ascontiguousarray(origins), single)
        hit = np.flatnonzero(triangles >= 0)
        triangles = triangles[hit]
        points, barycentric, facing = self._solve_planes(camera.position, directions[hit], triangles)
        depth = points @ forward
        width = max(columns.stop - columns.start, 1)
        pixels = (hit // width + rows.start) * camera.width + hit % width + columns.start
        kept = depth > MIN_DEPTH_MM
        return RayHits(camera, self.mesh, *(a[kept] for a in (pixels, triangles, barycentric, depth, facing)))

    def _window(self, camera: Camera) -> tuple[slice, slice]:
        """Rows and columns that the mesh's bounding box can cover (all, if it reaches behind the camera)."""
        pixels, z = camera.project(self._corners)
        if z.min() <= MIN_DEPTH_MM:
            return slice(0, camera.height), slice(0, camera.width)
        first = np.clip(np.floor(pixels.min(0)).astype(int), 0, (camera.width, camera.height))
        last = np.clip(np.ceil(pixels.max(0)).astype(int), first, (camera.width, camera.height))
        return slice(first[1], last[1]), slice(first[0], last[0])

    def _solve_planes(
        self, origin: np.ndarray, directions: np.ndarray, triangles: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Moeller & Trumbore (1997) in float64 for rays [N, 3] whose triangle [N] is known.

        Returns points relative to ``origin`` [N, 3], barycentric coordinates [N, 3] and facing [N]. Where
        Embree's float32 test let a ray graze an edge, coordinates are clamped, so no point leaves its triangle.
        """
        corners = self._face_corners[triangles].astype(np.float64)
        a = corners[:, 0:3]
        edge1, edge2 = corners[:, 3:6] - a, corners[:, 6:9] - a
        p = np.cross(directions, edge2)
        determinant = np.einsum("ij,ij->i", edge1, p)
        inverse = 1.0 / np.where(determinant == 0, 1e-300, determinant)
        offset = origin - a
        q = np.cross(offset, edge1)
        u = np.clip(np.einsum("ij,ij->i", offset, p) * inverse, 0, 1)
        v = np.clip(np.einsum("ij,ij->i", directions, q) * inverse, 0, 1 - u)
        points = u[:, None] * edge1 + v[:, None] * edge2 - offset
        return points, np.stack([1 - u - v, u, v], axis=1), np.where(determinant >= 0, 1.0, -1.0)


def shaded_colours(hits: RayHits, lighting: Lighting) -> np.ndarray:
    """Lambert-shaded colours [N, 3] in [0, 1] of the hits."""
    return np.clip(hits.albedo() * lighting.shade(hits.normals_world())[:, None], 0, 1)


def shaded_rgba(caster: RayCaster, camera: Camera, lighting: Lighting, supersampling: int = 2) -> np.ndarray:
    """Lambert-shaded RGBA [H, W, 4] uint8 with straight alpha, box-filtered from ``supersampling``^2 rays a pixel."""
    height, width = camera.height, camera.width
    hits = caster.cast(camera.resized(width * supersampling, height * supersampling))
    shaded = shaded_colours(hits, lighting)
    row, column = np.divmod(hits.pixels, width * supersampling)
    target = row // supersampling * width + column // supersampling
    counts = np.bincount(target, minlength=height * width)
    rgba = np.empty((height * width, 4))
    for channel in range(3):
        rgba[:, channel] = np.bincount(target, shaded[:, channel], height * width) / np.maximum(counts, 1)
    rgba[:, 3] = counts / supersampling**2
    return np.rint(rgba * 255).astype(np.uint8).reshape(height, width, 4)


def sample_texture(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Bilinear samples [N, 3] float32 in [0, 1] of a texture [H, W, 3] uint8 at uv [N, 2]; v = 0 is the top row.

    Texel centres lie at (i + 0.5) / size; coordinates outside [0, 1] repeat.
    """
    height, width = texture.shape[:2]
    x, y = uv[:, 0] * width - 0.5, uv[:, 1] * height - 0.5
    x0, y0 = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    fx, fy = (x - x0).astype(np.float32)[:, None], (y - y0).astype(np.float32)[:, None]
    left, right, top, bottom = x0 % width, (x0 + 1) % width, y0 % height, (y0 + 1) % height
    upper = texture[top, left] * (1 - fx) + texture[top, right] * fx
    lower = texture[bottom, left] * (1 - fx) + texture[bottom, right] * fx
    return (upper * (1 - fy) + lower * fy) / np.float32(255)
