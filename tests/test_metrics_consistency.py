"""Multi-view consistency on views whose agreement is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from analytic_surfaces import HEAD_AXES_MM, ellipsoid_depth, plane_depth

from splathead.cameras import orbit_camera
from splathead.metrics.consistency import ConsistencySettings, multiview_consistency

DIAGONAL = 300.0


def head_views(yaws=(-30.0, 0.0, 30.0), size=192):
    cameras = [orbit_camera(yaw, 5, size) for yaw in yaws]
    return [ellipsoid_depth(camera) for camera in cameras], cameras


def test_exact_maps_of_one_head_agree():
    scores = multiview_consistency(*head_views(), DIAGONAL)
    assert scores.consistency < 2e-4  # interpolation between pixels of 2.4 mm
    assert scores.consistency_conflict < 0.005 and scores.n_pairs == 6 and scores.n_points > 1000


def test_two_parallel_planes_disagree_by_their_distance():
    camera = orbit_camera(0, size=64)
    sideways = camera.world_to_cam.copy()
    sideways[0, 3] += 20.0
    cameras = [camera, replace(camera, world_to_cam=sideways)]
    near, far = (plane_depth(camera, (0, 0, 1), z) for z in (400.0, 401.5))
    scores = multiview_consistency([near, far], cameras, DIAGONAL)
    assert scores.consistency == pytest.approx(1.5 / DIAGONAL, rel=1e-5) and scores.consistency_conflict == 0
    assert multiview_consistency([near, near], cameras, DIAGONAL).consistency == pytest.approx(0, abs=1e-7)
    # beyond the tolerance: the nearer map's points are looked through, the farther map's look occluded
    beyond = plane_depth(camera, (0, 0, 1), 410.0)
    scores = multiview_consistency([near, beyond], cameras, DIAGONAL)
    assert math.isnan(scores.consistency) and scores.consistency_conflict == 1.0 and scores.n_pairs == 1


def test_perspective_interpolation_is_exact_on_a_tilted_plane():
    camera = orbit_camera(0, size=64)
    matrix = camera.world_to_cam.copy()
    matrix[:3, 3] += (13.0, -7.0, 0.0)
    normal = np.array([0.4, 0.2, math.sqrt(0.8)])
    moved = plane_depth(camera, tuple(normal), 400.0 + float(normal @ (13.0, -7.0, 0.0)))
    maps = [plane_depth(camera, tuple(normal), 400.0), moved]
    scores = multiview_consistency(maps, [camera, replace(camera, world_to_cam=matrix)], 2e3)
    assert scores.consistency * 2e3 < 1e-3


def test_occlusion_is_not_disagreement():
    cameras = [orbit_camera(0, 0, 256), orbit_camera(35, 0, 256)]
    shift = np.array([0.0, 0.0, 170.0])  # a small ball in front of the head, hiding other parts of it in each view
    depths = []
    for camera in cameras:
        matrix = camera.world_to_cam.copy()
        matrix[:3, 3] += camera.rotation @ shift
        ball = ellipsoid_depth(replace(camera, world_to_cam=matrix), HEAD_AXES_MM * 0.25)
        head = ellipsoid_depth(camera)
        depths.append(np.where((ball > 0) & ((head == 0) | (ball < head)), ball, head))
    scores = multiview_consistency(depths, cameras, DIAGONAL)
    alone = multiview_consistency([ellipsoid_depth(camera) for camera in cameras], cameras, DIAGONAL)
    assert scores.consistency < 1.5 * alone.consistency and scores.consistency_conflict < 0.01


def test_noise_and_floaters_show():
    depths, cameras = head_views()
    rng = np.random.default_rng(0)
    values = []
    for sigma in (0.2, 0.8):
        noisy = [np.where(d > 0, d + rng.normal(scale=sigma, size=d.shape), 0) for d in depths]
        values.append(multiview_consistency(noisy, cameras, DIAGONAL).consistency * DIAGONAL)
    assert 0.1 < values[0] < 0.3 and values[1] == pytest.approx(4 * values[0], rel=0.2)
    floaters = (depths[1] > 0) & (rng.random(depths[1].shape) < 0.1)
    scores = multiview_consistency([depths[0], np.where(floaters, depths[1] - 40, depths[1]), depths[2]], cameras, DIAGONAL)
    assert 0.01 < scores.consistency_conflict < 0.1 and scores.consistency < 5e-4


def test_views_of_other_sides_are_not_compared():
    depths, cameras = head_views((0.0, 90.0))
    scores = multiview_consistency(depths, cameras, DIAGONAL)
    assert scores.n_pairs == 0 and math.isnan(scores.consistency) and math.isnan(scores.consistency_conflict)
    assert multiview_consistency(depths, cameras, DIAGONAL, ConsistencySettings(max_angle_deg=90)).n_pairs == 2
    with pytest.raises(ValueError, match="2 depth maps for 1 cameras"):
        multiview_consistency(depths, cameras[:1], DIAGONAL)
