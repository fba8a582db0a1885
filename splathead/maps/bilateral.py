"""Joint bilateral smoothing of normals, guided by colour."""

from __future__ import annotations

import numba
import numpy as np

LARGEST_DIFFERENCE = 3 * 255
"""L1 between two 8-bit colours"""


def joint_bilateral_normals(
    normals: np.ndarray,
    mask: np.ndarray,
    guide: np.ndarray,
    *,
    diameter_px: int = 9,
    sigma_px: float = 30.0,
    sigma_colour: float = 30.0,
) -> np.ndarray:
    """Unit normals [H, W, 3] float32 averaged over neighbours of similar colour (Petschnig et al., SIGGRAPH 2004).

    The published study's settings are the defaults (OpenCV's ``d = 9``, both sigmas 30; opencv-python-headless lacks
    the joint filter, which is in its contrib modules). The neighbourhood is a disc; the result is renormalised.

    Args:
        normals: [H, W, 3] unit, anything outside of ``mask``.
        mask: [H, W] bool; other pixels take no part and come out as zero.
        guide: [H, W, 3] uint8 colours.
        diameter_px: diameter of the neighbourhood.
        sigma_px: spatial standard deviation.
        sigma_colour: standard deviation of the colour difference (L1 over the channels as in OpenCV, 0..765).

    Raises ValueError when ``guide`` is not 8-bit or the sizes differ.
    """
    if guide.dtype != np.uint8 or not guide.shape == normals.shape == (*mask.shape, 3):
        sizes = f"normals of shape {normals.shape}, mask of shape {mask.shape}"
        raise ValueError(f"guide of shape {guide.shape} and type {guide.dtype}, expected uint8 of the size of {sizes}")
    radius = diameter_px // 2
    taps = np.array(
        [(dy, dx) for dy in range(-radius, radius + 1) for dx in range(-radius, radius + 1) if dy * dy + dx * dx <= radius**2]
    )
    nearness = np.exp(-(taps**2).sum(axis=1) / (2 * sigma_px**2)).astype(np.float32)
    likeness = np.exp(-(np.arange(LARGEST_DIFFERENCE + 1) ** 2) / (2 * sigma_colour**2)).astype(np.float32)
    return _averaged_normals(normals.astype(np.float32), mask, np.ascontiguousarray(guide), taps, nearness, likeness)


@numba.njit(cache=True, nogil=True)
def _averaged_normals(
    values: np.ndarray, mask: np.ndarray, guide: np.ndarray, taps: np.ndarray, nearness: np.ndarray, likeness: np.ndarray
) -> np.ndarray:
    """Weighted sums of ``values`` [H, W, 3] over ``taps`` [K, 2] at unit length, zero outside ``mask``. A tap's weight is
    ``nearness`` [K] times ``likeness`` at the L1 difference of the colours."""
    height, width = mask.shape
    result = np.zeros((height, width, 3), np.float32)
    for row in range(height):
        for column in range(width):
            if not mask[row, column]:
                continue
            red, green, blue = np.int64(guide[row, column, 0]), np.int64(guide[row, column, 1]), np.int64(guide[row, column, 2])
            x, y, z = np.float32(0), np.float32(0), np.float32(0)
            for k in range(len(taps)):
                r, c = row + taps[k, 0], column + taps[k, 1]
                if r < 0 or r >= height or c < 0 or c >= width or not mask[r, c]:
                    continue
                difference = abs(guide[r, c, 0] - red) + abs(guide[r, c, 1] - green) + abs(guide[r, c, 2] - blue)
                weight = nearness[k] * likeness[difference]
                x += weight * values[r, c, 0]
                y += weight * values[r, c, 1]
                z += weight * values[r, c, 2]
            length = np.sqrt(x * x + y * y + z * z)
            if length > 0:
                result[row, column, 0], result[row, column, 1], result[row, column, 2] = x / length, y / length, z / length
    return result
