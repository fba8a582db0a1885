"""The start of a fit: Gaussians at the points of a sparse cloud, as structure from motion would give."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from splathead.cameras import Camera
from splathead.gaussians import SH_C0, Gaussians

MIN_POINTS = 4
NEIGHBOURS = 16
"""Points whose scatter gives the orientation and spacing at a point."""

BALL_NEIGHBOURS = 3
BALL_OPACITY = 0.1
INITIAL_OPACITY = 0.9
DISC_RADIUS = 0.5
"""Standard deviation along the surface, as a fraction of the points' spacing."""

DISC_THICKNESS = 0.2
"""Standard deviation across the surface, as a fraction of that along it."""


def scene_extent(cameras: Sequence[Camera], points: np.ndarray) -> float:
    """Half the width of what the cameras see at the subject's distance (median over cameras), scene units.

    Step sizes and size thresholds are fractions of it, so that neither the unit, the resolution nor the
    focal length of the images changes what a fit does. 226 mm for FaceLift's rig.
    """
    centre = np.median(points, axis=0)[None]
    half_widths = [camera.project(centre)[1][0] * camera.width / (2 * camera.fx) for camera in cameras]
    extent = float(np.median(half_widths))
    if not (math.isfinite(extent) and extent > 0):
        raise ValueError(f"the point cloud's centre {centre[0].tolist()} lies behind the cameras (half width seen: {extent})")
    return extent


def initial_gaussians(
    points: np.ndarray, colours: np.ndarray, *, sh_degree: int, extent: float, unit: str, start: str = "discs"
) -> Gaussians:
    """Gaussians at the points: ``discs``, opaque, lying in the plane that their neighbours scatter about, or ``balls``.

    3DGS (Kerbl et al. 2023, section 5.1) starts from transparent balls as wide as the three nearest points are far,
    which short fits do not flatten: depth then lies millimetres behind the surface. Discs halve that error
    after the same number of steps (measured in eval/LOG.md).

    Args:
        points: [N, 3] world; N at least 4.
        colours: [N, 3] in 0..1.
        extent: see :func:`scene_extent`; radii are limited to 1e-4 .. 0.05 of it.
        start: ``discs`` or ``balls``.
    """
    count = len(points)
    if start == "balls":
        axes, opacity, thickness = np.broadcast_to(np.eye(3), (count, 3, 3)), BALL_OPACITY, 1.0
        distances, _ = cKDTree(points).query(points, k=min(BALL_NEIGHBOURS + 1, count))
        radius = np.sqrt((distances[:, 1:] ** 2).mean(1))
    else:
        axes, spacing = _local_frames(points)
        axes[np.linalg.det(axes) < 0, :, 0] *= -1
        radius, opacity, thickness = DISC_RADIUS * spacing, INITIAL_OPACITY, DISC_THICKNESS
    log_scales = np.log(np.clip(radius, 1e-4 * extent, 0.05 * extent)[:, None] * (thickness, 1.0, 1.0))
    quaternions = Rotation.from_matrix(axes).as_quat()[:, [3, 0, 1, 2]]
    opacity_logits = np.full(count, math.log(opacity / (1 - opacity)))
    sh = np.zeros((count, (sh_degree + 1) ** 2, 3))
    sh[:, 0] = (colours - 0.5) / SH_C0
    arrays = (points, log_scales, quaternions, opacity_logits, sh)
    return Gaussians(*(torch.from_numpy(np.asarray(array, dtype=np.float32)) for array in arrays), unit=unit)


def _local_frames(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Axes [N, 3, 3] (columns, the direction of least scatter first) and spacing [N] of each point's neighbourhood."""
    count = min(NEIGHBOURS, len(points))
    distances, indices = cKDTree(points).query(points, k=count)
    offsets = points[indices] - points[indices].mean(1, keepdims=True)
    _, axes = np.linalg.eigh(np.einsum("nki,nkj->nij", offsets, offsets))
    return axes, np.sqrt(math.pi / count) * distances[:, -1]
