"""The results contract: every measured number is a row of a tidy CSV with these columns, names and units.

Tables, figures and the paper read these files and nothing else. A row that breaks the contract (unknown
metric, wrong unit, NaN, a fraction above 1) cannot be made, written or read.

Lengths carry the unit of the scene: ``mm`` where the scale is known, otherwise ``frac``, a fraction of
the bounding-box diagonal. Dimensionless scores (precision, ssim, lpips ...) are ``frac`` too.
"""

from __future__ import annotations

import csv
import math
import os
import platform
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

from splathead.images import atomic_path

COMMIT_VARIABLE = "SPLATHEAD_COMMIT"
LENGTH_UNITS = ("mm", "frac")
_SHARE = (0.0, 1.0)
_POSITIVE = (0.0, math.inf)
_ANY = (-math.inf, math.inf)


@dataclass(frozen=True)
class MetricSpec:
    """What a metric name means: the units a row may have and the range of its value."""

    units: tuple[str, ...]
    bounds: tuple[float, float]
    meaning: str


METRICS: dict[str, MetricSpec] = {
    "rmse": MetricSpec(LENGTH_UNITS, _POSITIVE, "root mean square depth error"),
    "mae": MetricSpec(LENGTH_UNITS, _POSITIVE, "mean absolute depth error"),
    "bias": MetricSpec(LENGTH_UNITS, _ANY, "mean of predicted minus true depth; positive is behind the surface"),
    "psnr": MetricSpec(("dB",), _ANY, "peak signal-to-noise ratio"),
    "ssim": MetricSpec(("frac",), (-1.0, 1.0), "structural similarity"),
    "lpips": MetricSpec(("frac",), _POSITIVE, "learned perceptual image patch similarity"),
    "normal_error": MetricSpec(("deg",), (0.0, 180.0), "mean angle between normals of predicted and true depth"),
    "interval_violation": MetricSpec(("frac",), _SHARE, "low-resolution cells whose mean leaves the code's interval"),
    "interval_excess": MetricSpec(LENGTH_UNITS, _POSITIVE, "mean distance by which cell means leave the code's interval"),
    "interval_coverage_50": MetricSpec(("frac",), _SHARE, "errors within their predicted central 50 % interval"),
    "interval_coverage_80": MetricSpec(("frac",), _SHARE, "errors within their predicted central 80 % interval"),
    "interval_coverage_90": MetricSpec(("frac",), _SHARE, "errors within their predicted central 90 % interval"),
    "interval_coverage_95": MetricSpec(("frac",), _SHARE, "errors within their predicted central 95 % interval"),
    "ause_rmse": MetricSpec(("frac",), _POSITIVE, "area under the sparsification error curve of the relative RMSE"),
    "ause_mae": MetricSpec(("frac",), _POSITIVE, "area under the sparsification error curve of the relative MAE"),
    "nll": MetricSpec(("nat",), _ANY, "mean negative log likelihood of errors; densities per mm, or per diagonal"),
    "coverage": MetricSpec(("frac",), _SHARE, "pixels that the method itself filled"),
    "phase_spread": MetricSpec(LENGTH_UNITS, _POSITIVE, "standard deviation of the mean error over pixel phases"),
    "depth_std": MetricSpec(LENGTH_UNITS, _POSITIVE, "standard deviation of splat depth along the ray"),
    "chamfer_l1": MetricSpec(LENGTH_UNITS, _POSITIVE, "mean of the two directed mean surface distances"),
    "hausdorff": MetricSpec(LENGTH_UNITS, _POSITIVE, "larger of the two directed maximal surface distances"),
    "hausdorff_95": MetricSpec(LENGTH_UNITS, _POSITIVE, "larger of the two directed 95th percentiles"),
    "precision": MetricSpec(("frac",), _SHARE, "predicted vertices within the threshold of the true surface"),
    "recall": MetricSpec(("frac",), _SHARE, "visible true surface within the threshold of the prediction"),
    "f_score": MetricSpec(("frac",), _SHARE, "harmonic mean of precision and recall"),
    "f_score_auc": MetricSpec(("frac",), _SHARE, "mean F-score over the curve's thresholds up to the one given"),
    "normal_consistency": MetricSpec(("frac",), _SHARE, "mean absolute cosine of normals at closest points"),
    "consistency": MetricSpec(("frac",), _POSITIVE, "disagreement of reprojected depth, fraction of the diagonal"),
    "consistency_conflict": MetricSpec(("frac",), _SHARE, "reprojected points in front of what the other view sees"),
    "seconds": MetricSpec(("s",), _POSITIVE, "wall-clock time"),
    "peak_memory": MetricSpec(("MiB",), _POSITIVE, "peak memory, of the accelerator where there is one"),
    "speedup": MetricSpec(("frac",), _POSITIVE, "time of method_b divided by time of method"),
    "throughput": MetricSpec(("1/s",), _POSITIVE, "images per second"),
    "steps": MetricSpec(("count",), _POSITIVE, "optimiser steps done"),
    "parameters": MetricSpec(("count",), _POSITIVE, "trainable parameters of the network"),
    "gaussians": MetricSpec(("count",), _POSITIVE, "Gaussians of the reconstruction"),
    "faces": MetricSpec(("count",), _POSITIVE, "triangles of the mesh"),
}
"""Every metric name that a results file may contain."""

THRESHOLD_UNITS = {"mm": "mm", "%diag": "% of the bounding-box diagonal", "frac": "fraction of the bounding-box diagonal"}

_VOCABULARIES: dict[str, tuple[str, ...]] = {
    "raster_mode": ("", "classic", "antialiased"),
    "track": ("", "A", "B", "C"),
    "target": ("", "render", "surface"),
    "split": ("", "train", "val", "test"),
    "views": ("", "near_frontal", "all", "held_out"),
    "zone": ("", "interior", "silhouette", "full"),
}


def threshold_text(value: float, unit: str) -> str:
    """A threshold as the ``threshold`` column spells it: ``threshold_text(0.5, "mm") == "0.5mm"``.

    Units: ``mm``, ``%diag`` (percent of the bounding-box diagonal) or ``frac`` (fraction of it).
    """
    if unit not in THRESHOLD_UNITS:
        raise ValueError(f"threshold unit {unit!r}, expected one of {list(THRESHOLD_UNITS)}")
    return f"{value:.6g}{unit}"


def parse_threshold(text: str) -> tuple[float, str]:
    """Value and unit of a ``threshold`` column entry, the inverse of :func:`threshold_text`."""
    match = re.fullmatch(r"([0-9.e+-]+)(mm|%diag|frac)", text)
    try:
        return float(match[1]), match[2]  # type: ignore[index]
    except (TypeError, ValueError):
        raise ValueError(f"threshold {text!r}, expected a number and a unit such as '0.5mm' or '1%diag'") from None


@dataclass(frozen=True)
class ResultRow:
    """One measured number. Text columns are empty where they do not apply; the fields are the CSV's columns in order.

    A paired difference is a row of its own: ``method`` minus ``method_b``. ``n`` counts what the
    confidence interval resamples (identities). Checked when made: see the module's docstring.
    """

    experiment: str = ""
    dataset: str = ""
    fit: str = ""
    raster_mode: str = ""
    track: str = ""
    degradation_train: str = ""
    degradation_test: str = ""
    target: str = ""
    split: str = ""
    views: str = ""
    zone: str = ""
    method: str = ""
    method_b: str = ""
    metric: str = ""
    threshold: str = ""
    unit: str = ""
    value: float = math.nan
    ci_low: float | None = None
    ci_high: float | None = None
    n: int | None = None
    seed: int | None = None
    device: str = ""
    commit: str = ""
    dirty: bool | None = None
    config_hash: str = ""

    def __post_init__(self) -> None:
        for name, column in self._columns():
            if isinstance(column, str) and any(ord(c) < 32 for c in column):
                raise ValueError(f"column {name} = {column!r}: control characters are not allowed")
            if name in _VOCABULARIES and column not in _VOCABULARIES[name]:
                raise ValueError(f"column {name} = {column!r}, expected one of {list(_VOCABULARIES[name])}")
        for name in ("experiment", "method"):
            if not getattr(self, name):
                raise ValueError(f"column {name} is empty, every row needs one")
        if self.metric not in METRICS:
            raise ValueError(f"metric {self.metric!r}, expected one of {sorted(METRICS)}")
        if self.threshold:
            parse_threshold(self.threshold)
        self._check_numbers(METRICS[self.metric])

    def _check_numbers(self, spec: MetricSpec) -> None:
        if self.unit not in spec.units:
            raise ValueError(f"metric {self.metric} in unit {self.unit!r}, expected one of {list(spec.units)}")
        low, high = spec.bounds
        # a difference of two methods may have either sign, and as a speed-up divides it is one value
        is_difference = bool(self.method_b) and self.metric != "speedup"
        for name in ("value", "ci_low", "ci_high"):
            number = getattr(self, name)
            if number is None and name != "value":
                continue
            if not isinstance(number, (int, float)) or not math.isfinite(number):
                raise ValueError(f"{self.metric} of {self.method}: {name} = {number!r}, expected a finite number")
            if not is_difference and not low - 1e-9 <= number <= high + 1e-9:
                raise ValueError(f"{self.metric} of {self.method}: {name} = {number!r}, expected within [{low:g}, {high:g}]")
        if (self.ci_low is None) != (self.ci_high is None):
            raise ValueError(f"{self.metric} of {self.method}: ci_low and ci_high must be given together")
        if self.ci_low is not None and self.ci_low > self.ci_high:
            raise ValueError(f"{self.metric} of {self.method}: ci_low {self.ci_low} above ci_high {self.ci_high}")
        if self.n is not None and self.n < 1:
            raise ValueError(f"{self.metric} of {self.method}: n = {self.n}, expected at least 1")

    def _columns(self) -> list[tuple[str, object]]:
        return [(column.name, getattr(self, column.name)) for column in fields(self)]

    def key(self) -> tuple[str, ...]:
        """Everything but the measured numbers and the commit: no two rows of a file share it."""
        return tuple(_format(value) for name, value in self._columns() if name not in _NOT_IN_KEY)


COLUMNS: tuple[str, ...] = tuple(column.name for column in fields(ResultRow))
"""The CSV's columns, in order."""

_NOT_IN_KEY = {"value", "ci_low", "ci_high", "n", "commit", "dirty"}
_FLOATS, _INTS = {"value", "ci_low", "ci_high"}, {"n", "seed"}


def _format(value: object) -> str:
    """A column's text. Whole numbers stay whole; other floats have 6 significant digits, so that bytes are stable."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.6g}"
    return str(value)


def _parse(name: str, text: str) -> object:
    if name in _FLOATS:
        return float(text) if text or name == "value" else None
    if name in _INTS:
        return int(text) if text else None
    if name == "dirty":
        return {"": None, "true": True, "false": False}[text]
    return text


def write_results(path: Path, rows: Iterable[ResultRow]) -> None:
    """Write rows as tidy CSV: atomically, sorted by key, the same bytes for the same numbers.

    Two rows with the same key are an error.
    """
    by_key: dict[tuple[str, ...], ResultRow] = {}
    for row in rows:
        if by_key.setdefault(row.key(), row) is not row:
            raise ValueError(f"{path}: two rows for {' / '.join(part for part in row.key() if part)}")
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for _, row in sorted(by_key.items()):
            writer.writerow([_format(value) for _, value in row._columns()])


def read_results(path: Path) -> list[ResultRow]:
    """Read and check a results file; errors name the file and the line."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such results file")
    rows: list[ResultRow] = []
    seen: dict[tuple[str, ...], int] = {}
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        header = tuple(next(reader, ()))
        if header != COLUMNS:
            raise ValueError(f"{path}: columns {list(header)}, expected {list(COLUMNS)}")
        for cells in reader:
            where = f"{path}, line {reader.line_num}"
            if len(cells) != len(COLUMNS):
                raise ValueError(f"{where}: {len(cells)} cells, expected {len(COLUMNS)}")
            try:
                row = ResultRow(**{name: _parse(name, text) for name, text in zip(COLUMNS, cells)})
            except (ValueError, KeyError) as error:
                raise ValueError(f"{where}: {error}") from error
            if row.key() in seen:
                raise ValueError(f"{where}: same key as line {seen[row.key()]}")
            seen[row.key()] = reader.line_num
            rows.append(row)
    return rows


@cache
def git_state() -> tuple[str, bool | None]:
    """Commit hash of the checkout this package runs from and whether its tracked files were changed.

    The measured results themselves (``eval``, ``figures``, ``paper``) do not count as changes. Outside a
    git checkout, or without git: what $SPLATHEAD_COMMIT says (of a copy on a cluster, say) and None.
    """
    root, given = Path(__file__).resolve().parents[1], os.environ.get(COMMIT_VARIABLE, "")
    try:
        if Path(_git(root, "rev-parse", "--show-toplevel")).resolve() != root:
            return given, None  # installed into an environment that happens to lie in someone's repository
        excluded = [f":(exclude){folder}" for folder in ("eval", "figures", "paper")]
        changes = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", *excluded)
        return _git(root, "rev-parse", "HEAD"), bool(changes)
    except (OSError, subprocess.SubprocessError):
        return given, None


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.strip()


@cache
def device_name(device: str = "cpu") -> str:
    """Name of the hardware behind a torch device string: the GPU's model, or the CPU's with its core count."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        match = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(errors="replace"), flags=re.M)
        model = match[1] if match else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model} ({cores} cores)"
