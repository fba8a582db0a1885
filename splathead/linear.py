"""Linear systems with a symmetric positive definite matrix that is only applied, never factored."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def conjugate_gradients(
    apply: Callable[[np.ndarray], np.ndarray], right_side: np.ndarray, diagonal: np.ndarray, steps: int, tolerance: float
) -> np.ndarray:
    """About the solution [N] of A x = right_side, from x = 0, preconditioned by A's diagonal (Hestenes & Stiefel 1952).

    ``apply`` gives A x; it ends after ``steps``, or once the preconditioned squared residual has fallen by ``tolerance``.
    """
    x, r = np.zeros_like(right_side), right_side.copy()
    scaled = r / diagonal
    p, product = scaled.copy(), dot(r, scaled)
    goal = tolerance * product
    for _ in range(steps):
        if product <= goal:
            break
        image = apply(p)
        length = product / dot(p, image)
        x += length * p
        r -= length * image
        scaled = r / diagonal
        before, product = product, dot(r, scaled)
        p = scaled + (product / before) * p
    return x


def dot(a: np.ndarray, b: np.ndarray) -> float:
    """Inner product, not by BLAS, whose order of summation depends on its number of threads."""
    return float(np.einsum("i,i->", a, b))
