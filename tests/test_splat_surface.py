"""The surface that splats mean: exact on analytic surfaces, against a dense solver, and where it must refuse."""

from __future__ import annotations

import numpy as np
import pytest
from analytic_surfaces import ellipsoid_normals, head_view, plane_depth

from splathead.cameras import orbit_camera
from splathead.linear import conjugate_gradients
from splathead.maps.normals import normals_from_depth
from splathead.metrics.zones import ZoneSettings, compute_zones
from splathead.models.splat_surface import (
    SHIFT,
    SplatMaps,
    SplatSurfaceSettings,
    splat_confidence,
    splat_surface,
)


def splat_maps(size: int = 128, noise_mm: float = 0.0, spread_mm: float = 0.0) -> tuple[SplatMaps, np.ndarray]:
    """Maps of an ellipsoid whose depth lies SHIFT spreads behind, with noise; and the true depth."""
    camera, truth = head_view(size)
    mask = truth > 0
    rng = np.random.default_rng(0)
    spread = np.where(mask, spread_mm * (1 + 0.5 * rng.random(mask.shape)), 0)
    depth = np.where(mask, truth + SHIFT * spread + rng.normal(0, noise_mm, mask.shape), 0).astype(np.float32)
    normal = np.where(mask[..., None], ellipsoid_normals(camera, truth), 0)
    return SplatMaps(depth, (spread**2).astype(np.float32), normal, mask, camera), truth


def interior_error(depth: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return (depth - truth)[compute_zones(truth, ZoneSettings(8, 4.0)).interior]


def test_an_exact_surface_stays_what_it_is():
    maps, truth = splat_maps()
    error = interior_error(splat_surface(maps), truth)
    assert np.abs(error).max() < 0.02  # mean slopes of neighbours are not quite the chord's


def test_depth_moves_forward_by_its_own_spread():
    maps, truth = splat_maps(spread_mm=5.0)
    assert interior_error(maps.depth, truth).mean() > 2.0
    assert abs(interior_error(splat_surface(maps), truth).mean()) < 0.02
    unmoved = splat_surface(maps, SplatSurfaceSettings(shift=0.0))
    assert interior_error(unmoved, truth).mean() > 2.0


def test_normals_take_the_noise_out():
    maps, truth = splat_maps(noise_mm=1.0)
    found = splat_surface(maps)
    assert np.std(interior_error(found, truth)) < 0.35 * np.std(interior_error(maps.depth, truth))

    def angle(depth: np.ndarray) -> float:
        normals, valid = normals_from_depth(np.where(depth > 0, depth, 1), depth > 0, maps.camera, jump=np.inf)
        inside = compute_zones(truth, ZoneSettings(8, 4.0)).interior & valid
        return float(np.degrees(np.arccos(np.clip((normals * maps.normal).sum(-1)[inside], -1, 1))).mean())

    assert angle(found) < 0.4 * angle(maps.depth)


def test_wrong_normals_pull_the_surface_and_smoothness_says_how_far():
    maps, truth = splat_maps()
    tilted = maps.normal + np.array([0.3, 0.0, 0.0])
    tilted /= np.maximum(np.linalg.norm(tilted, axis=-1, keepdims=True), 1e-9)
    wrong = SplatMaps(maps.depth, maps.variance, np.where(maps.mask[..., None], tilted, 0), maps.mask, maps.camera)
    errors = [
        np.abs(interior_error(splat_surface(wrong, SplatSurfaceSettings(smoothness=s)), truth)).mean() for s in (1, 40, 400)
    ]
    assert errors[0] < errors[1] < errors[2]


def test_a_plane_between_two_depth_jumps_is_not_joined_to_them():
    camera = orbit_camera(0.0, 0.0, 96)
    near, far = plane_depth(camera, (0.0, 0.0, 1.0), 400.0), plane_depth(camera, (0.0, 0.0, 1.0), 440.0)
    depth = np.where(np.arange(96)[None, :] < 48, near, far).astype(np.float32)
    normal = np.zeros((96, 96, 3))
    normal[..., 2] = -1.0
    mask = np.ones((96, 96), bool)
    found = splat_surface(SplatMaps(depth, np.zeros_like(depth), normal, mask, camera))
    np.testing.assert_allclose(found, depth, atol=1e-3)


def test_the_minimum_is_that_of_a_dense_solver():
    maps, _ = splat_maps(size=24, noise_mm=1.0, spread_mm=3.0)
    settings = SplatSurfaceSettings(steps=4000, tolerance=1e-24)
    found = splat_surface(maps, settings)
    np.testing.assert_allclose(found[maps.mask], dense_minimum(maps, settings), rtol=2e-7)  # float32's digits


def dense_minimum(maps: SplatMaps, settings: SplatSurfaceSettings) -> np.ndarray:
    """The module's energy, edge by edge, solved by least squares."""
    camera, mask = maps.camera, maps.mask
    start = maps.depth.astype(np.float64) - settings.shift * np.sqrt(maps.variance.astype(np.float64))
    index = {tuple(p): k for k, p in enumerate(np.argwhere(mask))}
    rays = camera.ray_directions()
    rows, right = [], []
    for pixel, k in index.items():
        row = np.zeros(len(index))
        row[k] = 1.0
        rows.append(row)
        right.append(np.log(start[pixel]))
    for (y, x), k in index.items():
        for other, axis in (((y, x + 1), 0), ((y + 1, x), 1)):
            least = settings.jump + settings.jump_spreads * np.sqrt(min(maps.variance[other], maps.variance[y, x]))
            if other not in index or abs(start[other] - start[y, x]) >= least:
                continue
            slopes, cosines = [], []
            for pixel in ((y, x), other):
                n, r = maps.normal[pixel], rays[pixel]
                along = n @ r
                cosines.append(abs(along) / (np.linalg.norm(n) * np.linalg.norm(r)))
                slopes.append(-(n[axis] / (camera.fx, camera.fy)[axis]) / along if cosines[-1] > 0.05 else np.nan)
            slope = sum(slopes) / 2
            if not abs(slope) * start[y, x] < settings.jump:
                continue
            row = np.zeros(len(index))
            row[k], row[index[other]] = -1.0, 1.0
            weight = np.sqrt(settings.smoothness) * min(cosines)
            rows.append(weight * row)
            right.append(weight * slope)
    return np.exp(np.linalg.lstsq(np.array(rows), np.array(right), rcond=None)[0])


def test_pixels_without_a_normal_keep_their_depth():
    maps, _ = splat_maps(noise_mm=1.0)
    bare = SplatMaps(maps.depth, maps.variance, np.zeros_like(maps.normal), maps.mask, maps.camera)
    np.testing.assert_allclose(splat_surface(bare)[maps.mask], maps.depth[maps.mask], rtol=1e-6)
    assert not splat_surface(maps)[~maps.mask].any()


def test_confidence_falls_with_the_spread_and_ends_at_the_mask():
    maps, _ = splat_maps(spread_mm=2.0)
    variance = maps.variance.copy()
    row, column = np.argwhere(maps.mask)[len(np.argwhere(maps.mask)) // 2]
    variance[row, column] = 100.0**2
    found = splat_confidence(SplatMaps(maps.depth, variance, maps.normal, maps.mask, maps.camera), np.ones_like(variance))
    assert found[row, column] < 0.01 and np.median(found[maps.mask]) > 0.85
    assert not found[~maps.mask].any() and found.dtype == np.float32


def test_maps_that_do_not_fit_together_are_refused():
    maps, _ = splat_maps(size=32)
    with pytest.raises(ValueError, match=r"normal of \(32, 32\), expected \(32, 32, 3\)"):
        SplatMaps(maps.depth, maps.variance, maps.normal[..., 0], maps.mask, maps.camera)
    with pytest.raises(ValueError, match="empty mask"):
        SplatMaps(maps.depth, maps.variance, maps.normal, np.zeros_like(maps.mask), maps.camera)


def test_conjugate_gradients_solve_a_dense_system():
    rng = np.random.default_rng(1)
    factor = rng.normal(size=(30, 30))
    matrix, right_side = factor @ factor.T + np.eye(30), rng.normal(size=30)
    found = conjugate_gradients(lambda x: matrix @ x, right_side, np.diag(matrix).copy(), 500, 1e-28)
    np.testing.assert_allclose(found, np.linalg.solve(matrix, right_side), rtol=1e-9)
