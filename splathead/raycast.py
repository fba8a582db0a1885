"""Mesh to true depth, normals and shaded RGBA by ray casting (embreex: Embree 4).

Embree finds which triangle each pixel's ray meets; z-depth and barycentric coordinates are then computed
again from that triangle's plane in float64, so depth is exact to float32 rounding. Conventions are those of
``splathead.cameras``.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from splathead import mesh_kernels
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
        return mesh_kernels.lambert(normals_world, self.ambient, self.directions, self.intensities)


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
        """Barycentric interpolation of vertex values [V, 3] at the hits, [N, 3] float32."""
        return mesh_kernels.interpolate(vertex_values, self.mesh.faces, self.triangles, self.barycentric)

    def normals_world(self, smooth: bool = True) -> np.ndarray:
        """Unit normals [N, 3] float32 in world axes, of the side that is seen: interpolated, or the triangles' own."""
        faces, triangles = self.mesh.faces, self.triangles
        if smooth:
            return mesh_kernels.unit_normals(self.mesh.vertex_normals, faces, triangles, self.barycentric, self.facing)
        return mesh_kernels.face_normals(self.mesh.vertices, faces, triangles, self.facing)

    def normal_map(self, smooth: bool = True) -> np.ndarray:
        """Unit normals [H, W, 3] float32 in camera axes (x right, y down, z forward); 0 = no surface."""
        return self.to_map(mesh_kernels.rotate(self.normals_world(smooth), self.camera.rotation))

    def albedo(self) -> np.ndarray:
        """Surface colour [N, 3] float32 in [0, 1]: the texture where the mesh has one, else vertex colours."""
        if self.mesh.texture is None:
            return self.interpolate(self.mesh.colours)
        uv = (self.mesh.face_uv[self.triangles] * self.barycentric[:, :, None]).sum(1)
        return sample_texture(self.mesh.texture, uv)


class RayCaster:
    """An Embree scene of one mesh; build once, cast many views. Not picklable: build it in the worker.

    ``threads`` share the rows of a view (Embree and the loops here release the GIL); the result does not depend on it.
    """

    def __init__(self, mesh: HeadMesh, threads: int = 1) -> None:
        try:
            from embreex.mesh_construction import TriangleMesh
            from embreex.rtcore_scene import EmbreeScene
        except ImportError as error:
            raise ImportError(f"ray casting needs the package embreex: pip install embreex ({error})") from error
        self.mesh = mesh
        self.threads = threads
        self._scene = EmbreeScene(robust=True)  # robust: no ray slips through an edge shared by two triangles
        vertices = np.ascontiguousarray(mesh.vertices, dtype=np.float32)
        self._geometry = TriangleMesh(self._scene, vertices, np.ascontiguousarray(mesh.faces, dtype=np.int32))
        self._scene.run(np.zeros((1, 3), np.float32), np.ones((1, 3), np.float32))  # builds the tree before threads share it
        lower, upper = mesh.vertices.min(0), mesh.vertices.max(0)
        self._corners = np.array(list(itertools.product(*zip(lower, upper))), dtype=np.float64)

    def cast(self, camera: Camera) -> RayHits:
        """Cast one ray through each pixel centre of ``camera``; the nearest hits, either side of a triangle."""
        rows, columns = self._window(camera)
        edges = np.linspace(*rows, self.threads + 1).astype(int).tolist()
        bands = list(itertools.pairwise(edges))
        if self.threads == 1:
            parts = [self._cast_band(camera, bands[0], columns)]
        else:
            with ThreadPoolExecutor(self.threads) as pool:
                parts = list(pool.map(lambda band: self._cast_band(camera, band, columns), bands))
        return RayHits(camera, self.mesh, *(np.concatenate(arrays) for arrays in zip(*parts)))

    def _cast_band(self, camera: Camera, rows: tuple[int, int], columns: tuple[int, int]) -> tuple[np.ndarray, ...]:
        """Pixels, triangles, barycentric coordinates, depth and facing of the hits in rows and columns [start, stop)."""
        intrinsics = np.array([camera.fx, camera.fy, camera.cx, camera.cy])
        # scaled so that camera z is 1: the distance along the ray is z-depth
        directions = mesh_kernels.window_directions(rows, columns, intrinsics, camera.rotation)
        origins = np.tile(camera.position.astype(np.float32), (len(directions), 1))
        triangles = self._scene.run(origins, directions.astype(np.float32))
        hit = np.flatnonzero(triangles >= 0)
        triangles = triangles[hit]
        depth, barycentric, facing = mesh_kernels.intersect_planes(
            self.mesh.vertices, self.mesh.faces, triangles, camera.position, directions[hit]
        )
        row, column = np.divmod(hit, max(columns[1] - columns[0], 1))
        pixels = (row + rows[0]) * camera.width + column + columns[0]
        kept = depth > MIN_DEPTH_MM
        return tuple(values[kept] for values in (pixels, triangles, barycentric, depth, facing))

    def _window(self, camera: Camera) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows and columns [start, stop) that the mesh's bounding box can cover (all, if it reaches behind the camera)."""
        pixels, z = camera.project(self._corners)
        if z.min() <= MIN_DEPTH_MM:
            return (0, camera.height), (0, camera.width)
        size = np.array([camera.width, camera.height])
        first = np.clip(np.floor(pixels.min(0)).astype(int), 0, size).tolist()
        last = np.maximum(np.clip(np.ceil(pixels.max(0)).astype(int), 0, size), first).tolist()
        return (first[1], last[1]), (first[0], last[0])


def shaded_colours(hits: RayHits, lighting: Lighting) -> np.ndarray:
    """Lambert-shaded colours [N, 3] in [0, 1] of the hits."""
    return np.clip(hits.albedo() * lighting.shade(hits.normals_world())[:, None], 0, 1)


def shaded_rgba(caster: RayCaster, camera: Camera, lighting: Lighting, supersampling: int = 2) -> np.ndarray:
    """Lambert-shaded RGBA [H, W, 4] uint8 with straight alpha, box-filtered from ``supersampling``^2 rays a pixel."""
    hits = caster.cast(camera.resized(camera.width * supersampling, camera.height * supersampling))
    return box_filtered(hits, shaded_colours(hits, lighting), supersampling)


def box_filtered(hits: RayHits, colours: np.ndarray, supersampling: int) -> np.ndarray:
    """Colours [N, 3] in [0, 1] of the hits of a view ``supersampling`` times as large, as RGBA uint8 with straight alpha."""
    height, width = hits.camera.height // supersampling, hits.camera.width // supersampling
    row, column = np.divmod(hits.pixels, width * supersampling)
    target = row // supersampling * width + column // supersampling
    counts = np.bincount(target, minlength=height * width)
    rgba = np.empty((height * width, 4))
    for channel in range(3):
        rgba[:, channel] = np.bincount(target, colours[:, channel], height * width) / np.maximum(counts, 1)
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
