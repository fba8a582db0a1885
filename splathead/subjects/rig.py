"""Cameras of generated heads: FaceLift's rig, a denser capture rig around it, held-out views and map views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from splathead.cameras import FACELIFT_YAWS_DEG, Camera, orbit_camera

RING_ELEVATIONS_DEG = (0.0, 24.0, -18.0)
"""elevations that the capture rig cycles through"""
_YAW_JITTER_DEG = 4.0
_ELEVATION_JITTER_DEG = 4.0


@dataclass(frozen=True)
class SubjectCameras:
    """Cameras of one subject: views to fit, views never fitted, and views of the high-resolution maps."""

    fit: list[Camera]
    heldout: list[Camera]
    maps: list[Camera]


def facelift_cameras(size: int) -> list[Camera]:
    """FaceLift's six views (elevation 0), named ``facelift_0`` to ``facelift_5``."""
    return [orbit_camera(yaw, 0.0, size, name=f"facelift_{k}") for k, yaw in enumerate(FACELIFT_YAWS_DEG)]


def capture_cameras(count: int, size: int, rng: np.random.Generator) -> list[Camera]:
    """``count`` views all around on three rings: yaw advances by the golden angle, both angles jittered."""
    golden = 360.0 * (3 - np.sqrt(5)) / 2
    start = rng.uniform(0, 360)
    cameras = []
    for k in range(count):
        yaw = (start + k * golden + rng.uniform(-_YAW_JITTER_DEG, _YAW_JITTER_DEG) + 180) % 360 - 180
        elevation = RING_ELEVATIONS_DEG[k % 3] + rng.uniform(-_ELEVATION_JITTER_DEG, _ELEVATION_JITTER_DEG)
        cameras.append(orbit_camera(yaw, elevation, size, name=f"ring_{k:02d}"))
    return cameras


def heldout_cameras(count: int, size: int, rng: np.random.Generator) -> list[Camera]:
    """``count`` views spread evenly around the head at elevations within 15 degrees, at random phase."""
    yaws = (rng.uniform(0, 360) + 360.0 * np.arange(count) / max(count, 1)) % 360 - 180
    return [orbit_camera(yaw, rng.uniform(-15, 15), size, name=f"heldout_{k:02d}") for k, yaw in enumerate(yaws)]


def map_cameras(angles_deg: Sequence[tuple[float, float]], size: int, rng: np.random.Generator) -> list[Camera]:
    """One map view for each yaw and elevation, jittered by up to 4 degrees in both; the name keeps the nominal ones, but for an
    elevation of 0."""
    cameras = []
    for k, (yaw, elevation) in enumerate(angles_deg):
        jitter = rng.uniform(-1, 1, 2) * (_YAW_JITTER_DEG, _ELEVATION_JITTER_DEG)
        name = f"map_{k:02d}_yaw{yaw:+04.0f}" + (f"_el{elevation:+03.0f}" if elevation else "")
        cameras.append(orbit_camera(yaw + jitter[0], elevation + jitter[1], size, name=name))
    return cameras


def subject_cameras(
    seed: int,
    *,
    fit_views: int,
    heldout_views: int,
    fit_size: int,
    map_yaws_deg: Sequence[float],
    map_size: int,
    map_elevations_deg: Sequence[float] = (0.0,),
) -> SubjectCameras:
    """All cameras of one subject: FaceLift's six views first (fewer when ``fit_views`` < 6), then the capture rig.

    Map view k of seed s has elevation s + k of ``map_elevations_deg``, counted around.
    """
    rng = np.random.default_rng([seed, 0xCA4])
    facelift = facelift_cameras(fit_size)[:fit_views]
    ring = capture_cameras(max(0, fit_views - len(facelift)), fit_size, rng)
    heldout = heldout_cameras(heldout_views, fit_size, rng)
    angles = [(yaw, map_elevations_deg[(seed + k) % len(map_elevations_deg)]) for k, yaw in enumerate(map_yaws_deg)]
    return SubjectCameras(facelift + ring, heldout, map_cameras(angles, map_size, rng))
