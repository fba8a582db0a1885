"""Sizes at which a method that enlarges works on renders of Gaussians: those it knows, whatever size is asked for."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

KNOWN_SIDE = 256
"""Side of the low-resolution renders of the study. From renders of 128 pixels its network's error doubles (eval/LOG.md)."""
KNOWN_FACTOR = 4
FACTORS = range(2, 17)
MULTIPLE = 64
"""Sides of other multiples have no whole factors that lead to renders near the known side"""
COVERED = 0.5
"""Share of a cell that must have values for their mean to be kept"""


@dataclass(frozen=True)
class Sampling:
    """A render of side ``low`` is enlarged by ``factor`` and then reduced, both whole, to the side asked for."""

    low: int
    factor: int
    reduction: int

    @property
    def side(self) -> int:
        """Of the enlarged map."""
        return self.low * self.factor

    @classmethod
    def of(cls, resolution: int, factor: int | None = None) -> Sampling:
        """For maps of side ``resolution``: renders as near to :data:`KNOWN_SIDE` as whole factors let them be.

        ``factor``: the only one that the method has. ValueError for a side that is no multiple of :data:`MULTIPLE`.
        """
        if resolution % MULTIPLE:
            raise ValueError(f"--resolution {resolution}, expected a multiple of {MULTIPLE} for a method that enlarges renders")
        least = -(-KNOWN_SIDE * (factor or KNOWN_FACTOR) // resolution)
        reduction = next(r for r in itertools.count(max(1, least)) if resolution * r % (factor or 1) == 0)
        side = resolution * reduction
        best = factor or min((f for f in FACTORS if side % f == 0), key=lambda f: abs(np.log(side / f / KNOWN_SIDE)))
        return cls(side // best, best, reduction)


def reduced(values: np.ndarray, reduction: int, jump: float) -> np.ndarray:
    """Map [H, W], 0 = nothing, to [H / reduction, W / reduction], both whole: each cell's mean within ``jump`` of its median.

    ``jump``: difference that separates surfaces; the mean of both sides of an edge would lie on neither.
    """
    if reduction == 1:
        return values
    height, width = values.shape
    cells = values.reshape(height // reduction, reduction, width // reduction, reduction).swapaxes(1, 2)
    cells = cells.reshape(height // reduction, width // reduction, reduction**2)
    count = (cells > 0).sum(axis=-1, keepdims=True)
    ordered = np.sort(np.where(cells > 0, cells, np.inf), axis=-1)
    median = np.take_along_axis(ordered, np.maximum(count - 1, 0) // 2, axis=-1)  # the lower one: a value of the nearer side
    same = (cells > 0) & (np.abs(cells - median) <= jump)
    mean = np.where(same, cells, 0).sum(axis=-1) / np.maximum(same.sum(axis=-1), 1)
    return np.where(count[..., 0] >= COVERED * reduction**2, mean, 0).astype(values.dtype)
