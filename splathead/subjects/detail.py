"""Fine surface detail and smooth random fields: isotropic band-limited noise."""

from __future__ import annotations

import functools

import numba
import numpy as np

DETAIL_BANDS_MM = ((1.0, 3.0), (3.0, 8.0), (10.0, 30.0))
"""wavelength bands of skin displacement"""
DETAIL_RMS_MM = ((0.05, 0.10), (0.05, 0.16), (0.08, 0.20))
"""range of each band's RMS displacement, drawn per head"""


_TILE = 64
_TILE_BAND = (6.0, 18.0)
"""the noise tile is periodic over 64 voxels and holds wavelengths of 6 to 18 voxels"""


@functools.cache
def _noise_tile() -> np.ndarray:
    """Unit-RMS isotropic Gaussian noise [64, 64, 64] float32, band-limited in the Fourier domain; always the same."""
    white = np.random.default_rng(0x7173).normal(size=(_TILE, _TILE, _TILE))
    axis = np.fft.fftfreq(_TILE)
    half = np.fft.rfftfreq(_TILE)
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + half[None, None, :] ** 2)
    band = (radius >= 1 / _TILE_BAND[1]) & (radius <= 1 / _TILE_BAND[0])
    # equal energy per octave of wavelength: density ~ 1 / radius^3 in three dimensions
    spectrum = np.fft.rfftn(white) * band / np.maximum(radius, 1e-6) ** 1.5
    tile = np.fft.irfftn(spectrum, s=white.shape, axes=(0, 1, 2))
    return (tile / tile.std()).astype(np.float32)


def band_noise(points: np.ndarray, rng: np.random.Generator, wavelengths_mm: tuple[float, float]) -> np.ndarray:
    """Unit-RMS isotropic band-limited Gaussian noise [N] at ``points`` [N, 3] mm.

    Two copies of the tile are summed, each turned and shifted at random so that no period shows, one stretched to the
    band's short end and one to its long end. For a band of ratio 1:3 both fill it exactly; a narrower one is
    overstepped (``skin_displacement``'s 3 to 8 mm by an eighth).
    """
    low, high = wavelengths_mm
    scales = (low / _TILE_BAND[0], high / _TILE_BAND[1])
    total = np.zeros(len(points))
    for scale in scales:
        rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        _add_trilinear(_noise_tile(), points, rotation / scale, rng.uniform(0, _TILE, 3), total)
    return total * np.sqrt(0.5)


@numba.njit(cache=True, nogil=True)
def _add_trilinear(tile: np.ndarray, points: np.ndarray, matrix: np.ndarray, shift: np.ndarray, total: np.ndarray) -> None:
    """Add the periodic ``tile`` sampled trilinearly at ``matrix @ point + shift`` to ``total`` [N]."""
    wrap = tile.shape[0] - 1  # the side is a power of two
    for n in range(len(points)):
        x = matrix[0, 0] * points[n, 0] + matrix[0, 1] * points[n, 1] + matrix[0, 2] * points[n, 2] + shift[0]
        y = matrix[1, 0] * points[n, 0] + matrix[1, 1] * points[n, 1] + matrix[1, 2] * points[n, 2] + shift[1]
        z = matrix[2, 0] * points[n, 0] + matrix[2, 1] * points[n, 1] + matrix[2, 2] * points[n, 2] + shift[2]
        fx, fy, fz = np.floor(x), np.floor(y), np.floor(z)
        i0, j0, k0 = int(fx) & wrap, int(fy) & wrap, int(fz) & wrap
        i1, j1, k1 = (i0 + 1) & wrap, (j0 + 1) & wrap, (k0 + 1) & wrap
        x, y, z = x - fx, y - fy, z - fz
        near = (tile[i0, j0, k0] * (1 - z) + tile[i0, j0, k1] * z) * (1 - y)
        near += (tile[i0, j1, k0] * (1 - z) + tile[i0, j1, k1] * z) * y
        far = (tile[i1, j0, k0] * (1 - z) + tile[i1, j0, k1] * z) * (1 - y)
        far += (tile[i1, j1, k0] * (1 - z) + tile[i1, j1, k1] * z) * y
        total[n] += near * (1 - x) + far * x


def smoothstep(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below ``low``, 1 above ``high`` (or the reverse when low > high), 3t^2 - 2t^3 between."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def skin_displacement(points: np.ndarray, fine: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, list[float]]:
    """Displacement along the normal [N] in mm, one term per band, and the RMS drawn for each band.

    ``fine`` [N] in [0, 1] weighs the shortest band: 0 where the mesh is too coarse to carry it. Strength varies
    slowly over the face, as pores and wrinkles do.
    """
    strength = np.clip(1 + 0.35 * band_noise(points, rng, (60.0, 140.0)), 0.3, 1.8)
    amplitudes = [float(rng.uniform(*bounds)) for bounds in DETAIL_RMS_MM]
    total = np.zeros(len(points))
    for index, (band, amplitude) in enumerate(zip(DETAIL_BANDS_MM, amplitudes)):
        weight = fine if index == 0 else 1.0
        total += amplitude * weight * band_noise(points, rng, band)
    return total * strength, amplitudes
