"""The surface that Gaussians mean, without training: depth moved forward by its own spread, bent to the splats' normals.

Two things are wrong with the depth of splats. It lies behind the skin, because a ray's weight is spread over Gaussians
behind the first ones; how far varies between fits (0.6 mm to 5 mm) and within a head, but in proportion to the standard
deviation s of depth along the ray, which can be rendered as well. And it is rough, while the Gaussians' shortest axes point
along the true normal to about 11 degrees. So

    z0 = z - SHIFT s
    E(u) = sum_pixels (u - log z0)^2 + smoothness sum_edges c (u_j - u_i - g_ij)^2        with u = log z

where g is the slope of log depth that the normals n imply (:func:`slopes_of_normals`), for the ray r through a pixel. This is
normal integration with a screening term (Nehab et al., "Efficiently combining positions and normals for precise 3D geometry",
SIGGRAPH 2005; Queau et al., "Normal integration: a survey", JMIV 2018) in log depth, where it is linear under perspective.
Edges across a depth jump have c = 0, slanted ones c = (n . r)^2.

Solved by conjugate gradients with a diagonal preconditioner: one core, float64, the same bytes every time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from splathead.cameras import Camera
from splathead.linear import conjugate_gradients
from splathead.maps.normals import slopes_of_normals
from splathead.maps.render_subject import NORMAL_SCALE
from splathead.metrics.zones import bounding_box

SHIFT = 0.4
"""Standard deviations by which depth lies behind the surface. The best single number on training heads of the study, whose
own best are 0.40 (vanilla fits) and 0.32 (regularised ones); see eval/LOG.md."""
OUTLIER_SPREADS = 3.0
"""A pixel whose spread is so many times the view's usual one counts half in fusion"""
MIN_NORMAL = 0.3
"""A rendered normal shorter than this is an average of opposite ones: no surface is assumed there."""


@dataclass(frozen=True)
class SplatSurfaceSettings:
    """Balance and accuracy."""

    shift: float = SHIFT
    smoothness: float = 40.0
    """weight of the normals: they decide over distances of sqrt(smoothness) pixels, depth over longer ones"""
    jump: float = 4.0
    """neighbouring pixels whose depth differs by more than this, in the depth's unit, plus ``jump_spreads`` spreads, are
    different surfaces: where the Gaussians agree on no depth, a few millimetres are noise"""
    jump_spreads: float = 0.5
    steps: int = 200
    """conjugate gradient steps, at most"""
    tolerance: float = 1e-6
    """stop once the preconditioned squared residual has fallen by this factor"""


@dataclass(frozen=True)
class SplatMaps:
    """Clean maps of one view of Gaussians, all [H, W]."""

    depth: np.ndarray  # float32, expected z-depth
    variance: np.ndarray  # float32, of depth along the ray, in the depth's unit squared
    normal: np.ndarray  # [H, W, 3] float, rendered normals in camera axes, any length up to 1
    mask: np.ndarray  # bool
    camera: Camera

    def __post_init__(self) -> None:
        shape = (self.camera.height, self.camera.width)
        for name, expected in (("depth", shape), ("variance", shape), ("normal", (*shape, 3)), ("mask", shape)):
            if getattr(self, name).shape != expected:
                raise ValueError(f"view {self.camera.name!r}: {name} of {getattr(self, name).shape}, expected {expected}")
        if not self.mask.any():
            raise ValueError(f"view {self.camera.name!r}: empty mask, there is no surface")

    @classmethod
    def of_clean(cls, maps: Mapping[str, np.ndarray], camera: Camera) -> SplatMaps:
        """From the maps of a view as stage 04 stores them (normals as int8)."""
        normal = maps["normal"].astype(np.float32) / NORMAL_SCALE
        return cls(maps["depth"], maps["depth_variance"], normal, maps["mask"].astype(bool), camera)


def splat_surface(maps: SplatMaps, settings: SplatSurfaceSettings | None = None) -> np.ndarray:
    """Depth [H, W] float32 of the surface, in the maps' unit, 0 outside of the mask; see the module."""
    settings = settings or SplatSurfaceSettings()
    box = bounding_box(maps.mask)
    mask, camera = maps.mask[box], maps.camera.cropped(*box)
    depth = maps.depth[box].astype(np.float64)
    spread = np.sqrt(np.maximum(maps.variance[box].astype(np.float64), 0))
    start = np.where(mask, np.maximum(depth - settings.shift * spread, 0.1 * depth), 1.0)
    slopes = _log_slopes(maps.normal[box].astype(np.float64), camera)
    differences, wanted, weight = _edges(start, spread, mask, slopes, settings)
    log_start = np.log(start[mask])
    scaled = differences.T @ sparse.diags(settings.smoothness * weight)
    matrix = (scaled @ differences + sparse.identity(len(log_start))).tocsr()
    right_side = log_start + scaled @ wanted
    change = conjugate_gradients(
        lambda x: matrix @ x, right_side - matrix @ log_start, matrix.diagonal(), settings.steps, settings.tolerance
    )
    result = np.zeros(maps.depth.shape, dtype=np.float32)
    result[box][mask] = np.exp(log_start + change)
    return result


def splat_confidence(maps: SplatMaps, alpha: np.ndarray) -> np.ndarray:
    """Weight [H, W] float32 in 0..1 of a view's pixels in fusion: alpha / (1 + (s / (3 median s))^2), 0 outside of the mask.

    ``s`` is the standard deviation of depth along the ray: where the Gaussians agree on no depth at all, other views know
    better. It marks outliers; it is not a calibrated probability.
    """
    spread = np.sqrt(np.maximum(maps.variance.astype(np.float64), 0))
    return (np.clip(alpha, 0, 1) * outlier_weight(spread, maps.mask, OUTLIER_SPREADS)).astype(np.float32)


def outlier_weight(values: np.ndarray, mask: np.ndarray, times: float = 1.0) -> np.ndarray:
    """Weight [H, W] float64 in 0..1 of ``values`` [H, W] from 0: 1/2 at ``times`` their median on ``mask``, 0 outside of it."""
    usual = max(float(np.median(values[mask])), 1e-9)
    return np.where(mask, 1 / (1 + (values / (times * usual)) ** 2), 0)


def _log_slopes(normal: np.ndarray, camera: Camera) -> np.ndarray:
    """[H, W, 3] slope of log depth along x and along y for one pixel, and the cosine n . r / |r|; NaN where unknown."""
    length = np.linalg.norm(normal, axis=-1)
    slopes, cosine = slopes_of_normals(normal, camera, length=length)
    slopes[length <= MIN_NORMAL] = np.nan
    return np.concatenate([slopes, cosine[..., None]], axis=-1)


def _edges(
    depth: np.ndarray, spread: np.ndarray, mask: np.ndarray, slopes: np.ndarray, settings: SplatSurfaceSettings
) -> tuple[sparse.csr_matrix, np.ndarray, np.ndarray]:
    """Differences between neighbours [E, N], the slope wanted of each [E] and its weight [E]."""
    index = np.full(mask.shape, -1)
    index[mask] = np.arange(np.count_nonzero(mask))
    first, second, wanted, weight = [], [], [], []
    for axis in (1, 0):
        a, b = (np.s_[:, :-1], np.s_[:, 1:]) if axis else (np.s_[:-1], np.s_[1:])
        slope = (slopes[a][..., 1 - axis] + slopes[b][..., 1 - axis]) / 2
        with np.errstate(invalid="ignore"):
            limit = settings.jump + settings.jump_spreads * np.minimum(spread[a], spread[b])
            good = mask[a] & mask[b] & (np.abs(depth[b] - depth[a]) < limit)
            good &= np.abs(slope) * depth[a] < settings.jump  # NaN compares false
        first.append(index[a][good])
        second.append(index[b][good])
        wanted.append(slope[good])
        weight.append(np.minimum(slopes[a][..., 2], slopes[b][..., 2])[good] ** 2)
    first, second, wanted, weight = map(np.concatenate, (first, second, wanted, weight))
    rows = np.arange(len(first))
    signs = np.concatenate([-np.ones(len(first)), np.ones(len(first))])
    places = (np.concatenate([rows, rows]), np.concatenate([first, second]))
    return sparse.csr_matrix((signs, places), shape=(len(first), np.count_nonzero(mask))), wanted, weight
