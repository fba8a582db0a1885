"""Bootstrap confidence intervals over identities.

Views of one head are not independent, so the head (identity) is the unit that is resampled: values are
averaged per identity first. Intervals are at the 95 % level unless told otherwise.

With few identities the plain percentile interval is too narrow. We use Hesterberg's *expanded* percentile
interval (T. Hesterberg, "What Teachers Should Know about the Bootstrap", The American Statistician 69(4),
2015, section 4.5): the tail probability alpha/2 is replaced by Phi(-sqrt(n / (n - 1)) t_{1-alpha/2, n-1}),
which undoes both the (n-1)/n bias of the bootstrap variance and the missing t correction. For a handful of
identities it ends at the extremes of the resampled means, the widest that resampling can say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

CONFIDENCE_LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean with its confidence interval; ``n`` identities. The interval is None when n = 1."""

    value: float
    ci_low: float | None
    ci_high: float | None
    n: int

    @property
    def excludes_zero(self) -> bool:
        """True when the interval exists and lies on one side of zero."""
        return self.ci_low is not None and (self.ci_low > 0 or self.ci_high < 0)


def identity_means(values: np.ndarray | Sequence[float], identities: Sequence[str]) -> np.ndarray:
    """Mean of ``values`` [N] per identity, [n] float64 in sorted order of identity.

    NaN marks a measure that is undefined in a view (an empty zone, say) and is left out; an identity whose
    values are all NaN is left out too. Infinities and lengths that differ are errors.
    """
    values, identities = np.asarray(values, dtype=np.float64), np.asarray(identities)
    if values.ndim != 1 or values.shape != identities.shape:
        raise ValueError(f"values of shape {values.shape} for identities of shape {identities.shape}, expected equal lengths")
    if np.isinf(values).any():
        first = str(identities[np.isinf(values)][0])
        raise ValueError(f"infinite value for identity {first!r}, expected finite or NaN (undefined)")
    defined = ~np.isnan(values)
    if not defined.any():
        raise ValueError("no defined value: nothing to average")
    _, group = np.unique(identities[defined], return_inverse=True)
    return np.bincount(group, weights=values[defined]) / np.bincount(group)


def bootstrap_mean(
    values: np.ndarray | Sequence[float],
    identities: Sequence[str],
    *,
    level: float = CONFIDENCE_LEVEL,
    resamples: int = 10_000,
    seed: int = 0,
) -> Estimate:
    """Mean over identities of the per-identity mean, with a bootstrap interval over identities.

    Args:
        values: one value per row (view), [N]; NaN = undefined, see :func:`identity_means`.
        identities: identity of each row, [N].
        level: confidence level.
        resamples: bootstrap resamples.
        seed: of the resampling; the same seed gives the same interval.
    """
    means = identity_means(values, identities)
    low, high = bootstrap_intervals(means[:, None], level=level, resamples=resamples, seed=seed)
    interval = (None, None) if len(means) == 1 else (float(low[0]), float(high[0]))
    return Estimate(float(means.mean()), *interval, len(means))


def bootstrap_intervals(
    means: np.ndarray, *, level: float = CONFIDENCE_LEVEL, resamples: int = 10_000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Intervals [M], [M] of the means over identities of M measures at once.

    Args:
        means: per-identity means [n, M], finite.
        level, resamples, seed: as in :func:`bootstrap_mean`. All measures see the same resamples.

    One identity says nothing about their spread: both ends are then its value.
    """
    if not 0 < level < 1:
        raise ValueError(f"confidence level {level}, expected between 0 and 1")
    n = len(means)
    centre = means.mean(axis=0)
    if n == 1:
        return centre, centre
    tail = _expanded_tail(n, level)
    resampled = np.ascontiguousarray((_resample_weights(n, resamples, seed) @ means).T)
    low, high = np.quantile(resampled, (tail, 1 - tail), axis=1)
    # rounding of sums may leave a constant sample's mean an ulp outside its own interval
    return np.minimum(low, centre), np.maximum(high, centre)


@cache
def _resample_weights(n: int, resamples: int, seed: int) -> np.ndarray:
    """Share [resamples, n] that each identity has in each resample."""
    indices = np.random.default_rng(seed).integers(0, n, size=(resamples, n))
    rows = n * np.arange(resamples)[:, None]
    return np.bincount((rows + indices).ravel(), minlength=resamples * n).reshape(resamples, n) / n


def paired_difference(
    values: np.ndarray | Sequence[float],
    values_b: np.ndarray | Sequence[float],
    identities: Sequence[str],
    *,
    level: float = CONFIDENCE_LEVEL,
    resamples: int = 10_000,
    seed: int = 0,
) -> Estimate:
    """Mean of ``values - values_b`` with a bootstrap interval; row i of both is the same view of the same head.

    Pairing removes the spread between identities, which usually exceeds the difference between methods.
    A row where either is NaN is left out.
    """
    values, values_b = np.asarray(values, dtype=np.float64), np.asarray(values_b, dtype=np.float64)
    if values.shape != values_b.shape:
        raise ValueError(f"paired values of shapes {values.shape} and {values_b.shape}, expected the same rows in both")
    return bootstrap_mean(values - values_b, identities, level=level, resamples=resamples, seed=seed)


def _expanded_tail(n: int, level: float) -> float:
    from scipy.special import ndtr, stdtrit  # scipy.stats would take a second to import

    return float(ndtr(math.sqrt(n / (n - 1)) * stdtrit(n - 1, (1 - level) / 2)))
