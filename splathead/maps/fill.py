"""Values for pixels that have none: extension beyond the mask, small and large holes. Always in float.

The published study filled holes with an 8-bit copy of the depth map, which costs every filled neighbourhood its
16-bit precision; nothing here leaves floating point.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.linalg import spsolve

TREND_MIN_PX = 64
"""Holes of at least this area follow the curvature of their surroundings; smaller ones are filled flat."""

TREND_MIN_SAMPLES = 24
"""Known pixels that a quadratic trend needs around a hole."""

# (row offset, column offset, weight) of the eight neighbours; diagonals count by inverse squared distance
_NEIGHBOURS = [(dy, dx, 1 / (dy * dy + dx * dx)) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]


def extend_depth(depth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Depth [H, W] float32 with values everywhere: ``depth`` inside ``mask``, push-pull extension outside.

    An interpolation of the result never mixes the zeros of empty pixels into the silhouette. Push: means over
    2x2 cells of the known values only, level by level; pull: bilinear interpolation of the next coarser level
    where a level has no value (Gortler et al., "The Lumigraph", 1996). ValueError for an empty mask.
    """
    if depth.shape != mask.shape or depth.ndim != 2:
        raise ValueError(f"extend_depth: depth of shape {depth.shape} and mask of shape {mask.shape}, expected the same [H, W]")
    if not mask.any():
        raise ValueError("extend_depth: empty mask, there is no value to extend")
    return _push_pull(np.where(mask, depth, 0).astype(np.float32), mask.astype(bool))


def _push_pull(depth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    if mask.all():
        return depth
    height, width = depth.shape
    if height == 1 and width == 1:
        return depth
    even = ((0, height % 2), (0, width % 2))
    values, known = np.pad(depth, even), np.pad(mask, even)
    count = _cell_sum(known.astype(np.float32))
    mean = _cell_sum(values) / np.maximum(count, 1)
    coarse = _push_pull(mean, count > 0)
    pulled = cv2.resize(coarse, (known.shape[1], known.shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.where(mask, depth, pulled[:height, :width])


def _cell_sum(image: np.ndarray) -> np.ndarray:
    """Sums over 2x2 cells [H/2, W/2]; both sides of ``image`` are even."""
    return image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]


def fill_smooth(depth: np.ndarray, known: np.ndarray, holes: np.ndarray) -> np.ndarray:
    """Depth [H, W] float32 with the pixels of ``holes`` filled by a smooth surface through their surroundings.

    Poisson's equation on the hole pixels with the known neighbours as boundary values. Its source is the Laplacian
    of a quadratic fitted to the ring around each hole, so that a hole in a curved surface is filled curved (a plain
    membrane sags: 1.1 mm across a 28 mm hole of a head), and yet single noisy boundary pixels cannot tilt the fill
    as they do with a biharmonic equation. Every hole pixel must be connected (8 neighbours) to a known one through
    hole pixels; pixels that are neither known nor a hole take no part.

    Args:
        depth: [H, W]; read where ``known``.
        known: [H, W] bool.
        holes: [H, W] bool, disjoint from ``known``.

    Raises ValueError for overlapping masks or a hole without any known neighbour.
    """
    if (known & holes).any():
        raise ValueError(f"fill_smooth: {int((known & holes).sum())} pixels are both known and a hole")
    filled = np.where(known, depth, 0).astype(np.float32)
    if not holes.any():
        return filled
    count, labels = cv2.connectedComponents(holes.astype(np.uint8), connectivity=8)
    beside_known = cv2.dilate(known.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & holes
    missing = count - 1 - len(np.unique(labels[beside_known]))
    if missing:
        raise ValueError(f"fill_smooth: {missing} of {count - 1} holes have no known pixel beside them")
    filled[holes] = _solve_poisson(filled, known, labels, _fit_trends(filled, known, labels))
    return filled


def _fit_trends(depth: np.ndarray, known: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Per hole a quadratic [K + 1, 6] in absolute pixel coordinates (1, x, y, x^2, y^2, xy); 0 = flat."""
    trends = np.zeros((labels.max() + 1, 6))
    sizes = np.bincount(labels.ravel())
    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        if sizes[index] < TREND_MIN_PX:
            continue
        ring_px = int(np.clip(np.sqrt(sizes[index]) / 3, 3, 12))
        window = tuple(
            slice(max(0, side.start - ring_px), min(limit, side.stop + ring_px)) for side, limit in zip(box, labels.shape)
        )
        hole = (labels[window] == index).astype(np.uint8)
        ring = cv2.dilate(hole, np.ones((2 * ring_px + 1,) * 2, np.uint8)).astype(bool) & known[window]
        y, x = np.nonzero(ring)
        if len(x) >= TREND_MIN_SAMPLES:
            trends[index] = _fit_quadratic(x + window[1].start, y + window[0].start, depth[window][ring])
    return trends


def _fit_quadratic(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Coefficients [6] of (1, x, y, x^2, y^2, xy) through points; zeros where they explain little more than a plane."""
    centre, scale = np.array([x.mean(), y.mean()]), max(np.ptp(x), np.ptp(y), 1)
    columns = _monomials((x - centre[0]) / scale, (y - centre[1]) / scale)
    z = z.astype(np.float64)
    rest = z - columns[:, :3] @ np.linalg.lstsq(columns[:, :3], z, rcond=None)[0]
    solution = np.linalg.lstsq(columns, z, rcond=None)[0]
    # Across a depth jump or in noise a quadratic fits hardly better than a plane: then its curvature means nothing.
    if np.linalg.norm(z - columns @ solution) > 0.5 * np.linalg.norm(rest):
        return np.zeros(6)
    c, (u, v) = solution / scale ** np.array([0, 1, 1, 2, 2, 2]), centre
    return np.array([
        c[0] - c[1] * u - c[2] * v + c[3] * u * u + c[4] * v * v + c[5] * u * v,
        c[1] - 2 * c[3] * u - c[5] * v, c[2] - 2 * c[4] * v - c[5] * u, c[3], c[4], c[5],
    ])  # fmt: skip


def _monomials(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=-1).astype(np.float64)


def _solve_poisson(depth: np.ndarray, known: np.ndarray, labels: np.ndarray, trends: np.ndarray) -> np.ndarray:
    """Values [N] of the hole pixels in row-major order.

    With t the trend of p's hole, sum_q w (z_p - z_q) = sum_q w (t_p - t_q) over p's known and hole neighbours q.
    """
    height, width = labels.shape
    y, x = np.nonzero(labels)
    count = len(y)
    index = np.full(labels.shape, -1)
    index[y, x] = np.arange(count)
    coefficients = trends[labels[y, x]]
    own_trend = (coefficients * _monomials(x, y)).sum(-1)
    diagonal, right_side, entries = np.zeros(count), np.zeros(count), []
    for dy, dx, weight in _NEIGHBOURS:
        inside = (y + dy >= 0) & (y + dy < height) & (x + dx >= 0) & (x + dx < width)
        p = np.flatnonzero(inside)
        qy, qx = y[p] + dy, x[p] + dx
        q, is_known = index[qy, qx], known[qy, qx]
        used = is_known | (q >= 0)
        neighbour_trend = (coefficients[p] * _monomials(qx, qy)).sum(-1)
        diagonal[p] += weight * used
        right_side[p] += weight * used * (own_trend[p] - neighbour_trend) + weight * is_known * depth[qy, qx]
        hole = q >= 0
        entries.append((np.full(hole.sum(), -weight), p[hole], q[hole]))
    values, rows, columns = (np.concatenate(part) for part in zip((diagonal, np.arange(count), np.arange(count)), *entries))
    matrix = sparse.csc_matrix((values, (rows, columns)), shape=(count, count))
    return spsolve(matrix, right_side, permc_spec="MMD_AT_PLUS_A")


def fill_nearest(depth: np.ndarray, known: np.ndarray, holes: np.ndarray, sigma_px: float) -> np.ndarray:
    """Depth [H, W] float32 with the pixels of ``holes`` filled by the nearest known pixel's value, then smoothed.

    For holes too large to say anything better. The smoothing (Gaussian, ``sigma_px``, known and hole pixels only)
    changes hole pixels alone. ValueError when nothing is known.
    """
    if not known.any():
        raise ValueError("fill_nearest: no known pixel")
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    filled = np.where(known, depth, 0).astype(np.float32)
    filled[holes] = filled[tuple(nearest)][holes]
    offset = filled[known].mean()  # of the values' own size, so that float32 keeps its digits in the sums below
    used = known | holes
    weight = cv2.GaussianBlur(used.astype(np.float32), (0, 0), sigma_px)
    smooth = cv2.GaussianBlur(np.where(used, filled - offset, 0).astype(np.float32), (0, 0), sigma_px)
    filled[holes] = smooth[holes] / weight[holes] + offset
    return filled
