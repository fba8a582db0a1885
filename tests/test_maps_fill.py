"""Extension beyond the mask and hole filling: against slow references, exact surfaces and an 8-bit copy."""

import numpy as np
import pytest
from analytic_surfaces import head_view

from splathead.maps.fill import extend_depth, fill_nearest, fill_smooth


def slow_push_pull(depth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The definition, pixel by pixel."""
    height, width = depth.shape
    if mask.all():
        return depth
    rows, columns = (height + 1) // 2, (width + 1) // 2
    coarse, known = np.zeros((rows, columns)), np.zeros((rows, columns), bool)
    for i in range(rows):
        for j in range(columns):
            cell = (slice(2 * i, 2 * i + 2), slice(2 * j, 2 * j + 2))
            known[i, j] = mask[cell].any()
            coarse[i, j] = depth[cell][mask[cell]].mean() if known[i, j] else 0
    coarse = slow_push_pull(coarse, known)
    result = depth.astype(float).copy()
    for v, u in zip(*np.nonzero(~mask)):
        y, x = (v + 0.5) / 2 - 0.5, (u + 0.5) / 2 - 0.5
        i, j = int(np.floor(y)), int(np.floor(x))
        value = 0.0
        for di, dj in ((0, 0), (0, 1), (1, 0), (1, 1)):
            weight = (1 - abs(y - i - di)) * (1 - abs(x - j - dj))
            value += weight * coarse[np.clip(i + di, 0, rows - 1), np.clip(j + dj, 0, columns - 1)]
        result[v, u] = value
    return result


@pytest.mark.parametrize("shape", [(16, 16), (13, 9), (1, 7), (30, 17)])
def test_extend_depth_equals_the_slow_reference(shape):
    rng = np.random.default_rng(0)
    depth, mask = rng.uniform(400, 500, shape).astype(np.float32), rng.random(shape) < 0.15
    mask[0, 0] = True
    np.testing.assert_allclose(extend_depth(np.where(mask, depth, 0), mask), slow_push_pull(depth, mask), rtol=1e-6)


def test_extend_depth_keeps_the_inside_and_mixes_no_zeros():
    _, depth = head_view(250)
    mask = depth > 0
    extended = extend_depth(depth, mask)
    np.testing.assert_array_equal(extended[mask], depth[mask])
    assert extended.min() >= depth[mask].min() and extended.max() <= depth.max()
    with pytest.raises(ValueError, match="empty mask"):
        extend_depth(depth, np.zeros_like(mask))
    with pytest.raises(ValueError, match="expected the same"):
        extend_depth(depth, mask[1:])


def quadratic_surface(size: int = 96) -> np.ndarray:
    y, x = np.mgrid[:size, :size].astype(np.float64)
    return (450 + 0.2 * x - 0.1 * y + 0.004 * (x - 50) ** 2 + 0.003 * (y - 40) ** 2 + 0.002 * x * y).astype(np.float32)


def disc(size: int, row: float, column: float, radius: float) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return (y - row) ** 2 + (x - column) ** 2 < radius**2


def test_hole_filling_keeps_16_bit_precision():
    depth = quadratic_surface()
    hole = disc(96, 48, 50, 14)
    filled = fill_smooth(np.where(hole, 0, depth), ~hole, hole)
    lsb16, lsb8 = (np.ptp(depth) / steps for steps in (65534, 254))
    error = np.abs(filled - depth)[hole].max()
    assert error < lsb16 / 2
    # what the published study did: a copy of the map in 8 bits, which no filling can repair
    eight_bit = np.rint((depth - depth.min()) / lsb8) * lsb8 + depth.min()
    assert np.abs(fill_smooth(eight_bit, ~hole, hole) - depth)[hole].max() > 50 * error
    np.testing.assert_array_equal(filled[~hole], depth[~hole])


def test_fill_smooth_follows_a_head_better_than_a_membrane():
    _, depth = head_view(512)
    mask, hole = depth > 0, disc(512, 250, 260, 19)
    filled = fill_smooth(depth, mask & ~hole, hole)
    assert np.abs(filled - depth)[hole].max() < 0.1
    rng = np.random.default_rng(0)
    noisy = depth + rng.normal(0, 0.5, depth.shape).astype(np.float32)
    assert np.sqrt(np.mean((fill_smooth(noisy, mask & ~hole, hole) - depth)[hole] ** 2)) < 0.8


def test_fill_at_the_silhouette_ignores_empty_pixels():
    depth = quadratic_surface()
    mask = disc(96, 48, 48, 30)
    notch = disc(96, 48, 76, 4) & mask  # touches the outside
    filled = fill_smooth(np.where(mask & ~notch, depth, 0), mask & ~notch, notch)
    assert np.abs(filled - depth)[notch].max() < 2.0
    assert (filled[~mask] == 0).all()


def test_fill_smooth_across_a_jump_stays_between_its_sides():
    depth = np.where(np.arange(64) < 32, 400, 480).astype(np.float32) * np.ones((64, 1), np.float32)
    hole = disc(64, 32, 32, 10)
    filled = fill_smooth(depth, ~hole, hole)
    assert filled.min() >= 399.9 and filled.max() <= 480.1


def test_fill_errors():
    depth, hole = quadratic_surface(32), disc(32, 16, 16, 4)
    with pytest.raises(ValueError, match="both known and a hole"):
        fill_smooth(depth, np.ones_like(hole), hole)
    with pytest.raises(ValueError, match="1 of 1 holes have no known pixel"):
        fill_smooth(depth, np.zeros_like(hole), hole)
    with pytest.raises(ValueError, match="no known pixel"):
        fill_nearest(depth, np.zeros_like(hole), hole, 2.0)
    np.testing.assert_array_equal(fill_smooth(depth, ~hole, np.zeros_like(hole)), np.where(hole, 0, depth))


def test_fill_nearest_smooths_only_the_hole():
    depth = np.where(np.arange(64) < 32, 400, 410).astype(np.float32) * np.ones((64, 1), np.float32)
    hole = disc(64, 32, 32, 12)
    mask = disc(64, 32, 32, 28)
    filled = fill_nearest(np.where(mask & ~hole, depth, 0), mask & ~hole, hole, 3.0)
    np.testing.assert_array_equal(filled[mask & ~hole], depth[mask & ~hole])
    assert filled[32, 22] == pytest.approx(400, abs=0.2) and filled[32, 42] == pytest.approx(410, abs=0.2)
    across = np.diff(filled[32, 21:44])
    assert across.max() < 3 and (across > -0.2).all()  # a ramp instead of the 10 mm step
