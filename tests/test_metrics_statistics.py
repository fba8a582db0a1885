"""Bootstrap over identities: centre, coverage, pairing, grouping."""

from __future__ import annotations

import math

import numpy as np
import pytest

from splathead.metrics.statistics import _expanded_tail, bootstrap_intervals, bootstrap_mean, identity_means, paired_difference


def test_identities_weigh_the_same_however_many_views_they_have():
    values, identities = [1.0, 1.0, 1.0, 4.0], ["a", "a", "a", "b"]
    np.testing.assert_allclose(identity_means(values, identities), [1.0, 4.0])
    assert bootstrap_mean(values, identities).value == 2.5


def test_nan_is_undefined_and_left_out():
    estimate = bootstrap_mean([1.0, math.nan, 3.0, math.nan], ["a", "a", "b", "c"])
    assert (estimate.value, estimate.n) == (2.0, 2)
    with pytest.raises(ValueError, match="no defined value"):
        bootstrap_mean([math.nan], ["a"])
    with pytest.raises(ValueError, match="infinite value for identity 'b'"):
        bootstrap_mean([1.0, math.inf], ["a", "b"])
    with pytest.raises(ValueError, match="equal lengths"):
        bootstrap_mean([1.0, 2.0], ["a"])
    with pytest.raises(ValueError, match="level"):
        bootstrap_mean([1.0, 2.0], ["a", "b"], level=95)


def test_one_identity_has_no_interval_and_equal_values_have_an_empty_one():
    single = bootstrap_mean([1.0, 2.0], ["a", "a"])
    assert single.ci_low is None and single.ci_high is None and single.n == 1 and not single.excludes_zero
    constant = bootstrap_mean([0.1] * 7, list("abcdefg"))
    assert constant.ci_low <= constant.value <= constant.ci_high
    assert constant.ci_high - constant.ci_low < 1e-12 and constant.excludes_zero


def test_same_seed_same_interval():
    values, identities = np.random.default_rng(0).normal(size=20), [str(i) for i in range(20)]
    assert bootstrap_mean(values, identities, seed=3) == bootstrap_mean(values, identities, seed=3)
    assert bootstrap_mean(values, identities, seed=3) != bootstrap_mean(values, identities, seed=4)


@pytest.mark.parametrize(("identities", "views"), [(6, 4), (12, 2), (30, 1)])
def test_interval_covers_the_truth_about_95_times_in_100(identities, views):
    """Views share their identity's effect, so intervals over views would cover far too rarely."""
    rng = np.random.default_rng(1)
    names = np.repeat([f"id{i}" for i in range(identities)], views)
    covered, trials = 0, 300
    for trial in range(trials):
        values = 5.0 + np.repeat(rng.normal(size=identities), views) + 0.2 * rng.normal(size=len(names))
        estimate = bootstrap_mean(values, names, resamples=2000, seed=trial)
        covered += estimate.ci_low <= 5.0 <= estimate.ci_high
    assert 0.91 <= covered / trials <= 0.99  # the binomial standard error is 0.013


def test_level_orders_the_widths():
    values, names = np.random.default_rng(2).normal(size=15), [str(i) for i in range(15)]
    widths = [(e.ci_high - e.ci_low) for e in (bootstrap_mean(values, names, level=level) for level in (0.5, 0.8, 0.95, 0.99))]
    assert widths == sorted(widths)


def test_pairing_removes_the_spread_between_identities():
    rng = np.random.default_rng(0)
    names = np.repeat([f"id{i}" for i in range(12)], 3)
    difficulty = np.repeat(rng.normal(scale=3.0, size=12), 3)
    a = 1.0 + difficulty + rng.normal(scale=0.05, size=36)
    b = 1.2 + difficulty + rng.normal(scale=0.05, size=36)
    paired = paired_difference(a, b, names)
    alone = bootstrap_mean(a, names)
    assert paired.value == pytest.approx(-0.2, abs=0.05)
    assert paired.excludes_zero and paired.ci_high < 0
    assert paired.ci_high - paired.ci_low < 0.05 * (alone.ci_high - alone.ci_low)
    swapped = paired_difference(b, a, names)
    assert swapped.value == pytest.approx(-paired.value)
    with pytest.raises(ValueError, match="same rows"):
        paired_difference(a, b[:-1], names)


def test_many_measures_at_once_have_the_intervals_of_one_at_a_time():
    means = np.random.default_rng(3).normal(size=(7, 5))
    low, high = bootstrap_intervals(means, resamples=500, seed=2)
    heads = [f"head_{i}" for i in range(7)]
    for column in range(5):
        alone = bootstrap_mean(means[:, column], heads, resamples=500, seed=2)
        assert (low[column], high[column]) == pytest.approx((alone.ci_low, alone.ci_high), abs=1e-12)
    # by definition: quantiles of the resampled means
    indices = np.random.default_rng(2).integers(0, 7, size=(500, 7))
    tail = _expanded_tail(7, 0.95)
    assert low == pytest.approx(np.quantile(means[indices].mean(axis=1), tail, axis=0))
    single = bootstrap_intervals(means[:1])
    assert (single[0] == means[0]).all() and (single[1] == means[0]).all()


def test_the_tail_is_hesterbergs():
    from scipy.stats import norm, t

    for n in (2, 6, 30):
        assert _expanded_tail(n, 0.9) == pytest.approx(norm.sf(math.sqrt(n / (n - 1)) * t.isf(0.05, n - 1)), rel=1e-9)
