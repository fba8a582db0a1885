"""The start of a fit: Gaussians at the points of a sparse cloud, as structure from motion would give."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.spatial import cKDTree

from splathead.cameras import Camera
from splathead.gaussians import SH_C0, Gaussians

INITIAL_OPACITY = 0.5
NEIGHBOURS = 3
MIN_POINTS = NEIGHBOURS + 1


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
    points: np.ndarray, colours: np.ndarray, *, sh_degree: int, extent: float, unit: str, rng: np.random.Generator
) -> Gaussians:
    """Round Gaussians, as large as the mean distance to the three nearest points (Kerbl et al. 2023), of random orientation.

    Args:
        points: [N, 3] world; N at least 4.
        colours: [N, 3] in 0..1.
        extent: see :func:`scene_extent`; sizes are limited to 1e-4 .. 0.05 of it.
    """
    count = len(points)
    distances, _ = cKDTree(points).query(points, k=MIN_POINTS)
    spacing = np.clip(distances[:, 1:].mean(1), 1e-4 * extent, 0.05 * extent)
    sh = np.zeros((count, (sh_degree + 1) ** 2, 3))
    sh[:, 0] = (colours - 0.5) / SH_C0
    opacity_logits = np.full(count, math.log(INITIAL_OPACITY / (1 - INITIAL_OPACITY)))
    quaternions = rng.normal(size=(count, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    arrays = (points, np.repeat(np.log(spacing)[:, None], 3, axis=1), quaternions, opacity_logits, sh)
    return Gaussians(*(torch.from_numpy(np.asarray(array, dtype=np.float32)) for array in arrays), unit=unit)
