"""How well a predicted error scale describes the actual errors: calibration of intervals, and the order of pixels.

The prediction is the scale b of a Laplace distribution per pixel, which is also the expected absolute error. Three questions:

* *coverage*: how often the error lies in the central interval of a level, which is |e| <= -b log(1 - level). A calibrated
  scale covers as much as the level says, a smaller one less.
* *AUSE*, area under the sparsification error curve (E. Ilg et al., "Uncertainty Estimates and Multi-Hypotheses Networks for
  Optical Flow", ECCV 2018): the pixels of the largest predicted scale are removed first, and the error of those left (RMSE or
  MAE, divided by that of all pixels) is a curve over the removed share. The oracle removes the largest errors first; the area
  between both is 0 for a perfect order. It is blind to calibration: only the order of scales counts.
* *negative log likelihood*, log(2b) + |e| / b, which asks for both at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Of the central intervals"""


@dataclass(frozen=True)
class UncertaintyScores:
    """Measures over a set of pixels. NaN = undefined: no pixel, or for the AUSE no error at all."""

    n_pixels: int
    interval_coverage_50: float
    """share of errors in the central 50 % interval, and so on"""
    interval_coverage_80: float
    interval_coverage_90: float
    interval_coverage_95: float
    ause_rmse: float
    ause_mae: float
    nll: float
    """mean, in nats; of the density per unit of the errors: other units shift it by their logarithm"""


def evaluate_uncertainty(error: np.ndarray, scale: np.ndarray, mask: np.ndarray) -> UncertaintyScores:
    """Every measure over the pixels of a mask.

    Args:
        error: predicted minus true depth (or its absolute value) [H, W].
        scale: predicted scale b of its Laplace distribution [H, W], in the same unit, above 0 on the mask.
        mask: pixels that count [H, W] bool.

    ValueError for shapes that differ, an error that is not finite or a scale that is not above 0.
    """
    if not error.shape == scale.shape == mask.shape:
        raise ValueError(f"error, scale and mask of shapes {error.shape}, {scale.shape}, {mask.shape}, expected the same")
    absolute, scale = _checked(error[mask], scale[mask])
    if not len(absolute):
        return UncertaintyScores(0, *[math.nan] * (len(LEVELS) + 3))
    covered = (float(share) for share in interval_coverage(absolute, scale))
    return UncertaintyScores(len(absolute), *covered, *ause(absolute, scale), laplace_nll(absolute, scale))


def interval_coverage(error: np.ndarray, scale: np.ndarray, levels: tuple[float, ...] = LEVELS) -> np.ndarray:
    """Share [L] of errors [N] within the central interval of each level, for scales [N]."""
    error, scale = _checked(error, scale)
    half_width = -np.log1p(-np.asarray(levels))  # in scales
    return np.searchsorted(np.sort(error / scale), half_width, side="right") / len(error)


def laplace_nll(error: np.ndarray, scale: np.ndarray) -> float:
    """Mean negative log likelihood in nats of errors [N] under Laplace distributions of scales [N]."""
    error, scale = _checked(error, scale)
    return float(np.mean(np.log(2 * scale) + error / scale))


def ause(error: np.ndarray, scale: np.ndarray) -> tuple[float, float]:
    """Areas between the sparsification curve of errors [N] by scales [N] and the oracle's: for RMSE and for MAE.

    Every pixel is one step of the curve. Pixels of the same scale count with their mean (squared) error, as in the mean over
    their orders: the result does not depend on the order of pixels, and a constant scale gives a random order's area.
    Both NaN where no pixel has an error.
    """
    error, scale = _checked(error, scale)
    if not error.any():
        return math.nan, math.nan
    relative = error / error.max()  # the curves are normalised anyway, and squares of small numbers vanish
    _, group = np.unique(scale, return_inverse=True)  # ascending: the most certain first
    sizes = np.bincount(group)
    areas = []
    for values, finish in ((relative**2, np.sqrt), (relative, np.asarray)):
        by_scale = np.repeat(np.bincount(group, weights=values) / sizes, sizes)
        curves = [finish(_means_left(ordered)) for ordered in (by_scale, np.sort(values))]
        areas.append(max(0.0, float(np.mean(curves[0] - curves[1]) / curves[1][-1])))  # the sums' rounding may be below 0
    return areas[0], areas[1]


def _means_left(ordered: np.ndarray) -> np.ndarray:
    """Mean [N] of the first 1, 2, .. N values: of those that are left when the others are removed."""
    return np.cumsum(ordered) / np.arange(1, len(ordered) + 1)


def _checked(error: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Absolute error and scale as float64."""
    error, scale = np.abs(np.asarray(error, dtype=np.float64)), np.asarray(scale, dtype=np.float64)
    if error.ndim != 1 or error.shape != scale.shape:
        raise ValueError(f"errors of shape {error.shape} for scales of shape {scale.shape}, expected the same [N]")
    if not np.isfinite(error).all():
        raise ValueError("an error is NaN or infinite, expected finite errors")
    wrong = ~(np.isfinite(scale) & (scale > 0))
    if wrong.any():
        raise ValueError(f"predicted error scale {scale[wrong][0]}, expected finite and above 0")
    return error, scale
