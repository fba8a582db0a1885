"""Errors planted in a perfect prediction, through the whole evaluator: each shows where it should and nowhere else."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from analytic_surfaces import ellipsoid_depth, ellipsoid_mesh, low_resolution_code

from splathead.cameras import orbit_camera
from splathead.metrics.depth import DepthScores, DepthTruth, evaluate_depth, fill_empty
from splathead.metrics.mesh import CURVE_MM, MeshScores, MeshSettings, SurfaceTruth, evaluate_mesh
from splathead.metrics.statistics import bootstrap_mean, paired_difference
from splathead.metrics.surface import Surface
from splathead.results import ResultRow, read_results, write_results

SIZE = 400
ZOOM_AXES_MM = np.array([30.0, 44.0, 38.0])
"""A small head seen at the pixel pitch (0.45 mm) that a real one has at 1024 pixels, so that tests are fast."""
SETTINGS = MeshSettings(samples=20_000)


class View:
    """A true head in one view with everything the evaluator needs, for targets ``surface`` and ``render``."""

    def __init__(self) -> None:
        pitch_mm = 0.45
        self.camera = orbit_camera(15, 5, SIZE, hfov_deg=2 * math.degrees(math.atan(SIZE * pitch_mm / 2 / 486)))
        self.depth = ellipsoid_depth(self.camera, ZOOM_AXES_MM)
        self.mask = self.depth > 0
        self.code, self.encoding = low_resolution_code(self.depth)
        self.bilinear = np.where(self.mask, self.depth + 0.7, 0).astype(np.float32)  # a recognisable stand-in
        self.depth_truth = DepthTruth.build(self.depth, self.camera, self.bilinear, self.code, self.encoding)
        surface = Surface.build(*ellipsoid_mesh(6, ZOOM_AXES_MM))
        self.surface_truth = SurfaceTruth.from_mesh(surface, self.depth, self.camera, SETTINGS)
        self.render_truth = SurfaceTruth.from_depth(self.depth, self.camera, surface.diagonal, SETTINGS)

    def score(self, predicted: np.ndarray, target: str = "surface") -> tuple[dict[str, DepthScores], dict[str, MeshScores]]:
        """Depth and mesh scores per zone, as stages 07 and 08 compute them."""
        filled = fill_empty(predicted, self.bilinear, self.mask)
        truth = self.surface_truth if target == "surface" else self.render_truth
        return evaluate_depth(predicted, self.depth_truth), evaluate_mesh(filled, self.mask, truth)

    def plant(self, error: np.ndarray | float) -> np.ndarray:
        """The true depth plus an error, float32."""
        return np.where(self.mask, self.depth + error, 0).astype(np.float32)


@pytest.fixture(scope="module")
def view() -> View:
    return View()


def test_perfect_prediction(view):
    for target in ("surface", "render"):
        depth, mesh = view.score(view.depth, target)
        for zone in ("interior", "silhouette", "full"):
            d = depth[zone]
            assert d.rmse == d.mae == d.bias == d.phase_spread == 0 and d.psnr == 150 and d.ssim == pytest.approx(1)
            assert d.normal_error < 0.01 and d.coverage == 1 and d.interval_violation == 0 == d.interval_excess
            assert set(mesh[zone].precision.values()) == {1.0}
        assert set(mesh["interior"].f_score.values()) == {1.0} and mesh["interior"].f_score_auc == 1.0
        assert mesh["interior"].hausdorff < 0.02 and mesh["interior"].normal_consistency > 0.9999
    # against its own triangles a map is perfect everywhere, the rim included
    assert set(mesh["full"].f_score.values()) == {1.0} and mesh["full"].hausdorff < 1e-4
    assert mesh["full"].normal_consistency > 0.995


@pytest.mark.parametrize("offset_mm", [0.3, -1.2])
def test_constant_offset(view, offset_mm):
    depth, mesh = view.score(view.plant(offset_mm))
    perfect = view.score(view.depth)[0]
    for zone in ("interior", "full"):
        d = depth[zone]
        assert d.bias == pytest.approx(offset_mm, abs=1e-4)
        assert d.rmse == pytest.approx(abs(offset_mm), abs=1e-4) == d.mae
        assert d.psnr == pytest.approx(20 * math.log10((view.encoding.far - view.encoding.near) / abs(offset_mm)), abs=0.01)
        assert d.phase_spread < 1e-5  # no pattern
        assert d.normal_error < 0.3 + perfect[zone].normal_error  # almost the same shape
    lsb = view.encoding.lsb
    if abs(offset_mm) > lsb:
        assert depth["interior"].interval_violation == 1.0
        assert depth["interior"].interval_excess == pytest.approx(abs(offset_mm) - lsb / 2, abs=0.05)
    f = mesh["interior"].f_score
    # points move along their rays, so the distance is at most d (times 1.005 off the axis): 1 from d on, nothing near 0
    assert all(value == 1.0 for text, value in f.items() if text.endswith("mm") and float(text[:-2]) > abs(offset_mm))
    assert f["0.05mm"] < 0.01 and f["0.25mm"] < 0.7
    assert mesh["interior"].hausdorff <= 1.01 * abs(offset_mm) and mesh["interior"].chamfer_l1 < abs(offset_mm)


def test_growing_the_head_by_d_steps_the_f_curve_at_d(view):
    d = 0.42
    grown = np.where(view.mask, ellipsoid_depth(view.camera, ZOOM_AXES_MM + d), 0)
    _, mesh = view.score(grown)
    for text, value in mesh["interior"].f_score.items():
        if text.endswith("mm"):
            assert value == (1.0 if float(text[:-2]) > d else pytest.approx(0.0, abs=0.01))
    expected = np.mean([t > d for t in CURVE_MM])
    assert mesh["interior"].f_score_auc == pytest.approx(expected, abs=0.01)
    assert mesh["interior"].chamfer_l1 == pytest.approx(d, abs=0.01)


def test_checkerboard_hides_in_rmse_and_shows_in_phase_and_normals(view):
    rows, columns = np.mgrid[:SIZE, :SIZE]
    pattern = 0.25 * np.sin(rows * math.pi / 2 + 0.4) * np.cos(columns * math.pi / 2 + 0.3)
    depth, mesh = view.score(view.plant(pattern))
    smooth_error = 0.25 * 0.5 * np.ones_like(pattern)  # as large, without a pattern
    reference, _ = view.score(view.plant(smooth_error))
    d, r = depth["interior"], reference["interior"]
    assert d.rmse < 0.13 and abs(d.bias) < 0.005 and d.rmse == pytest.approx(r.rmse, rel=0.05)
    assert abs(d.psnr - r.psnr) < 0.5
    assert d.phase_spread == pytest.approx(pattern[:4, :4].std(), rel=0.05) and d.phase_spread > 1000 * r.phase_spread
    assert d.normal_error > 15 and r.normal_error < 0.2
    assert d.interval_violation < r.interval_violation + 0.05  # area means do not see it either
    assert mesh["interior"].normal_consistency < 0.97 and mesh["interior"].f_score["0.5mm"] == 1.0


def test_dropped_pixels_are_scored_with_the_bilinear_value_and_reported(view):
    dropped = view.mask & (np.random.default_rng(0).random(view.mask.shape) < 0.1)
    predicted = np.where(dropped, 0, view.depth)
    depth, mesh = view.score(predicted)
    replaced, replaced_mesh = view.score(np.where(dropped, view.bilinear, view.depth))
    for zone in ("interior", "silhouette", "full"):
        d = depth[zone]
        assert d.coverage == pytest.approx(1 - dropped[view.depth_truth.zones.__dict__[zone]].mean())
        assert replaced[zone].coverage == 1
        assert (d.rmse, d.mae, d.normal_error, d.phase_spread) == pytest.approx(
            (replaced[zone].rmse, replaced[zone].mae, replaced[zone].normal_error, replaced[zone].phase_spread)
        )
        assert d.rmse == pytest.approx(0.7 * math.sqrt(1 - d.coverage), rel=1e-3)
        assert d.mae == pytest.approx(0.7 * (1 - d.coverage), rel=1e-3)
    assert mesh == replaced_mesh
    nothing, _ = view.score(np.zeros_like(view.depth))
    assert nothing["full"].coverage == 0 and nothing["full"].rmse == pytest.approx(0.7, abs=1e-3)


def test_values_outside_the_target_change_nothing(view):
    outside = np.where(view.mask, view.depth, 300.0).astype(np.float32)
    assert view.score(outside) == view.score(view.depth)


def test_smoothing_noise_mends_normals_and_smoothing_relief_destroys_them(view):
    rng = np.random.default_rng(0)
    noisy = view.plant(rng.normal(scale=0.2, size=view.mask.shape))

    def smooth(depth: np.ndarray, sigma_px: float) -> np.ndarray:
        weight = cv2.GaussianBlur(view.mask.astype(np.float32), (0, 0), sigma_px)
        blurred = cv2.GaussianBlur(depth.astype(np.float32), (0, 0), sigma_px) / np.maximum(weight, 1e-6)
        return np.where(view.mask, blurred, 0)

    noise, mended = view.score(noisy)[0]["interior"], view.score(smooth(noisy, 1.5))[0]["interior"]
    assert noise.rmse == pytest.approx(0.2, rel=0.03)
    assert noise.normal_error > 15 and mended.normal_error < 0.35 * noise.normal_error and mended.rmse < 0.5 * noise.rmse

    # now the truth has fine relief: 2.3 mm waves of 0.15 mm, which smoothing wipes out
    amplitude, wave_px = 0.15, 5.0
    relief = view.plant(amplitude * np.sin(2 * math.pi * np.arange(SIZE) / wave_px))
    code, encoding = low_resolution_code(relief)
    truth = DepthTruth.build(relief, view.camera, view.bilinear, code, encoding)
    render = SurfaceTruth.from_depth(relief, view.camera, 100.0, SETTINGS)
    blurred = smooth(relief, 2.0)
    flat, mesh = evaluate_depth(blurred, truth)["interior"], evaluate_mesh(blurred, view.mask, render)["interior"]
    assert flat.rmse == pytest.approx(amplitude / math.sqrt(2), rel=0.15)
    assert flat.normal_error > 6
    assert mesh.normal_consistency < 0.99 and mesh.f_score["0.05mm"] < 0.6 < 0.99 < mesh.f_score["0.2mm"]


def test_rounding_to_8_bits_costs_normals_not_intervals(view):
    decoded, _ = view.encoding.decode(view.encoding.encode(view.depth, view.mask))
    d = view.score(decoded)[0]["interior"]
    assert d.rmse == pytest.approx(view.encoding.lsb / math.sqrt(12), rel=0.05)
    assert d.normal_error > 2 and d.interval_excess < 0.1 * view.encoding.lsb


def test_error_at_the_rim_stays_out_of_the_interior(view):
    error = np.where(view.depth_truth.zones.silhouette, 5.0, 0.0)
    depth, mesh = view.score(view.plant(error))
    assert depth["interior"].rmse == 0 and depth["silhouette"].rmse == pytest.approx(5, rel=1e-3)
    share = depth["silhouette"].n_pixels / depth["full"].n_pixels
    assert depth["full"].rmse == pytest.approx(5 * math.sqrt(share), rel=1e-3)
    assert mesh["interior"].precision["0.1mm"] == 1.0 and mesh["silhouette"].precision["0.5mm"] < 0.3


def test_from_maps_to_a_results_file(view, tmp_path):
    """Two methods on six heads: the paired interval finds the difference that the unpaired ones cannot."""
    rng = np.random.default_rng(0)
    rmse: dict[str, list[float]] = {"splathead": [], "bilinear": []}
    heads = [f"head_{i}" for i in range(6)]
    for _ in heads:
        noise = rng.normal(scale=rng.uniform(0.1, 0.6), size=view.mask.shape)
        for method, factor in (("splathead", 0.9), ("bilinear", 1.0)):
            rmse[method].append(evaluate_depth(view.plant(factor * noise), view.depth_truth)["interior"].rmse)
    paired = paired_difference(rmse["splathead"], rmse["bilinear"], heads)
    estimates = {(method, ""): bootstrap_mean(values, heads) for method, values in rmse.items()}
    rows = [
        ResultRow(
            experiment="main", target="surface", split="test", zone="interior", method=method, method_b=method_b, metric="rmse",
            unit="mm", value=estimate.value, ci_low=estimate.ci_low, ci_high=estimate.ci_high, n=estimate.n, seed=0,
        )
        for (method, method_b), estimate in {**estimates, ("splathead", "bilinear"): paired}.items()
    ]  # fmt: skip
    write_results(tmp_path / "depth.csv", rows)
    bilinear, alone, difference = read_results(tmp_path / "depth.csv")
    assert (bilinear.method, alone.method_b, difference.method_b) == ("bilinear", "", "bilinear")
    assert alone.ci_high > bilinear.ci_low  # apart, the intervals overlap
    assert difference.ci_high < 0  # paired, the better method is better
    assert difference.value == pytest.approx(alone.value - bilinear.value, rel=1e-4)
