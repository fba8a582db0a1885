"""Pixel measures of a predicted depth map against a target depth map, per zone.

A pixel that a method leaves empty is scored with the bilinear map's value, and ``coverage`` says how many
there were. Zones, the pixels that normals are compared at and the low-resolution cells that intervals are
checked at come from the target alone: no method can drop what it finds hard.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from splathead.cameras import Camera
from splathead.images import DepthEncoding
from splathead.maps.normals import normals_from_depth
from splathead.metrics.image import psnr_from_rmse, ssim_map
from splathead.metrics.zones import Zones, ZoneSettings, check_depth, compute_zones

PHASES = 4
"""Period in pixels of the phase test: the super-resolution factor."""
INTERVAL_TOLERANCE_LSB = 1e-3
"""Excess over half a step that is still float32 rounding."""


@dataclass(frozen=True)
class DepthScores:
    """Measures of one map in one zone; lengths in the map's unit. NaN = undefined (too few pixels in the zone)."""

    n_pixels: int
    rmse: float
    mae: float
    bias: float
    """mean of predicted minus true: positive is behind the surface"""
    psnr: float
    """dB; the peak is far - near of the view's low-resolution code"""
    ssim: float
    normal_error: float
    """degrees"""
    interval_violation: float
    """share of low-resolution cells whose area mean leaves the code's +-1/2 step interval"""
    interval_excess: float
    """mean over cells of how far it leaves the interval"""
    coverage: float
    phase_spread: float
    """standard deviation of the 16 mean errors by pixel position modulo 4"""


@dataclass(frozen=True)
class DepthTruth:
    """What a view's predictions are scored against; built once per view with :meth:`build`, used for every method."""

    depth: np.ndarray  # [H, W] float64 target, 0 = no surface
    zones: Zones
    camera: Camera
    fallback: np.ndarray  # [H, W] float64 bilinear map
    code: np.ndarray  # [h, w] low-resolution code, 0 = no surface
    encoding: DepthEncoding
    normals: np.ndarray  # [H, W, 3]
    normals_valid: np.ndarray  # [H, W] bool

    @classmethod
    def build(
        cls,
        target_depth: np.ndarray,
        camera: Camera,
        bilinear_depth: np.ndarray,
        code: np.ndarray,
        encoding: DepthEncoding,
        settings: ZoneSettings | None = None,
    ) -> DepthTruth:
        """Check the inputs and precompute zones and true normals.

        Args:
            target_depth: [H, W], 0 = no surface.
            camera: the view at [H, W].
            bilinear_depth: [H, W], the bilinear map; it must be filled wherever the target is.
            code: [h, w] low-resolution depth code (H / h must be a whole number), 0 = no surface.
            encoding: of ``code``; the view's far - near is PSNR's peak.
            settings: zones.
        """
        settings = settings or ZoneSettings()
        shape = (camera.height, camera.width)
        depth = check_depth(target_depth, "target", shape)
        fallback = check_depth(bilinear_depth, "bilinear", shape)
        zones = compute_zones(depth, settings)
        holes = int((zones.full & (fallback == 0)).sum())
        if holes:
            raise ValueError(f"bilinear depth is empty at {holes} pixels of the target, expected a value at each")
        factor = shape[0] // code.shape[0]
        if (code.shape[0] * factor, code.shape[1] * factor) != shape:
            raise ValueError(f"code of shape {code.shape} for depth of shape {shape}, expected a whole factor between them")
        normals, valid = normals_from_depth(depth, zones.full, camera, jump=settings.jump)
        return cls(depth, zones, camera, fallback, code, encoding, normals, valid)


def fill_empty(predicted_depth: np.ndarray, fallback: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Predicted depth on ``mask`` with ``fallback`` where the prediction is empty (0), and 0 outside; [H, W] float64."""
    predicted = check_depth(predicted_depth, "predicted", mask.shape)
    return np.where(mask, np.where(predicted > 0, predicted, fallback), 0.0)


def evaluate_depth(predicted_depth: np.ndarray, truth: DepthTruth) -> dict[str, DepthScores]:
    """Scores of a predicted depth map [H, W] (0 = left empty) in each zone: interior, silhouette, full."""
    filled = fill_empty(predicted_depth, truth.fallback, truth.zones.full)
    covered = predicted_depth > 0
    error = filled - truth.depth
    # no jump rule for the prediction: a method must not lose its worst normals by tearing its surface
    normals, has_normal = normals_from_depth(filled, truth.zones.full, truth.camera, jump=math.inf)
    angle_deg = _angles_deg(normals, truth.normals)
    angle_valid = truth.normals_valid & has_normal
    similarity = _depth_ssim(filled, truth)
    cell_mean = _cell_mean(filled, truth.code.shape)
    scores = {}
    for name, zone in truth.zones.items():
        violation, excess = interval_violation(cell_mean, truth.code, truth.encoding, _whole_cells(zone, truth.code.shape))
        rmse, mae, bias = error_statistics(error[zone])
        scores[name] = DepthScores(
            n_pixels=int(zone.sum()),
            rmse=rmse,
            mae=mae,
            bias=bias,
            psnr=psnr_from_rmse(rmse, truth.encoding.far - truth.encoding.near),
            ssim=_mean(similarity[zone]),
            normal_error=_mean(angle_deg[zone & angle_valid]),
            interval_violation=violation,
            interval_excess=excess,
            coverage=_mean(covered[zone]),
            phase_spread=phase_spread(error, zone),
        )
    return scores


def error_statistics(error: np.ndarray) -> tuple[float, float, float]:
    """Root mean square, mean absolute and mean of ``error`` [N]; NaN when it is empty."""
    return math.sqrt(_mean(error**2)) if error.size else math.nan, _mean(np.abs(error)), _mean(error)


def phase_spread(error: np.ndarray, mask: np.ndarray, phases: int = PHASES) -> float:
    """Standard deviation of the mean errors over pixels of equal (row, column) modulo ``phases``.

    Zero for errors that do not know the super-resolution grid; a sub-pixel pattern (checkerboard) shows here
    at its full amplitude while it hides in the RMSE. NaN when a phase has no pixel in ``mask``.
    """
    rows, columns = np.nonzero(mask)
    phase = rows % phases * phases + columns % phases
    counts = np.bincount(phase, minlength=phases**2)
    if not counts.all():
        return math.nan
    return float(np.std(np.bincount(phase, weights=error[mask], minlength=phases**2) / counts))


def interval_violation(
    cell_mean: np.ndarray, code: np.ndarray, encoding: DepthEncoding, cells: np.ndarray
) -> tuple[float, float]:
    """How far a prediction contradicts its low-resolution code.

    Args:
        cell_mean: [h, w] mean predicted depth over each low-resolution cell.
        code: [h, w] depth code, 0 = no surface (such cells are left out).
        encoding: of ``code``.
        cells: [h, w] bool, cells to look at.

    Returns:
        The share of cells whose mean is more than half a code step from the decoded code, and the mean
        excess over half a step in the depth's unit. NaN when there is no cell.
    """
    decoded, known = encoding.decode(code)
    cells = cells & known
    excess = np.abs(cell_mean[cells] - decoded[cells]) - 0.5 * encoding.lsb
    return _mean(excess > INTERVAL_TOLERANCE_LSB * encoding.lsb), _mean(np.maximum(excess, 0.0))


def _depth_ssim(filled: np.ndarray, truth: DepthTruth) -> np.ndarray:
    """SSIM of depth normalised to 0..1 by near and far; both maps are at far where the target has no surface."""
    near, far = truth.encoding.near, truth.encoding.far
    mask = truth.zones.full
    predicted, target = (np.where(mask, (depth - near) / (far - near), 1.0) for depth in (filled, truth.depth))
    return ssim_map(predicted, target)


def _angles_deg(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angle between unit vectors [..., 3]; from the chord, which is exact for small angles where acos is not."""
    chord = np.linalg.norm(a.astype(np.float64) - b, axis=-1)
    return np.degrees(2 * np.arcsin(np.clip(chord / 2, 0.0, 1.0)))


def _cell_mean(depth: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    factor = depth.shape[0] // shape[0]
    return depth.reshape(shape[0], factor, shape[1], factor).mean(axis=(1, 3))


def _whole_cells(zone: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    factor = zone.shape[0] // shape[0]
    return zone.reshape(shape[0], factor, shape[1], factor).all(axis=(1, 3))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else math.nan
