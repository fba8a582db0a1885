"""What the views of a head say about each other: analytic spheres, slow references, views that do not belong."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from splathead.cameras import orbit_camera
from splathead.fusion import DepthView
from splathead.fusion.corrections import CorrectionSettings, smoothed_correction, trusted_pixels, view_corrections
from splathead.metrics.zones import ZoneSettings, compute_zones

RADIUS = 100.0
DIAGONAL = 350.0
YAWS = (-40.0, -20.0, 0.0, 20.0, 40.0)
SETTINGS = CorrectionSettings(voxel=1.5, jump=20.0, interior_px=4)


def sphere_view(yaw: float, error=0.0, size: int = 256) -> tuple[DepthView, np.ndarray]:
    """A view of a sphere whose depth is wrong by ``error`` (a number or a map), and the true depth [H, W]."""
    camera = orbit_camera(yaw, 0.0, size)
    rays = camera.ray_directions()
    a, b = (rays**2).sum(-1), rays @ camera.translation
    root = b * b - a * (camera.translation @ camera.translation - RADIUS**2)
    mask = root > 0
    truth = np.where(mask, (b - np.sqrt(np.maximum(root, 0))) / a, 0)
    return DepthView(np.where(mask, truth + error, 0).astype(np.float32), mask, camera), truth


def smooth_noise(seed: int, sigma_px: float = 12.0, size: int = 256) -> np.ndarray:
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(0, 1, (size, size)), (0, 0), sigma_px)
    return noise / noise.std()


def errors(views, truths, corrections=None) -> np.ndarray:
    """Root mean square interior error of each view."""
    found = []
    for i, (view, truth) in enumerate(zip(views, truths)):
        inside = compute_zones(truth, ZoneSettings(8, 20.0)).interior
        difference = view.depth + (0 if corrections is None else corrections[i]) - truth
        found.append(math.sqrt(np.mean(difference[inside] ** 2)))
    return np.array(found)


def test_exact_views_of_a_sphere_stay_within_a_fraction_of_a_voxel():
    views, truths = zip(*(sphere_view(yaw) for yaw in YAWS))
    corrections, lines = view_corrections(views, DIAGONAL, SETTINGS)
    assert not lines and all(c.dtype == np.float32 for c in corrections)
    assert max(np.abs(c).max() for c in corrections) < 0.25 * SETTINGS.voxel
    assert errors(views, truths, corrections).max() < 0.05 * SETTINGS.voxel
    assert any(c.any() for c in corrections)


def test_noise_and_offsets_that_differ_between_views_are_averaged_away():
    offsets = (0.8, -0.8, 0.8, -0.8, 0.4)
    wrong = [offset + 0.8 * smooth_noise(seed) for seed, offset in enumerate(offsets)]
    views, truths = zip(*map(sphere_view, YAWS, wrong))
    corrections, _ = view_corrections(views, DIAGONAL, SETTINGS)
    before, after = errors(views, truths), errors(views, truths, corrections)
    assert (after < 0.9 * before).all()
    assert after.mean() < 0.5 * before.mean()


def test_detail_finer_than_a_voxel_is_the_views_own():
    ripple = 0.2 * np.where(np.indices((256, 256)).sum(0) % 2, 1.0, -1.0)  # the finest that pixels hold
    plain = [sphere_view(yaw)[0] for yaw in YAWS]
    views = [sphere_view(yaw, ripple)[0] for yaw in YAWS]
    for view, base, correction in zip(views, plain, view_corrections(views, DIAGONAL, SETTINGS)[0]):
        left = view.depth + correction - base.depth
        inside = compute_zones(base.depth, ZoneSettings(12, 20.0)).interior
        assert np.corrcoef(left[inside], ripple[inside])[0, 1] > 0.95
        assert left[inside].std() > 0.9 * 0.2


def test_confidence_decides_whom_the_views_follow():
    def corrected(confidence: float) -> float:
        views, truths = map(list, zip(*(sphere_view(yaw, 1.5 if yaw == 20.0 else 0.0) for yaw in YAWS)))
        views[3] = replace(views[3], confidence=np.full(views[3].depth.shape, confidence))
        return float(errors(views, truths, view_corrections(views, DIAGONAL, SETTINGS)[0]).mean())

    assert corrected(0.02) < 0.3 * corrected(1.0)


def test_a_view_that_contradicts_the_others_neither_gives_nor_takes():
    good = [sphere_view(yaw)[0] for yaw in (0.0, 20.0, -20.0)]
    bad = sphere_view(40.0, 12.0)[0]
    expected, _ = view_corrections(good, DIAGONAL, SETTINGS)
    found, lines = view_corrections([bad, *good], DIAGONAL, SETTINGS)
    assert len(lines) == 1 and f"{bad.camera.name} (contradicts" in lines[0]
    assert not found[0].any()
    for a, b in zip(found[1:], expected):
        np.testing.assert_array_equal(a, b)


def test_the_order_of_views_does_not_matter():
    views = [sphere_view(yaw, 0.5 * smooth_noise(i))[0] for i, yaw in enumerate(YAWS)]
    forward, backward = (view_corrections(order, DIAGONAL, SETTINGS)[0] for order in (views, views[::-1]))
    for a, b in zip(forward, backward[::-1]):
        np.testing.assert_allclose(a, b, atol=2e-3)  # sums in float32


def test_views_without_company_are_left_alone():
    view = sphere_view(0.0)[0]
    corrections, _ = view_corrections([view], DIAGONAL, SETTINGS)
    assert len(corrections) == 1 and not corrections[0].any()
    with pytest.raises(ValueError, match="no views"):
        view_corrections([], DIAGONAL, SETTINGS)


def test_smoothing_is_a_normalised_convolution_that_fades():
    rng = np.random.default_rng(3)
    difference = rng.normal(0, 1, (40, 50)).astype(np.float32)
    trusted, mask = rng.random((40, 50)) < 0.4, np.ones((40, 50), bool)
    trusted[:, 25:] = False
    mask[:5] = False
    sigma = 2.0
    found = smoothed_correction(difference, trusted, mask, sigma)
    rows, columns = np.indices(difference.shape)
    for row, column in ((20, 10), (39, 0), (12, 27), (20, 31), (30, 49)):
        weight = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * sigma**2)) / (2 * math.pi * sigma**2)
        expected = (weight * difference)[trusted].sum() / max(weight[trusted].sum(), 0.5)
        assert found[row, column] == pytest.approx(expected, abs=2e-3)
    assert not found[:5].any() and not found[:, 45:].any()


def test_trusted_is_the_interior_where_both_show_the_same_surface():
    view, truth = sphere_view(0.0)
    rendered = np.where(view.mask, truth + 1.0, 0)
    rendered[100:110, 100:110] = truth[100:110, 100:110] + 9.0  # another surface
    rendered[150:160, 100:110] = 0  # a hole
    found = trusted_pixels(view, rendered, 6.0, SETTINGS)
    expected = compute_zones(view.depth, ZoneSettings(4, 20.0)).interior
    expected[100:110, 100:110] = expected[150:160, 100:110] = False
    np.testing.assert_array_equal(found, expected)
