"""Compiled loops of the variational method over the pixels of a grid (numba, one thread: subjects run in parallel processes).

The bending energy's matrix is never made: it would have 13 entries for a pixel, and reading them (156 bytes a product) is what
a product would wait for, the more the more processes share the memory. Stencils are kept as bits instead, one byte a pixel.

Grids are [H, W] float64 with zeros where no surface is; H and W are multiples of ``factor``, the side of a cell in pixels.
Sums are in a fixed order, hence the same bytes on every machine.
"""

from __future__ import annotations

import numba
import numpy as np

XX, YY, XY = 1, 2, 4
"""Bits of a pixel: it is the first (top left) of a stencil of z_xx = z(0) - 2 z(1) + z(2), z_yy, z_xy that counts"""
_LANES = 8


@numba.njit(cache=True, nogil=True)
def find_stencils(inside: np.ndarray, cells: np.ndarray, factor: int, jump: float) -> np.ndarray:
    """Bits [H, W] uint8 of the stencils that lie ``inside`` [H, W] bool and whose cells [h, w] differ by at most ``jump``."""
    height, width = inside.shape
    found = np.zeros((height, width), np.uint8)
    for y in range(height):
        i, down, below = y // factor, min(y + 1, height - 1) // factor, min(y + 2, height - 1) // factor
        for x in range(width):
            if not inside[y, x]:
                continue
            j, right, beyond = x // factor, min(x + 1, width - 1) // factor, min(x + 2, width - 1) // factor
            bits = 0
            if x + 2 < width and inside[y, x + 1] and inside[y, x + 2]:
                a, b, c = cells[i, j], cells[i, right], cells[i, beyond]
                if max(a, b, c) - min(a, b, c) <= jump:
                    bits |= XX
            if y + 2 < height and inside[y + 1, x] and inside[y + 2, x]:
                a, b, c = cells[i, j], cells[down, j], cells[below, j]
                if max(a, b, c) - min(a, b, c) <= jump:
                    bits |= YY
            if y + 1 < height and x + 1 < width and inside[y, x + 1] and inside[y + 1, x] and inside[y + 1, x + 1]:
                a, b, c, d = cells[i, j], cells[i, right], cells[down, j], cells[down, right]
                if max(a, b, c, d) - min(a, b, c, d) <= jump:
                    bits |= XY
            found[y, x] = bits
    return found


@numba.njit(cache=True, nogil=True)
def dot(a: np.ndarray, b: np.ndarray) -> float:
    """Sum of products of two arrays of one dimension, in a fixed order of eight interleaved sums."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    whole = len(a) // _LANES * _LANES
    for i in range(0, whole, _LANES):
        s0 += a[i] * b[i]
        s1 += a[i + 1] * b[i + 1]
        s2 += a[i + 2] * b[i + 2]
        s3 += a[i + 3] * b[i + 3]
        s4 += a[i + 4] * b[i + 4]
        s5 += a[i + 5] * b[i + 5]
        s6 += a[i + 6] * b[i + 6]
        s7 += a[i + 7] * b[i + 7]
    for i in range(whole, len(a)):
        s0 += a[i] * b[i]
    return ((s0 + s4) + (s2 + s6)) + ((s1 + s5) + (s3 + s7))


@numba.njit(cache=True, nogil=True)
def apply_energy(z: np.ndarray, stencils: np.ndarray, pull: np.ndarray, out: np.ndarray) -> float:
    """``out`` [H, W] = B z + each cell's mean of z times its ``pull`` [h, w], on the cell's pixels; returns z . out.

    B is the matrix of sum (z_xx^2 + 2 z_xy^2 + z_yy^2) / 2 times factor^2 over the ``stencils``.
    """
    height, width = z.shape
    factor = height // pull.shape[0]
    scale, share = float(factor * factor), 1.0 / (factor * factor)
    # differences of the rows that a pixel's row sees, each after two zeros: a pixel also sees those to its left
    xx, means = np.zeros(width + 2), np.zeros(width)
    yy0, yy1, yy2, xy0, xy1 = np.zeros((5, width + 2))
    total = 0.0
    for y in range(height):
        if y % factor == 0:
            for j in range(pull.shape[1]):
                mean = 0.0
                if pull[y // factor, j] != 0.0:
                    for dy in range(factor):
                        for dx in range(factor):
                            mean += z[y + dy, j * factor + dx]
                    mean *= pull[y // factor, j] * share
                for dx in range(factor):
                    means[j * factor + dx] = mean
        row, bits = z[y], stencils[y]
        for x in range(width - 2):
            xx[x + 2] = row[x] - 2.0 * row[x + 1] + row[x + 2] if bits[x] & XX else 0.0
        yy0, yy1, yy2 = yy1, yy2, yy0
        xy0, xy1 = xy1, xy0
        if y + 2 < height:
            below, last = z[y + 1], z[y + 2]
            for x in range(width):
                yy2[x + 2] = row[x] - 2.0 * below[x] + last[x] if bits[x] & YY else 0.0
        else:
            yy2[:] = 0.0
        if y + 1 < height:
            below = z[y + 1]
            for x in range(width - 1):
                xy1[x + 2] = row[x] - row[x + 1] - below[x] + below[x + 1] if bits[x] & XY else 0.0
        else:
            xy1[:] = 0.0
        result = out[y]
        for x in range(width):
            bent = xx[x + 2] - 2.0 * xx[x + 1] + xx[x] + yy2[x + 2] - 2.0 * yy1[x + 2] + yy0[x + 2]
            mixed = xy1[x + 2] - xy1[x + 1] - xy0[x + 2] + xy0[x + 1]
            result[x] = scale * (bent + 2.0 * mixed) + means[x]
        total += dot(row, result)
    return total


@numba.njit(cache=True, nogil=True)
def conjugate_gradients(
    right_side: np.ndarray, diagonal: np.ndarray, stencils: np.ndarray, pull: np.ndarray, steps: int, goal: float
) -> np.ndarray:
    """About the solution [H, W] of (B + pull) x = ``right_side``, preconditioned by ``diagonal`` [H, W], which is positive.

    At most ``steps``, until the preconditioned residual's square falls below ``goal`` times the first.
    """
    height, width = right_side.shape
    x, r, image = np.zeros((height, width)), right_side.copy(), np.zeros((height, width))
    p, scaled = np.zeros((height, width)), np.zeros(width)
    product = 0.0
    for y in range(height):
        for k in range(width):
            p[y, k] = r[y, k] / diagonal[y, k]
        product += dot(r[y], p[y])
    end = goal * product
    for _ in range(steps):
        if product <= end:
            break
        length = product / apply_energy(p, stencils, pull, image)
        before, product = product, 0.0
        for y in range(height):
            for k in range(width):
                x[y, k] += length * p[y, k]
                r[y, k] -= length * image[y, k]
                scaled[k] = r[y, k] / diagonal[y, k]
                image[y, k] = scaled[k]
            product += dot(r[y], scaled)
        ratio = product / before
        for y in range(height):
            for k in range(width):
                p[y, k] = image[y, k] + ratio * p[y, k]
    return x
