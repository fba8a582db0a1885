"""Truncated signed distance fusion (Curless & Levoy 1996) of depth maps with a confidence per pixel.

Each voxel averages its signed distance to the surface that every view saw, weighted by confidence. What is
done with care, because users of other tools complain about it:

* Pixel centres lie at +0.5: a voxel that projects to (u, v) reads between the centres around it. Off by half
  a pixel, every view shifts its surface sideways and the views no longer agree.
* Depth is read by interpolating inverse depth, which is exact on planes, and only between four pixels that all
  belong to one surface: pixels beside the mask's edge or a depth jump carry no weight, so nothing is smeared
  across a silhouette.
* The distance is to the surface's tangent plane, not along z: a view that sees the surface at a slant agrees
  with one that sees it face on. Its weight falls with the squared cosine of the angle of incidence.

Units: whatever the cameras' world uses (millimetres in the pipeline).
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from splathead.cameras import Camera
from splathead.maps.normals import normals_from_depth
from splathead.threads import thread_map

MIN_COSINE = 0.17
"""cosine of the angle of incidence (80 degrees) from which on a pixel is too slanted to be used"""
MAX_VOXELS = 2**26
"""a box that needs more gets larger voxels (512 MiB of distances and weights at most)"""
BLOCK = 8
"""voxels along a side of the blocks that are allocated around the surface"""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DepthView:
    """One view to fuse."""

    depth: np.ndarray  # [H, W] float z-depth, world units
    mask: np.ndarray  # [H, W] bool, pixels with a surface
    camera: Camera
    confidence: np.ndarray | None = None  # [H, W] in 0..1, 0 = ignore; None = 1 everywhere
    rgb: np.ndarray | None = None  # [H, W, 3] uint8

    def __post_init__(self) -> None:
        shape = (self.camera.height, self.camera.width)
        for name, expected in (("depth", shape), ("mask", shape), ("confidence", shape), ("rgb", (*shape, 3))):
            value = getattr(self, name)
            if value is not None and value.shape != expected:
                raise ValueError(f"view {self.camera.name!r}: {name} of shape {value.shape}, expected {expected}")
        if self.mask.dtype != bool:
            raise ValueError(f"view {self.camera.name!r}: mask of {self.mask.dtype}, expected bool")
        inside = self.depth[self.mask]
        if not (np.isfinite(inside).all() and (inside > 0).all()):
            raise ValueError(f"view {self.camera.name!r}: depth inside the mask must be finite and positive")
        weights = self.confidence
        if weights is not None and not (np.isfinite(weights).all() and weights.min() >= 0 and weights.max() <= 1):
            raise ValueError(f"view {self.camera.name!r}: confidence outside 0..1 or not finite")

    @functools.cached_property
    def world_normals(self) -> np.ndarray:
        """[H, W, 3] of the depth, in the world, towards the camera; 0 where there is none."""
        normals, valid = normals_from_depth(self.depth, self.mask, self.camera, jump=math.inf)
        return np.where(valid[..., None], normals, 0) @ self.camera.rotation

    def cropped(self, margin: int = 0, multiple: int = 1) -> DepthView:
        """The part of the view inside the mask's bounding box (an error when the mask is empty), with a margin in pixels; its
        first row and column are multiples of ``multiple``."""
        rows, columns = np.flatnonzero(self.mask.any(1)), np.flatnonzero(self.mask.any(0))
        if not len(rows):
            raise ValueError(f"view {self.camera.name!r}: empty mask, nothing to fuse")
        cut = tuple(_range(used, margin, multiple, size) for used, size in zip((rows, columns), self.mask.shape))
        if self.mask[cut].shape == self.mask.shape:
            return self  # with what it has worked out
        maps = {name: None if value is None else np.ascontiguousarray(value[cut]) for name, value in self._maps()}
        return DepthView(camera=self.camera.cropped(*cut), **maps)

    def _maps(self) -> list[tuple[str, np.ndarray | None]]:
        return [(name, getattr(self, name)) for name in ("depth", "mask", "confidence", "rgb")]


def _range(used: np.ndarray, margin: int, multiple: int, size: int) -> slice:
    """From the first to the last of the places ``used`` along a side of ``size``; see :meth:`DepthView.cropped`."""
    start = max(int(used[0]) - margin, 0) // multiple * multiple
    return slice(start, min(int(used[-1]) + 1 + margin, size))


@dataclass
class TsdfVolume:
    """Signed distances on a lattice: node (i, j, k) lies at origin + voxel * (i, j, k); positive is outside."""

    distance: np.ndarray  # [X, Y, Z] float32, world units, within +-truncation
    weight: np.ndarray  # [X, Y, Z] float32, 0 = never observed
    blocks: np.ndarray  # [B, 3] int32 indices of the allocated blocks of 8^3 nodes
    origin: np.ndarray  # [3] float64
    voxel: float
    truncation: float


def observation_map(view: DepthView, jump: float) -> np.ndarray:
    """What fusion reads per pixel: [H, W, 3] float32 of 1/z, tangent-plane distance per unit of z, and weight.

    With unit normal n and ray r (z = 1), a point dz behind the surface along its ray is dz |n . r| behind the
    tangent plane. The weight is confidence x cos^2 of incidence; 0 outside the mask, beside its edge, beside a
    jump over ``jump``, and above 80 degrees.
    """
    normals, valid = normals_from_depth(view.depth, view.mask, view.camera, jump=jump)
    rays = view.camera.ray_directions().astype(np.float32)
    plane_factor = np.abs(np.einsum("hwc,hwc->hw", normals, rays))
    cosine = plane_factor / np.sqrt(np.einsum("hwc,hwc->hw", rays, rays))
    weight = np.where(valid & (cosine > MIN_COSINE), cosine**2, 0.0)
    if view.confidence is not None:
        weight = weight * view.confidence
    observed = np.where(view.mask, view.depth, 1.0)
    return np.stack([1.0 / observed, plane_factor, weight], axis=-1).astype(np.float32)


def fuse_views(
    views: Sequence[DepthView],
    *,
    voxel: float,
    truncation_voxels: float = 4.0,
    jump: float = math.inf,
    max_voxels: int = MAX_VOXELS,
) -> TsdfVolume:
    """Fuse depth maps into a signed distance volume around the surfaces that they show.

    Args:
        views: at least one view with a surface.
        voxel: side of a voxel, world units. Where the box of all depth needs more than ``max_voxels``, larger
            voxels are used, a warning says so and ``TsdfVolume.voxel`` holds the size used.
        truncation_voxels: distances are cut off at this many voxels (>= 2).
        jump: depth difference of neighbouring pixels that separates two surfaces, world units.
    """
    from splathead.fusion import kernels

    if not views:
        raise ValueError("no views to fuse")
    if not (math.isfinite(voxel) and voxel > 0 and truncation_voxels >= 2):
        raise ValueError(f"voxel {voxel}, truncation {truncation_voxels} voxels, expected voxel > 0 and truncation >= 2")
    views = [view.cropped() for view in views]
    maps = thread_map(functools.partial(observation_map, jump=jump), views)
    poses = [(intrinsics_vector(view.camera), view.camera.world_to_cam) for view in views]
    lower, upper = _bounds(views, maps)
    voxel = _fitting_voxel(upper - lower, voxel, truncation_voxels, max_voxels)
    truncation = voxel * truncation_voxels
    origin = lower - truncation - voxel
    shape = _lattice_shape(upper - lower, voxel, truncation_voxels)
    active = np.zeros((len(views), *(n // BLOCK for n in shape)), dtype=np.bool_)
    marked = zip(active, maps, poses)
    thread_map(lambda one: kernels.mark_blocks(one[0], origin, voxel * BLOCK, truncation, one[1], *one[2]), marked)
    blocks = np.argwhere(active.any(axis=0)).astype(np.int32)
    distance, weight = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
    with kernels.ONE_AT_A_TIME:
        for observed, (intrinsics, pose) in zip(maps, poses):
            kernels.integrate(distance, weight, blocks, origin, voxel, truncation, observed, intrinsics, pose)
        kernels.normalise(distance, weight, blocks)
    return TsdfVolume(distance, weight, blocks, origin, voxel, truncation)


def intrinsics_vector(camera: Camera) -> np.ndarray:
    """fx, fy, cx, cy as [4] float64, as the kernels take them."""
    return np.array([camera.fx, camera.fy, camera.cx, camera.cy])


def _bounds(views: Sequence[DepthView], maps: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    def box(pair: tuple[DepthView, np.ndarray]) -> np.ndarray | None:
        view, observed = pair
        used = observed[..., 2] > 0
        if not used.any():
            return None
        points = view.camera.unproject(view.depth)[used]
        return np.stack([points.min(0), points.max(0)])

    boxes = [found for found in thread_map(box, zip(views, maps)) if found is not None]
    if not boxes:
        names = ", ".join(view.camera.name for view in views)
        raise ValueError(f"views {names}: no pixel with weight (masks of isolated pixels, slanted surfaces or zero confidence)")
    return np.min(boxes, axis=0)[0], np.max(boxes, axis=0)[1]


def _lattice_shape(extent: np.ndarray, voxel: float, truncation_voxels: float) -> tuple[int, int, int]:
    nodes = np.ceil(extent / voxel + 2 * truncation_voxels).astype(int) + 3
    return tuple(int(n) for n in -(-nodes // BLOCK) * BLOCK)


def _fitting_voxel(extent: np.ndarray, voxel: float, truncation_voxels: float, max_voxels: int) -> float:
    chosen = voxel
    while math.prod(_lattice_shape(extent, chosen, truncation_voxels)) > max_voxels:
        chosen *= 1.05
        if chosen > extent.max():
            raise ValueError(f"no voxel size fits {max_voxels} voxels, expected a larger limit")
    if chosen != voxel:
        size = " x ".join(f"{side:.0f}" for side in extent)
        _log.warning("voxels of %.3g need more than %d for a box of %s; using %.3g", voxel, max_voxels, size, chosen)
    return chosen
