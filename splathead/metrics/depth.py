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
from splathead.maps.normals import normals_at, normals_from_depth
from splathead.metrics.image import SSIM_WINDOW_PX, SsimReference, psnr_from_rmse
from splathead.metrics.zones import Zones, ZoneSettings, bounding_box, cells_within, check_depth, compute_zones

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
    """What a view's predictions are scored against; built once per view with :meth:`build`, used for every method.

    Scoring happens in ``box``, the head's part of the image with a margin: what lies outside of it is the same
    nothing for every method.
    """

    depth: np.ndarray  # [H, W] target, 0 = no surface
    zones: Zones
    camera: Camera
    fallback: np.ndarray  # [H, W] bilinear map
    code: np.ndarray  # [h, w] low-resolution code, 0 = no surface
    encoding: DepthEncoding
    box: tuple[slice, slice]  # rows and columns, at multiples of the super-resolution factor and of PHASES
    similarity: SsimReference  # of the normalised target in the box
    normal_pixels: tuple[np.ndarray, np.ndarray]  # rows and columns [N] in the box where the target has a normal
    normals: np.ndarray  # [N, 3] true normals there

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
        check_depth(target_depth, "target", shape)
        check_depth(bilinear_depth, "bilinear", shape)
        zones = compute_zones(target_depth, settings)
        holes = int((zones.full & (bilinear_depth == 0)).sum())
        if holes:
            raise ValueError(f"bilinear depth is empty at {holes} pixels of the target, expected a value at each")
        factor = shape[0] // code.shape[0]
        if (code.shape[0] * factor, code.shape[1] * factor) != shape:
            raise ValueError(f"code of shape {code.shape} for depth of shape {shape}, expected a whole factor between them")
        box = bounding_box(zones.full, margin=SSIM_WINDOW_PX, multiple=math.lcm(factor, PHASES))
        depth, mask = target_depth[box].astype(np.float64), zones.full[box]
        normals, valid = normals_from_depth(depth, mask, camera.cropped(*box), jump=settings.jump)
        similarity = SsimReference.build(_normalised(depth, mask, encoding))
        return cls(
            target_depth, zones, camera, bilinear_depth, code, encoding, box, similarity, np.nonzero(valid), normals[valid]
        )


def fill_empty(predicted_depth: np.ndarray, fallback: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Predicted depth on ``mask`` with ``fallback`` where the prediction is empty (0), and 0 outside; [H, W] float64."""
    check_depth(predicted_depth, "predicted", mask.shape)
    return np.where(mask, np.where(predicted_depth > 0, predicted_depth, fallback), 0.0).astype(np.float64)


def evaluate_depth(predicted_depth: np.ndarray, truth: DepthTruth) -> dict[str, DepthScores]:
    """Scores of a predicted depth map [H, W] (0 = left empty) in each zone: interior, silhouette, full."""
    check_depth(predicted_depth, "predicted", truth.depth.shape)
    box, peak = truth.box, truth.encoding.far - truth.encoding.near
    predicted, mask = predicted_depth[box], truth.zones.full[box]
    filled = fill_empty(predicted, truth.fallback[box], mask)
    error = filled - truth.depth[box]
    # no jump rule for the prediction: a method must not lose its worst normals by tearing its surface
    angle_deg = angles_deg(normals_at(filled, *truth.normal_pixels, truth.camera.cropped(*box)), truth.normals)
    similarity = truth.similarity.map(_normalised(filled, mask, truth.encoding))
    code = _cells_of(truth, box)
    cell_mean = _cell_mean(filled, code.shape)
    scores = {}
    for name, zone in truth.zones.items():
        zone = zone[box]
        violation, excess = interval_violation(cell_mean, code, truth.encoding, cells_within(zone, len(zone) // len(code)))
        rmse, mae, bias = error_statistics(error[zone])
        scores[name] = DepthScores(
            n_pixels=int(np.count_nonzero(zone)),
            rmse=rmse,
            mae=mae,
            bias=bias,
            psnr=psnr_from_rmse(rmse, peak),
            ssim=_mean(similarity[zone]),
            normal_error=_mean(angle_deg[zone[truth.normal_pixels]]),
            interval_violation=violation,
            interval_excess=excess,
            coverage=_mean(predicted[zone] > 0),
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
    counts = _phase_sums(mask.astype(np.float64), phases)
    if not counts.all():
        return math.nan
    return float(np.std(_phase_sums(np.where(mask, error, 0.0), phases) / counts))


def _phase_sums(values: np.ndarray, phases: int) -> np.ndarray:
    """Sums [phases, phases] over rows and columns of equal position modulo ``phases``."""
    by_row = np.stack([values[start::phases].sum(axis=0) for start in range(phases)])
    return np.stack([by_row[:, start::phases].sum(axis=1) for start in range(phases)], axis=1)


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


def _normalised(depth: np.ndarray, mask: np.ndarray, encoding: DepthEncoding) -> np.ndarray:
    """Depth as SSIM sees it: 0..1 from near to far, and at far where the target has no surface."""
    return np.where(mask, (depth - encoding.near) / (encoding.far - encoding.near), 1.0)


def angles_deg(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angles [N] between unit vectors [N, 3]; from the chord, which is exact for small angles where acos is not."""
    difference = a - b
    chord = np.sqrt(np.einsum("ij,ij->i", difference, difference))
    return np.degrees(2 * np.arcsin(np.clip(chord / 2, 0.0, 1.0)))


def _cells_of(truth: DepthTruth, box: tuple[slice, slice]) -> np.ndarray:
    """The low-resolution code of the cells in ``box``."""
    factor = truth.depth.shape[0] // truth.code.shape[0]
    return truth.code[tuple(slice(side.start // factor, side.stop // factor) for side in box)]


def _cell_mean(depth: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    factor = depth.shape[0] // shape[0]
    return depth.reshape(shape[0], factor, shape[1], factor).mean(axis=(1, 3))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else math.nan
