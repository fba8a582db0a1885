"""Intervals of a depth code: forward operators on known surfaces, projection against a slow reference, what stays untouched."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from analytic_surfaces import head_view, plane_depth

from splathead.cameras import orbit_camera
from splathead.images import DepthEncoding, DepthMap
from splathead.intervals import KERNELS, Operator, differences, project, trusted_cells, violation
from splathead.maps.degrade import SPLAT_DILATION
from splathead.metrics.depth import INTERVAL_TOLERANCE_LSB
from splathead.metrics.zones import ZoneSettings
from splathead.models.interpolation import upsample_spline

SIZE, FACTOR = 256, 4
ZONES = ZoneSettings(8, 30.0)  # a pixel is 1.5 mm wide
UNFITTED = ("area", "antialiased")


def coded(depth: np.ndarray, operator: Operator, bits: int = 8) -> DepthMap:
    """What a low-resolution pixel says that reads ``depth`` exactly as ``operator`` does."""
    low, mask = operator.read(depth, depth > 0, FACTOR)
    encoding = DepthEncoding.from_depth(low, mask, bits, "mm")
    return DepthMap(*encoding.decode(encoding.encode(low, mask)), encoding, orbit_camera(0, 0, SIZE // FACTOR), "coded")


def surface(kind: str) -> np.ndarray:
    if kind == "ellipsoid":
        return head_view(SIZE)[1]
    return plane_depth(orbit_camera(0, 0, SIZE), (0.2, -0.1, np.sqrt(0.95)), 450.0)


def out(depth: np.ndarray, lr: DepthMap, operator: Operator, cells: np.ndarray) -> float:
    """The largest excess over half a step of the cells' readings, in steps."""
    return float(np.abs(differences(depth, lr, operator, cells)).max() / lr.encoding.lsb - 0.5)


def test_operators_read_planes_and_parabolas_as_theory_says():
    depth = surface("plane")
    middle = (depth[1::4, 1::4] + depth[2::4, 2::4]) / 2  # the cell's centre
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5 - SIZE / 2
    bowl = (500 - 0.01 * (x**2 + y**2)).astype(np.float32)
    centre = 500 - 0.01 * (x[1::4, 1::4] + 0.5) ** 2 - 0.01 * (y[1::4, 1::4] + 0.5) ** 2
    variance = {"area": (FACTOR**2 - 1) / 12, "antialiased": SPLAT_DILATION * FACTOR**2}  # px^2, of each axis
    for name in UNFITTED:
        reading, covered = Operator(name).read(depth, depth > 0, FACTOR)
        np.testing.assert_allclose(reading[4:-4, 4:-4], middle[4:-4, 4:-4], atol=4e-3)  # perspective bends it a little
        assert covered.all()
        reading, _ = Operator(name).read(bowl, bowl > 0, FACTOR)
        np.testing.assert_allclose((centre - reading)[4:-4, 4:-4], 0.01 * 2 * variance[name], rtol=0.02)
    shifted, _ = Operator("classic", -0.7).read(depth, depth > 0, FACTOR)
    np.testing.assert_allclose(shifted, Operator("antialiased").read(depth, depth > 0, FACTOR)[0] - 0.7, atol=1e-9)


def test_the_dilation_is_the_rasterisers():
    from splathead.raster import RasterSettings

    assert RasterSettings().dilation == SPLAT_DILATION


@pytest.mark.parametrize("name", UNFITTED)
@pytest.mark.parametrize("kind", ["plane", "ellipsoid"])
@pytest.mark.parametrize("offset_lsb", [1.7, -0.8])
def test_a_wrong_offset_comes_back_into_the_intervals(kind, name, offset_lsb):
    depth, operator = surface(kind), Operator(name)
    lr = coded(depth, operator)
    cells = trusted_cells(depth, lr, operator, ZONES)
    moved = np.where(depth > 0, depth + offset_lsb * lr.encoding.lsb, 0).astype(np.float32)
    assert cells.sum() > 50 and out(moved, lr, operator, cells) > 0.25
    found = project(moved, lr, operator, ZONES)
    assert out(found, lr, operator, cells) <= INTERVAL_TOLERANCE_LSB
    inner = np.kron(cells, np.ones((FACTOR, FACTOR), bool))
    assert np.abs(found - depth)[inner].mean() < 0.75 * abs(offset_lsb) * lr.encoding.lsb
    np.testing.assert_array_equal(found > 0, depth > 0)


@pytest.mark.parametrize("name", UNFITTED)
def test_depth_inside_keeps_every_bit_and_a_dent_moves_its_neighbourhood_alone(name):
    depth, operator = surface("ellipsoid"), Operator(name)
    lr = coded(depth, operator)
    np.testing.assert_array_equal(project(depth, lr, operator, ZONES).view(np.int32), depth.view(np.int32))
    dented = depth.copy()
    dented[120:124, 120:124] += 6 * lr.encoding.lsb  # one cell
    found = project(dented, lr, operator, ZONES)
    rows, columns = np.nonzero(found != dented)
    assert len(rows) and min(rows.min(), columns.min()) >= 96 and max(rows.max(), columns.max()) < 148
    assert out(found, lr, operator, trusted_cells(dented, lr, operator, ZONES)) <= 0.05 < out(
        dented, lr, operator, trusted_cells(dented, lr, operator, ZONES)
    )


def slow_projection(depth: np.ndarray, lr: DepthMap, operator: Operator, cells: np.ndarray, rounds: int) -> np.ndarray:
    """The definition: every round reads the high-resolution map and subtracts the enlarged excess from it."""
    z, bound = depth.astype(np.float64), 0.48 * lr.encoding.lsb
    for _ in range(rounds):
        reading = operator.read(z, depth > 0, FACTOR)[0]
        left = np.zeros(cells.shape)
        for i, j in np.argwhere(cells):
            excess = reading[i, j] - lr.depth[i, j]
            if abs(excess) > (0.5 + INTERVAL_TOLERANCE_LSB) * lr.encoding.lsb:
                left[i, j] = excess - np.clip(excess, -bound, bound)
        z -= upsample_spline(torch.from_numpy(left)[None, None], FACTOR)[0, 0].numpy() * (depth > 0)
    return z


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_projection_equals_the_slow_reference(name):
    depth, operator = surface("ellipsoid"), Operator(name, 0.3 if name == "classic" else 0.0)
    lr = coded(depth, Operator(name))
    noise = np.random.default_rng(3).normal(0, 1.5, depth.shape)
    noisy = np.where(depth > 0, depth + noise + 0.6 * lr.encoding.lsb, 0).astype(np.float32)
    cells = trusted_cells(noisy, lr, operator, ZONES)
    found, expected = project(noisy, lr, operator, ZONES), slow_projection(noisy, lr, operator, cells, 60)
    assert np.abs(found - noisy).max() > 0.2
    np.testing.assert_allclose(found, np.where(depth > 0, expected, 0), atol=0.02 * lr.encoding.lsb)


def test_silhouettes_jumps_and_holes_are_left_alone():
    depth, operator = surface("plane"), Operator("area")
    depth[:, 128:] += 80  # a jump
    depth[40:80, 40:80] = 0  # a hole
    depth[:, 240:] = 0
    lr = coded(depth, operator)
    cells = trusted_cells(depth, lr, operator, ZONES)
    zone = np.kron(cells, np.ones((FACTOR, FACTOR), bool))
    assert not zone[:, 120:136].any() and not zone[36:84, 36:84].any() and not zone[:, 232:].any() and not zone[:8].any()
    assert zone[120:200, 40:80].all() and zone[120:200, 180:200].all()
    wrong = np.where(depth > 0, depth + 2 * lr.encoding.lsb, 0).astype(np.float32)
    found = project(wrong, lr, operator, ZONES)
    assert (found != wrong)[120:200, 40:80].all()
    for box in (np.s_[:, 126:130], np.s_[39:81, 39:81], np.s_[:, 238:], np.s_[:2]):
        np.testing.assert_array_equal(found[box], wrong[box])
    empty = np.zeros_like(depth)
    np.testing.assert_array_equal(project(empty, lr, operator, ZONES), empty)
    lone = np.where(np.arange(SIZE) < 16, depth, 0).astype(np.float32)  # too narrow for a cell away from its edges
    np.testing.assert_array_equal(project(lone, lr, operator, ZONES), lone)


def test_an_input_that_jumps_below_a_smooth_prediction_is_not_trusted():
    depth, operator = surface("plane"), Operator("area")
    step = depth + np.where(np.arange(SIZE) < 128, 0, 60)
    lr = coded(step.astype(np.float32), operator)
    ramp = (depth + np.clip((np.arange(SIZE) - 124) / 8, 0, 1) * 60).astype(np.float32)  # 7.5 mm a pixel
    cells = trusted_cells(ramp, lr, operator, ZONES)
    assert not cells[:, 30:34].any() and cells[5:-5, 5:25].all()


def test_violation_counts_from_half_a_step():
    encoding = DepthEncoding(100.0, 354.0, 8, "mm")  # steps of 1 mm
    assert violation(np.array([0.2, -0.49, 0.5, 0.51, -3.0]), encoding) == pytest.approx(0.4)
    assert np.isnan(violation(np.array([]), encoding))


def test_what_does_not_fit_is_refused():
    depth = surface("plane")
    lr = coded(depth, Operator("area"))
    with pytest.raises(ValueError, match=r"shape \(254, 256\) for an input of shape \(64, 64\)"):
        project(depth[:254], lr, Operator("area"), ZONES)
    with pytest.raises(ValueError, match="operator 'box', expected one of area, antialiased, classic"):
        Operator("box")
    with pytest.raises(ValueError, match="offset nan"):
        Operator("classic", float("nan"))
