"""Surface distances and scores against analytic answers and slow exact references."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from analytic_surfaces import HEAD_AXES_MM, ellipsoid_depth, ellipsoid_mesh, head_view, plane_depth

from splathead.cameras import orbit_camera
from splathead.metrics.mesh import (
    CURVE_MM,
    CURVE_PERCENT,
    THRESHOLDS_MM,
    THRESHOLDS_PERCENT,
    MeshSettings,
    SurfaceTruth,
    evaluate_mesh,
    evaluate_mesh_against_mesh,
)
from splathead.metrics.surface import Surface, sample_surface, visible_points
from splathead.metrics.zones import ZoneSettings

SETTINGS = MeshSettings(samples=10_000)


def plane_truth(size: int = 96, settings: MeshSettings = SETTINGS) -> tuple[np.ndarray, SurfaceTruth]:
    camera = orbit_camera(0, size=size)
    depth = plane_depth(camera, (0, 0, 1), 400.0)
    return depth, SurfaceTruth.from_depth(depth, camera, 400.0, settings)


# ---------------------------------------------------------------- triangles, samples, distances
def test_depth_grid_gives_two_triangles_a_square_that_face_the_camera():
    camera = replace(orbit_camera(30, 10, size=16), cx=6.0)
    depth = plane_depth(camera, (0.2, 0.1, math.sqrt(0.95)), 400.0)
    surface = Surface.from_depth(depth, depth > 0, camera, 50.0)
    vertices, faces = surface.vertices, surface.faces
    assert vertices.shape == (256, 3) and faces.shape == (2 * 15 * 15, 3)
    np.testing.assert_allclose(vertices, camera.unproject(depth).reshape(-1, 3))
    towards_camera = ((camera.position - vertices[faces[:, 0]]) * surface.face_normals).sum(1)
    assert (towards_camera > 0).all()
    np.testing.assert_allclose(surface.vertex_normals(), np.broadcast_to(surface.face_normals[0], (256, 3)), atol=1e-4)


def test_triangles_across_jumps_and_holes_are_dropped_but_vertices_stay():
    camera = orbit_camera(0, size=16)
    depth = np.full((16, 16), 400.0, dtype=np.float32)
    depth[:, 8:] = 404.5
    assert len(Surface.from_depth(depth, depth > 0, camera, 4.0).faces) == 2 * 15 * 14
    assert len(Surface.from_depth(depth, depth > 0, camera, 4.6).faces) == 2 * 15 * 15
    mask = depth > 0
    mask[3, 3] = False
    holed = Surface.from_depth(depth, mask, camera, 4.6)
    assert len(holed.vertices) == 255 and len(holed.faces) == 2 * 15 * 15 - 6
    with pytest.raises(ValueError, match="depth > 0 inside"):
        Surface.from_depth(np.zeros((16, 16), np.float32), mask, camera, 4.0)
    with pytest.raises(ValueError, match="empty mask"):
        Surface.from_depth(depth, np.zeros_like(mask), camera, 4.0)


def test_distance_is_that_to_the_triangle_not_to_its_vertices():
    from trimesh.triangles import closest_point

    rng = np.random.default_rng(0)
    vertices = rng.normal(size=(60, 3)) * 50
    faces = rng.integers(0, 60, size=(40, 3))
    faces[0] = 7  # degenerate: a point
    points = rng.normal(size=(200, 3)) * 60
    distance, face = Surface.build(vertices, faces).closest(points)
    proper = [f for f in range(40) if len(set(faces[f])) == 3]
    slow = np.full((40, 200), np.inf)
    for f in proper:
        closest = closest_point(np.repeat(vertices[faces[f]][None], 200, 0), points)
        slow[f] = np.linalg.norm(closest - points, axis=1)
    slow[0] = np.linalg.norm(points - vertices[7], axis=1)
    np.testing.assert_allclose(distance, slow.min(0), atol=1e-9)
    np.testing.assert_allclose(slow[face, np.arange(200)], distance, atol=1e-9)  # the face named is one at that distance


@pytest.mark.parametrize("keep_lone", [False, True])
def test_a_grids_own_tree_finds_what_libigl_finds(keep_lone):
    rng = np.random.default_rng(1)
    camera = replace(orbit_camera(20, 5, size=64), cx=25.0)
    head = head_view(64)[1]
    depth = np.where(head > 0, head + rng.normal(scale=1.5, size=head.shape), 0)
    mask = (head > 0) & (rng.random(head.shape) > 0.1)
    grid = Surface.from_depth(depth, mask, camera, 4.0, keep_lone=keep_lone)
    unused = np.setdiff1d(np.arange(mask.sum()), grid.faces)
    assert (np.ptp(grid.faces, axis=1) == 0).any() == keep_lone and (len(unused) > 0) != keep_lone
    near = grid.vertices + rng.normal(size=grid.vertices.shape)
    points = np.concatenate([grid.vertices, near, rng.normal(size=(500, 3)) * 400])
    distance, face = grid.closest(points)
    expected, _ = Surface.build(grid.vertices, grid.faces).closest(points)
    np.testing.assert_allclose(distance, expected, atol=1e-9)
    for i in range(0, len(points), 40):  # the face named is one at that distance
        alone = Surface.build(grid.vertices, grid.faces[face[i]][None])
        assert alone.closest(points[i : i + 1])[0] == pytest.approx(distance[i], abs=1e-9)
    shuffled = rng.permutation(len(points))
    np.testing.assert_allclose(grid.closest(points[shuffled])[0], distance[shuffled], atol=1e-12)
    assert np.isinf(Surface.from_depth(depth, np.eye(64, dtype=bool) & mask, camera, 4.0).closest(points)[0]).all()


def test_surface_rejects_broken_meshes_and_knows_no_triangle():
    with pytest.raises(ValueError, match="NaN"):
        Surface.build(np.full((3, 3), np.nan), np.array([[0, 1, 2]]))
    with pytest.raises(ValueError, match=r"expected 0\.\.2"):
        Surface.build(np.zeros((3, 3)), np.array([[0, 1, 3]]))
    empty = Surface.build(np.zeros((3, 3)), np.zeros((0, 3)))
    assert np.isinf(empty.closest(np.zeros((2, 3)))[0]).all()
    with pytest.raises(ValueError, match="nothing to sample"):
        sample_surface(empty, 10, 0)


def test_samples_are_uniform_in_area():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [10, 0, 0], [13, 0, 0], [10, 1, 0]], dtype=float)
    surface = Surface.build(vertices, np.array([[0, 1, 2], [3, 4, 5]]))  # areas 1 : 3
    points, faces = sample_surface(surface, 4000, seed=1)
    assert (faces == 1).sum() == 3000  # stratified: exact
    for face, centroid in ((0, (1 / 3, 1 / 3)), (1, (11.0, 1 / 3))):
        np.testing.assert_allclose(points[faces == face][:, :2].mean(0), centroid, atol=0.03)
    near_corner = (points[faces == 0][:, 0] > 0.5).mean()
    assert near_corner == pytest.approx(0.25, abs=0.04)  # the half-size copy of the triangle has a quarter of its area
    np.testing.assert_array_equal(points, sample_surface(surface, 4000, seed=1)[0])
    assert (points != sample_surface(surface, 4000, seed=2)[0]).any()


def test_visible_samples_of_the_head_are_those_that_face_the_camera():
    camera, depth = head_view(512)
    surface = Surface.build(*ellipsoid_mesh(6))
    points, faces = sample_surface(surface, 20_000, 0)
    seen = visible_points(surface, points, faces, camera, depth)
    rays = camera.position - points
    facing = (rays * surface.face_normals[faces]).sum(1) / np.linalg.norm(rays, axis=1)
    assert seen[facing > 0.2].all() and not seen[facing < 0].any()
    row, column = np.floor(camera.project(points)[0][:, ::-1]).astype(int).T
    in_rim_pixel = depth[row, column] == 0  # the rim cuts the pixel: the point faces the camera, the pixel's centre sees past
    assert (seen != (facing > 0) & ~in_rim_pixel).sum() < 5  # float32 rays at the very rim
    half = depth.copy()
    half[:, :256] = 0
    only_half = visible_points(surface, points, faces, camera, half)
    np.testing.assert_array_equal(only_half, seen & (camera.project(points)[0][:, 0] >= 256))


def test_what_another_surface_hides_is_not_visible():
    camera = orbit_camera(40, 5, size=512)
    small, shift = HEAD_AXES_MM * 0.4, np.array([60.0, 20.0, 150.0])
    nose_camera = replace(camera, world_to_cam=_shifted(camera.world_to_cam, shift))
    front, behind = ellipsoid_depth(nose_camera, small), ellipsoid_depth(camera)
    depth = np.where((front > 0) & ((behind == 0) | (front < behind)), front, behind)
    head, nose = ellipsoid_mesh(5), ellipsoid_mesh(4, small)
    surface = Surface.build(np.concatenate([head[0], nose[0] + shift]), np.concatenate([head[1], nose[1] + len(head[0])]))
    points, faces = sample_surface(surface, 5000, 0)
    seen = visible_points(surface, points, faces, camera, depth)
    pixels, z = camera.project(points)
    column, row = np.floor(pixels).astype(int).T
    behind_map = z - depth[row, column]  # independent of the rays: the exact depth map
    assert 0.2 < seen.mean() < 0.8 and (seen & (faces >= len(head[1]))).any()
    assert seen[behind_map > 20].sum() < 10  # only where the nose's rim cuts a pixel
    hidden_head = (faces < len(head[1])) & (front[row, column] > 0) & (behind_map > 0)
    assert hidden_head.sum() > 100 and seen[hidden_head].mean() < 0.03
    rays = points - camera.position
    steady = -(surface.face_normals[faces] * rays).sum(1) > 0.3 * np.linalg.norm(rays, axis=1)
    assert seen[steady & (np.abs(behind_map) < 0.3)].mean() > 0.99


def _shifted(matrix: np.ndarray, shift: np.ndarray) -> np.ndarray:
    moved = matrix.copy()
    moved[:3, 3] += matrix[:3, :3] @ shift
    return moved


# ---------------------------------------------------------------- scores
def test_a_shifted_plane_steps_from_0_to_1_at_the_shift():
    depth, truth = plane_truth()
    scores = evaluate_mesh(depth + 0.3, depth > 0, truth)["full"]
    for text, value in scores.f_score.items():
        if text.endswith("mm"):
            expected = float(text[:-2]) > 0.3
            assert abs(value - expected) < 0.02 or text == "0.3mm"  # rim: the shifted grid is a little larger
    assert scores.chamfer_l1 == pytest.approx(0.3, abs=1e-3)
    assert scores.hausdorff_95 == pytest.approx(0.3, abs=1e-3)
    assert scores.f_score_auc == pytest.approx(np.mean([t > 0.3 for t in CURVE_MM]), abs=0.03)
    assert scores.normal_consistency == pytest.approx(1.0, abs=1e-6)
    assert scores.n_vertices == 96 * 96 and scores.n_samples == SETTINGS.samples


def test_a_missing_half_costs_recall_and_a_wrong_half_costs_precision():
    depth, truth = plane_truth()
    half = np.zeros(depth.shape, dtype=bool)
    half[:, :48] = True
    missing = evaluate_mesh(depth, half, truth)["full"]
    assert missing.precision["0.1mm"] == 1.0
    assert missing.recall["0.1mm"] == pytest.approx(0.5, abs=0.01)
    assert missing.f_score["0.1mm"] == pytest.approx(2 / 3, abs=0.01)
    pixel_mm = 400 / truth.camera.fx
    assert missing.hausdorff == pytest.approx(47.5 * pixel_mm, rel=0.02)  # from the far side of the missing half
    assert missing.chamfer_l1 == pytest.approx(0.5 * (0.5 * 23.75 * pixel_mm), rel=0.03)
    # the true surface is the left half; the other half of the prediction floats 10 mm behind where nothing is
    left = SurfaceTruth.from_depth(np.where(half, depth, 0), truth.camera, 400.0, SETTINGS)
    extra = evaluate_mesh(np.where(half, depth, depth + 10), np.ones_like(half), left)["full"]
    assert extra.recall["0.1mm"] == 1.0 and extra.precision["1mm"] == pytest.approx(0.5, abs=0.01)


def test_tilting_lowers_normal_consistency_to_the_cosine():
    camera = orbit_camera(0, size=96)
    depth = plane_depth(camera, (0, 0, 1), 400.0)
    truth = SurfaceTruth.from_depth(depth, camera, 400.0, replace(SETTINGS, zones=ZoneSettings(jump=50)))
    tilted = plane_depth(camera, (math.sin(0.3), 0, math.cos(0.3)), 400.0 * math.cos(0.3))
    assert evaluate_mesh(tilted, tilted > 0, truth)["interior"].normal_consistency == pytest.approx(math.cos(0.3), abs=2e-3)


def test_zones_share_the_points_between_them():
    camera, depth = head_view(256)
    truth = SurfaceTruth.from_depth(depth, camera, 300.0, SETTINGS)
    predicted = np.where(truth.zones.silhouette, depth + 1.5, depth)
    scores = evaluate_mesh(predicted, depth > 0, truth)
    assert scores["interior"].n_vertices + scores["silhouette"].n_vertices == scores["full"].n_vertices == (depth > 0).sum()
    assert scores["interior"].n_samples + scores["silhouette"].n_samples == SETTINGS.samples
    assert scores["interior"].precision["0.1mm"] == 1.0 and scores["interior"].recall["0.1mm"] > 0.95
    assert scores["silhouette"].precision["0.1mm"] < 0.2


def test_flying_pixels_count_although_no_triangle_uses_them():
    depth, truth = plane_truth()
    predicted = depth.copy()
    predicted[::4, ::4] += 20.0
    scores = evaluate_mesh(predicted, depth > 0, truth)["full"]
    assert scores.precision["1mm"] == pytest.approx(15 / 16, abs=1e-6)
    assert scores.normal_consistency < 0.99
    assert scores.hausdorff > 19


def test_a_prediction_torn_to_single_pixels_has_no_recall():
    depth, truth = plane_truth()
    predicted = depth + 10 * (np.indices(depth.shape).sum(0) % 3)
    scores = evaluate_mesh(predicted, depth > 0, truth)["full"]
    assert scores.recall["2mm"] == 0 and scores.f_score["2mm"] == 0 and scores.f_score_auc == 0
    assert math.isnan(scores.chamfer_l1) and math.isnan(scores.hausdorff)


def test_an_empty_zone_is_undefined():
    depth, truth = plane_truth(settings=replace(SETTINGS, zones=ZoneSettings(band_px=60)))
    scores = evaluate_mesh(depth, depth > 0, truth)
    assert scores["interior"].n_vertices == 0 and math.isnan(scores["interior"].f_score["1mm"])
    assert math.isnan(scores["interior"].f_score_auc) and scores["full"].f_score["1mm"] == 1.0


def test_perfect_depth_of_the_true_mesh_scores_one_in_the_interior():
    camera, depth = head_view(512)
    surface = Surface.build(*ellipsoid_mesh(6))
    truth = SurfaceTruth.from_mesh(surface, depth, camera, SETTINGS)
    assert truth.diagonal == pytest.approx(2 * np.linalg.norm(HEAD_AXES_MM), rel=1e-3)
    assert abs(len(truth.samples) - SETTINGS.samples) < 500
    scores = evaluate_mesh(depth, depth > 0, truth)
    assert scores["interior"].f_score["0.1mm"] == 1.0
    # beside the rim one pixel spans centimetres of surface: even the true map, cut at jumps, cannot cover it
    assert scores["full"].precision["0.1mm"] == 1.0 and 0.5 < scores["silhouette"].recall["1mm"] < 1.0


def test_fewer_vertices_and_another_seed_give_nearly_the_same_scores():
    camera, depth = head_view(256)
    predicted = depth + np.where(depth > 0, np.random.default_rng(0).normal(scale=0.5, size=depth.shape), 0)
    values = []
    # the first is measured twice: the same settings must give the same number
    for settings in (SETTINGS, SETTINGS, replace(SETTINGS, vertex_stride=3), replace(SETTINGS, seed=5)):
        truth = SurfaceTruth.from_depth(depth, camera, 300.0, settings)
        values.append(evaluate_mesh(predicted, depth > 0, truth)["full"].f_score["0.5mm"])
    assert np.ptp(values) < 0.02 and len(set(values)) == 3 and values[0] == values[1]


def test_scores_without_a_scale_are_those_with_one_in_percent():
    assert set(THRESHOLDS_MM) <= set(CURVE_MM) and set(THRESHOLDS_PERCENT) <= set(CURVE_PERCENT)
    camera, depth = head_view(256)
    predicted = depth + np.where(depth > 0, np.random.default_rng(0).normal(scale=0.5, size=depth.shape), 0)
    matrix = camera.world_to_cam.copy()
    matrix[:3, 3] /= 180
    scene_camera = replace(camera, world_to_cam=matrix)
    mm = SurfaceTruth.from_depth(depth, camera, 400.0, SETTINGS)
    scene = SurfaceTruth.from_depth(depth / 180, scene_camera, 400 / 180, MeshSettings.for_diagonal(400 / 180, samples=10_000))
    a = evaluate_mesh(predicted, depth > 0, mm)["interior"]
    b = evaluate_mesh(predicted / 180, depth > 0, scene)["interior"]
    assert len(b.f_score) == len(CURVE_PERCENT) and all(text.endswith("%diag") for text in b.f_score)
    for text in ("0.1%diag", "0.5%diag", "1%diag"):
        assert a.f_score[text] == pytest.approx(b.f_score[text], abs=1e-3)
    assert a.chamfer_l1 == pytest.approx(b.chamfer_l1 * 180, rel=1e-3)


def test_a_true_mesh_that_is_not_the_maps_is_an_error():
    camera, depth = head_view(128)
    vertices, faces = ellipsoid_mesh(4)
    with pytest.raises(ValueError, match="same view and unit"):
        SurfaceTruth.from_mesh(Surface.build(vertices / 180, faces), depth, camera, SETTINGS)
    with pytest.raises(ValueError, match="see no part"):
        SurfaceTruth.from_mesh(Surface.build(vertices + 2000.0, faces), depth, camera, SETTINGS)


def test_a_mesh_against_a_mesh_and_what_no_view_sees():
    vertices, faces = ellipsoid_mesh(5, np.full(3, 100.0))
    outer, inner = Surface.build(vertices, faces), Surface.build(vertices * 0.3, faces)
    both = Surface.build(np.concatenate([vertices, inner.vertices]), np.concatenate([faces, faces + len(vertices)]))
    grown = Surface.build(vertices * 1.004, faces)  # 0.4 mm larger
    scores = evaluate_mesh_against_mesh(grown, outer, SETTINGS)
    assert scores.chamfer_l1 == pytest.approx(0.4, abs=0.01) and scores.hausdorff == pytest.approx(0.4, abs=0.05)
    assert scores.f_score["0.35mm"] < 0.01 and scores.f_score["0.45mm"] == 1.0 and scores.normal_consistency > 0.999
    hidden = evaluate_mesh_against_mesh(grown, both, SETTINGS)  # the inner sphere counts as missing
    assert hidden.recall["2mm"] == pytest.approx(1 / 1.09, abs=0.01)
    cameras = [orbit_camera(yaw, size=256) for yaw in (0, 120, 240)]
    views = [(camera, ellipsoid_depth(camera, np.full(3, 100.0))) for camera in cameras]
    seen = evaluate_mesh_against_mesh(grown, both, SETTINGS, views)
    assert seen.recall["2mm"] == 1.0 and seen.f_score["0.45mm"] == 1.0
