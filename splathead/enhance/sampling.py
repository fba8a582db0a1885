"""Sizes at which a method that enlarges works on renders of Gaussians: those it knows, whatever size is asked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

KNOWN_SIDE = 256
"""Side of the low-resolution renders of the study. From renders of 128 pixels its network's error doubles (eval/LOG.md)."""
KNOWN_FACTOR = 4
MAX_FACTOR = 16
COVERED = 0.5
"""Share of a cell that must have depth for its mean to be kept"""


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

        ``factor``: the only one that the method has; ValueError where it does not divide the side.
        """
        reduction = max(1, -(-KNOWN_SIDE * KNOWN_FACTOR // resolution))
        side = resolution * reduction
        factors = [f for f in range(2, MAX_FACTOR + 1) if side % f == 0] if factor is None else [factor]
        if side % factors[0]:
            raise ValueError(f"--resolution {resolution}, expected a multiple of {factor} for a network of that factor")
        best = min(factors, key=lambda f: abs(np.log(side / f / KNOWN_SIDE)))
        return cls(side // best, best, reduction)


def reduced(depth: np.ndarray, reduction: int, jump: float) -> np.ndarray:
    """Depth [H, W], 0 = nothing, to [H / reduction, W / reduction]: each cell's mean over its nearest surface.

    ``jump``: depth difference that separates surfaces; the mean of both sides of an edge would lie on neither.
    """
    if reduction == 1:
        return depth
    height, width = depth.shape
    cells = depth.reshape(height // reduction, reduction, width // reduction, reduction).swapaxes(1, 2)
    cells = cells.reshape(height // reduction, width // reduction, reduction**2)
    nearest = np.where(cells > 0, cells, np.inf).min(axis=-1, keepdims=True)
    front = (cells > 0) & (cells <= nearest + jump)
    mean = np.where(front, cells, 0).sum(axis=-1) / np.maximum(front.sum(axis=-1), 1)
    return np.where((cells > 0).mean(axis=-1) >= COVERED, mean, 0).astype(depth.dtype)
