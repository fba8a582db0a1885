"""Measures of a predicted error scale against what is known of Laplace errors and of orders."""

from __future__ import annotations

import math

import numpy as np
import pytest

from splathead.metrics.uncertainty import LEVELS, ause, evaluate_uncertainty, interval_coverage, laplace_nll

N = 200_000


@pytest.fixture(scope="module")
def laplace() -> tuple[np.ndarray, np.ndarray]:
    """Errors [N] of Laplace distributions with scales [N] over two orders of magnitude."""
    rng = np.random.default_rng(0)
    scale = np.exp(rng.uniform(-3, 1.6, N))
    return rng.laplace(0, scale), scale


def test_true_scales_cover_what_the_level_says(laplace):
    np.testing.assert_allclose(interval_coverage(*laplace), LEVELS, atol=0.004)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_wrong_scales_cover_what_the_distribution_says(laplace, factor):
    error, scale = laplace  # P(|e| <= -f b log(1 - p)) = 1 - (1 - p)^f
    np.testing.assert_allclose(interval_coverage(error, factor * scale), 1 - (1 - np.array(LEVELS)) ** factor, atol=0.004)


def test_an_intervals_end_belongs_to_it():
    half = -math.log(0.5)
    assert interval_coverage(np.array([half, -half, 1.01 * half, 0]), np.ones(4))[0] == 0.75


def test_nll_is_the_entropy_at_the_true_scale_and_larger_at_others(laplace):
    error, scale = laplace
    entropy = np.mean(1 + np.log(2 * scale))
    assert laplace_nll(error, scale) == pytest.approx(entropy, abs=0.01)
    for factor in (0.5, 2.0):  # Kullback-Leibler divergence log f + 1 / f - 1
        expected = entropy + math.log(factor) + 1 / factor - 1
        assert laplace_nll(error, factor * scale) == pytest.approx(expected, abs=0.02)
    assert laplace_nll(1000 * error, 1000 * scale) - laplace_nll(error, scale) == pytest.approx(math.log(1000))


def test_a_perfect_order_has_no_area_whatever_the_scales_unit(laplace):
    error = laplace[0]
    for scale in (np.abs(error) + 1e-9, 1e4 * np.sqrt(np.abs(error)) + 1e-9):
        assert ause(error, scale) == pytest.approx((0, 0), abs=1e-12)


def test_areas_of_few_pixels_by_hand():
    """Errors 1, 2, 3 in the worst order: left are 3; 3, 2; all. The oracle leaves 1; 1, 2; all."""
    error, scale = np.array([1.0, -2.0, 3.0]), np.array([3.0, 2.0, 1.0])
    mae = ((3 - 1) + (2.5 - 1.5)) / 3 / 2
    rms = [math.sqrt(x) for x in (9, 13 / 2, 14 / 3, 1, 5 / 2)]
    assert ause(error, scale) == pytest.approx((((rms[0] - rms[3]) + (rms[1] - rms[4])) / 3 / rms[2], mae))
    assert ause(1e-200 * error, scale) == pytest.approx(ause(error, scale))


def test_a_constant_scale_is_a_random_order_with_the_area_of_exponential_errors(laplace):
    """Of |e| ~ Exp(1) the oracle leaves the smallest share q with mean (q + (1 - q) log(1 - q)) / q; integrated from 0 to 1
    with 1 - that: 1 - (2 - pi^2 / 6) = pi^2 / 6 - 1."""
    rng = np.random.default_rng(1)
    error = rng.laplace(0, 1, N)
    constant, shuffled = ause(error, np.ones(N)), ause(error, rng.uniform(1, 2, N))
    assert constant[1] == pytest.approx(math.pi**2 / 6 - 1, abs=0.01)
    assert constant == pytest.approx(shuffled, abs=0.01)
    true_order, no_order = ause(*laplace), ause(laplace[0], rng.permutation(laplace[1]))
    worst = ause(laplace[0], 1 / (np.abs(laplace[0]) + 1e-9))
    for k in range(2):
        assert 0 < true_order[k] < 0.5 * no_order[k] and no_order[k] < worst[k]


def test_ties_do_not_depend_on_the_order_of_pixels():
    rng = np.random.default_rng(2)
    error, scale = rng.normal(size=1000), rng.integers(1, 5, 1000).astype(float)
    order = rng.permutation(1000)
    assert ause(error, scale) == pytest.approx(ause(error[order], scale[order]), rel=1e-12)


def test_scores_of_a_mask_ignore_what_lies_outside(laplace):
    error, scale = (values.reshape(400, 500).copy() for values in laplace)
    mask = np.zeros(error.shape, bool)
    mask[:, 250:] = True
    error[~mask], scale[~mask] = np.nan, 0
    found = evaluate_uncertainty(error, scale, mask)
    assert found.n_pixels == mask.sum()
    levels = [getattr(found, f"interval_coverage_{level:.0%}".rstrip("%")) for level in LEVELS]
    assert levels == interval_coverage(error[mask], scale[mask]).tolist()
    assert (found.ause_rmse, found.ause_mae) == ause(error[mask], scale[mask])
    assert found.nll == laplace_nll(error[mask], scale[mask])


def test_what_is_undefined_is_nan():
    empty = evaluate_uncertainty(np.ones((2, 2)), np.ones((2, 2)), np.zeros((2, 2), bool))
    assert empty.n_pixels == 0 and math.isnan(empty.interval_coverage_50) and math.isnan(empty.nll)
    exact = evaluate_uncertainty(np.zeros((2, 2)), np.ones((2, 2)), np.ones((2, 2), bool))
    assert math.isnan(exact.ause_mae) and exact.interval_coverage_50 == 1 and exact.nll == pytest.approx(math.log(2))


def test_bad_input_is_refused():
    ones, mask = np.ones((2, 2)), np.ones((2, 2), bool)
    with pytest.raises(ValueError, match=r"shapes \(2, 2\), \(2, 3\), \(2, 2\), expected the same"):
        evaluate_uncertainty(ones, np.ones((2, 3)), mask)
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match=f"predicted error scale {bad}, expected finite and above 0"):
            evaluate_uncertainty(ones, np.where(np.eye(2) > 0, bad, 1), mask)
    with pytest.raises(ValueError, match="an error is NaN or infinite"):
        evaluate_uncertainty(np.full((2, 2), np.nan), ones, mask)
