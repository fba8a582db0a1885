"""Zones, normals and depth measures against analytic answers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from analytic_surfaces import ellipsoid_normals, head_view, low_resolution_code, plane_depth

from splathead.cameras import orbit_camera
from splathead.images import DepthEncoding
from splathead.maps.normals import normals_at, normals_from_depth
from splathead.metrics.depth import DepthTruth, evaluate_depth, interval_violation, phase_spread
from splathead.metrics.image import SsimReference
from splathead.metrics.zones import Zones, ZoneSettings, bounding_box, compute_zones


# ---------------------------------------------------------------- zones
def test_zones_of_a_disc():
    rows, columns = np.mgrid[:200, :200]
    radius = np.hypot(rows - 100, columns - 100)
    zones = compute_zones(np.where(radius < 60, 400.0, 0.0).astype(np.float32))
    assert not (zones.interior & zones.silhouette).any()
    assert ((zones.interior | zones.silhouette) == zones.full).all() and (zones.full == (radius < 60)).all()
    assert zones.interior[radius < 51].all() and not zones.interior[radius > 52.5].any()


def test_band_is_exactly_eight_pixels_at_a_straight_edge_and_at_the_border():
    depth = np.full((64, 64), 400.0, dtype=np.float32)
    depth[:, :20] = 0
    interior_columns = np.flatnonzero(compute_zones(depth).interior[32])
    # columns 20..27 touch the edge's band, 56..63 the image border's
    assert interior_columns[0] == 28 and interior_columns[-1] == 55


@pytest.mark.parametrize(("step", "is_jump"), [(3.9, False), (4.1, True)])
def test_a_depth_jump_makes_a_band_on_both_sides(step, is_jump):
    depth = np.full((80, 80), 400.0, dtype=np.float32)
    depth[:, 40:] += step
    interior = compute_zones(depth).interior[40]
    assert interior[30] and interior[49]
    assert (~interior[31:49]).all() == is_jump and interior[31:49].all() != is_jump


def test_zone_settings_scale_with_the_diagonal():
    millimetres, scene = ZoneSettings.for_diagonal(400.0), ZoneSettings.for_diagonal(2.0)
    assert millimetres.jump == ZoneSettings().jump == 4.0
    assert scene.jump == pytest.approx(0.02)
    depth = head_view()[1]
    for a, b in zip(compute_zones(depth, millimetres).items(), compute_zones(depth / 200, scene).items()):
        assert (a[1] == b[1]).all()


def test_bad_targets_are_errors():
    with pytest.raises(ValueError, match="empty target"):
        compute_zones(np.zeros((8, 8), np.float32))
    with pytest.raises(ValueError, match="NaN, infinite or negative"):
        compute_zones(np.full((8, 8), np.nan, np.float32))
    with pytest.raises(ValueError, match=r"shape \(8,\)"):
        compute_zones(np.zeros(8, np.float32))
    with pytest.raises(ValueError, match="jump=0"):
        ZoneSettings(jump=0)


# ---------------------------------------------------------------- normals
def test_normals_of_a_tilted_plane_are_exact_also_off_centre():
    camera = replace(orbit_camera(0, size=64), cx=20.0, cy=50.0)
    normal = np.array([0.3, -0.2, math.sqrt(1 - 0.13)])
    depth = plane_depth(camera, tuple(normal), 400.0)
    normals, valid = normals_from_depth(depth, depth > 0, camera, jump=math.inf)
    assert valid[1:-1, 1:-1].all() and not valid[0].any() and not valid[:, -1].any()
    np.testing.assert_allclose(normals[valid], np.broadcast_to(-normal, (valid.sum(), 3)), atol=2e-4)


def test_normals_of_the_ellipsoid_point_at_the_camera():
    camera, depth = head_view()
    normals, valid = normals_from_depth(depth, depth > 0, camera, jump=4.0)
    truth = ellipsoid_normals(camera, depth)
    inside = valid & compute_zones(depth).interior
    angle = np.degrees(np.arccos(np.clip((normals * truth).sum(-1)[inside], -1, 1)))
    assert angle.mean() < 0.15 and angle.max() < 3.0
    assert ((normals * camera.ray_directions()).sum(-1)[valid] < 0).all()
    np.testing.assert_allclose(np.linalg.norm(normals[valid], axis=-1), 1, atol=1e-6)
    assert (normals[~valid] == 0).all()


def test_normals_are_invalid_at_holes_and_jumps():
    camera = orbit_camera(0, size=32)
    depth = np.full((32, 32), 400.0, dtype=np.float32)
    depth[10, 10] = 0
    depth[:, 20:] = 410
    _, valid = normals_from_depth(depth, depth > 0, camera, jump=4.0)
    invalid = {(r, c) for r, c in np.argwhere(~valid[1:-1, 1:-1]) + 1 if c not in (19, 20)}
    assert invalid == {(10, 10), (9, 10), (11, 10), (10, 9), (10, 11)}
    assert not valid[:, 19:21].any() and valid[5, 18] and valid[5, 21]
    _, torn = normals_from_depth(depth, depth > 0, camera, jump=math.inf)
    assert torn[5, 19]
    with pytest.raises(ValueError, match="shape"):
        normals_from_depth(depth[:16], depth[:16] > 0, camera, jump=4.0)


@pytest.mark.parametrize(("row", "column"), [(0, 5), (31, 5), (200, 5), (5, 0), (5, 31), (-3, 5)])
def test_a_normal_at_the_border_or_outside_is_an_error(row, column):
    depth, camera = np.full((32, 32), 400.0), orbit_camera(0, size=32)
    with pytest.raises(ValueError, match=r"(row|column)s .*, expected 1\.\.30, inside of the border"):
        normals_at(depth, np.array([5, row]), np.array([5, column]), camera)
    assert normals_at(depth, np.array([], int), np.array([], int), camera).shape == (0, 3)


# ---------------------------------------------------------------- measures
def plane_truth(tilt_deg: float = 0.0) -> DepthTruth:
    camera = orbit_camera(0, size=128)
    tilt = math.radians(tilt_deg)
    depth = plane_depth(camera, (math.sin(tilt), 0.0, math.cos(tilt)), 400.0)
    code, encoding = low_resolution_code(depth)
    return DepthTruth.build(depth, camera, depth, code, encoding)


def test_tilting_a_plane_by_ten_degrees_is_ten_degrees_of_normal_error():
    truth = plane_truth()
    tilt = math.radians(10)
    predicted = plane_depth(truth.camera, (math.sin(tilt), 0.0, math.cos(tilt)), 400.0)
    for scores in evaluate_depth(predicted, truth).values():
        assert scores.normal_error == pytest.approx(10.0, abs=1e-3)


def test_psnr_peak_is_the_range_of_the_code():
    truth = plane_truth(30)
    predicted = truth.depth + 0.5
    scores = evaluate_depth(predicted.astype(np.float32), truth)["full"]
    peak = truth.encoding.far - truth.encoding.near
    assert scores.psnr == pytest.approx(20 * math.log10(peak / 0.5), abs=1e-3)
    assert scores.rmse == pytest.approx(0.5, rel=1e-4) == scores.mae == scores.bias


def test_error_statistics_of_a_known_mixture():
    truth = plane_truth()
    predicted = truth.depth.copy()
    predicted[:, ::2] += 3.0
    predicted[:, 1::2] -= 1.0
    scores = evaluate_depth(predicted, truth)["full"]
    assert (scores.rmse, scores.mae, scores.bias) == pytest.approx((math.sqrt(5), 2.0, 1.0), rel=1e-6)


def test_phase_spread_is_the_amplitude_of_a_grid_pattern():
    error = np.zeros((32, 32))
    error[::4, ::4] = 0.16
    expected = np.std(np.r_[0.16, np.zeros(15)])
    assert phase_spread(error, np.ones((32, 32), bool)) == pytest.approx(expected)
    rows = np.arange(32)
    assert phase_spread(np.broadcast_to(0.01 * (rows // 4), (32, 32)), np.ones((32, 32), bool)) == pytest.approx(0, abs=1e-12)
    only_even = np.zeros((32, 32), bool)
    only_even[::2] = True
    assert math.isnan(phase_spread(error, only_even))


def test_interval_violation_counts_cells_beyond_half_a_step():
    encoding = DepthEncoding(near=400.0, far=400.0 + 254.0, bits=8, unit="mm")  # a step is 1 mm
    code = np.array([[0, 1, 11], [11, 11, 255]], dtype=np.uint8)
    mean = np.array([[999.0, 400.4, 410.75], [409.4, 410.5, 654.0]])
    violation, excess = interval_violation(mean, code, encoding, np.ones((2, 3), bool))
    assert violation == pytest.approx(2 / 5)  # code 0 does not count; exactly half a step is inside
    assert excess == pytest.approx((0.25 + 0.1) / 5)
    assert math.isnan(interval_violation(mean, code, encoding, np.zeros((2, 3), bool))[0])


def test_scores_are_nan_in_a_zone_without_pixels_and_zero_for_the_truth():
    camera, depth = head_view(64)
    code, encoding = low_resolution_code(depth)
    truth = DepthTruth.build(depth, camera, depth, code, encoding, ZoneSettings(band_px=60))
    scores = evaluate_depth(depth, truth)
    assert scores["interior"].n_pixels == 0 and math.isnan(scores["interior"].rmse) and math.isnan(scores["interior"].psnr)
    assert scores["full"].rmse == 0 and scores["full"].psnr == 150 and scores["full"].coverage == 1


@pytest.mark.parametrize("corner", [(0, 0), (8, 20), (64, 64)])
def test_where_the_head_stands_in_the_image_changes_nothing_but_the_box(corner):
    """Scores inside the box around the head equal those of the whole frame, of which the box is a part."""
    camera, depth = head_view(128)
    depth[:, :20] = 0  # off-centre, and a straight edge
    rng = np.random.default_rng(0)
    bilinear = np.where(depth > 0, depth + 0.4, 0).astype(np.float32)
    noisy = np.where((depth > 0) & (rng.random(depth.shape) > 0.05), depth + rng.normal(scale=0.5, size=depth.shape), 0)
    code, encoding = low_resolution_code(depth)
    scores = evaluate_depth(noisy, DepthTruth.build(depth, camera, bilinear, code, encoding))

    def embed(image: np.ndarray, scale: int = 1) -> np.ndarray:
        large = np.zeros((192 // scale, 192 // scale), image.dtype)
        rows, columns = (slice(c // scale, c // scale + 128 // scale) for c in corner)
        large[rows, columns] = image
        return large

    moved = replace(camera, width=192, height=192, cx=camera.cx + corner[1], cy=camera.cy + corner[0])
    truth = DepthTruth.build(embed(depth), moved, embed(bilinear), embed(code, 4), encoding)
    again = evaluate_depth(embed(noisy), truth)
    whole = replace(truth, box=(slice(0, 192), slice(0, 192)))
    rows, columns = (pixels + side.start for pixels, side in zip(truth.normal_pixels, truth.box))
    shown = np.where(truth.zones.full, (truth.depth.astype(np.float64) - encoding.near) / (encoding.far - encoding.near), 1.0)
    whole = replace(whole, similarity=SsimReference.build(shown), normal_pixels=(rows, columns))
    for other in (again, evaluate_depth(embed(noisy), whole)):
        for zone in ("interior", "silhouette", "full"):
            assert list(vars(other[zone]).values()) == pytest.approx(list(vars(scores[zone]).values()), rel=1e-9), zone


def test_bounding_box_has_a_margin_and_ends_at_multiples():
    mask = np.zeros((40, 50), bool)
    mask[13:20, 3:41] = True
    assert bounding_box(mask) == (slice(13, 20), slice(3, 41))
    assert bounding_box(mask, margin=5, multiple=4) == (slice(8, 28), slice(0, 48))
    assert bounding_box(mask, margin=100, multiple=4) == (slice(0, 40), slice(0, 50))


def test_truth_rejects_what_does_not_fit():
    camera, depth = head_view(64)
    code, encoding = low_resolution_code(depth)
    holed = depth.copy()
    holed[32, 32] = 0
    with pytest.raises(ValueError, match="bilinear depth is empty at 1 pixels"):
        DepthTruth.build(depth, camera, holed, code, encoding)
    with pytest.raises(ValueError, match="whole factor"):
        DepthTruth.build(depth, camera, depth, code[:15], encoding)
    with pytest.raises(ValueError, match="target depth of shape"):
        DepthTruth.build(depth[:32], camera, depth, code, encoding)
    truth = DepthTruth.build(depth, camera, depth, code, encoding)
    with pytest.raises(ValueError, match="predicted depth has NaN"):
        evaluate_depth(np.where(depth > 0, np.nan, depth), truth)
    assert isinstance(truth.zones, Zones)
