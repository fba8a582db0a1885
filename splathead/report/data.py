"""Result rows for tables and figures: which files, how to select, how to name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from splathead.config import Config
from splathead.method_names import FUSED, INTERVAL, PREDICTED_AGAIN, base_method
from splathead.results import COLUMNS, METRICS, ResultRow, parse_threshold, read_results
from splathead.samples import stage_folder

RESULT_FILES = {
    "heldout": (2, "heldout.csv"), "training": (6, "*/training.csv"), "depth": (7, "depth.csv"),
    "error_budget": (7, "error_budget.csv"), "uncertainty": (7, "uncertainty.csv"),
    "interval_truth": (7, "interval_truth.csv"), "mesh": (8, "mesh.csv"),
    "f_score_audit": (8, "f_score_audit.csv"), "cross_degradation": (9, "cross_degradation.csv"),
    "normals": (10, "normals.csv"), "bits": (10, "bits.csv"),
    "fused": (11, "fused.csv"), "timings": (12, "timings.csv"),
}  # fmt: skip
"""Kind -> (stage that writes it, file name pattern). Published as ``eval/<config>_<kind>.csv``."""

METHOD_LABELS = {
    "raw_splat": "raw splat depth",
    "poisson_centres": "Poisson on Gaussian centres",
    "splat_surface": "splat surface",
    "nearest": "nearest",
    "bilinear": "bilinear",
    "bicubic": "bicubic",
    "bilinear_offset": "bilinear + offset",
    "variational": "variational",
    "edsr": "EDSR-light",
    "edsr_icnr": "EDSR-light, ICNR",
    "srresnet": "SRResNet",
    "srresnet_icnr": "SRResNet, ICNR",
    "swinir_plain": "SwinIR-tiny, no residual",
    "swinir": "SwinIR-tiny + residual",
    "unet": "UNet",
    "unet_long": "UNet, 6,000 steps",
    "unet_longest": "UNet, 10,000 steps",
    "unet_epochs": "UNet, 100 epochs",
    "unet_normals": "UNet + normal head",
    "sgnet": "SGNet",
    "dornet_nyu": "DORNet-T, zero-shot",
    "unet_guided": "UNet + guides",
    "unet_guided_longest": "UNet + guides, 10,000 steps",
    "unet_shape": "UNet, our loss",
    "unet_guided_shape": "UNet + guides, our loss",
    "splathead_depth": "SplatHead, depth only",
    "splathead_code_range": "SplatHead, unit of the code",
    "splathead_code_range_guided": "SplatHead, unit of the code + guides",
    "splathead_bicubic": "SplatHead, bicubic base",
    "splathead_bicubic_guided": "SplatHead, bicubic base + guides",
    "splathead_norgb": "SplatHead trained without colour",
    "splathead_norgb_guided": "SplatHead + guides but colour",
    "splathead": "SplatHead",
    "splathead_guided": "SplatHead + guides",
    "splathead_long": "SplatHead, 6,000 steps",
    "splathead_long_guided": "SplatHead, 6,000 steps + guides",
    "splathead_longest": "SplatHead, 10,000 steps",
    "splathead_longest_guided": "SplatHead, 10,000 steps + guides",
    "splathead_mix": "SplatHead, mixture, 10,000 steps",
    "splathead_mix_guided": "SplatHead, mixture, 10,000 steps + guides",
    "splathead_mix_longer": "SplatHead, mixture, 20,000 steps",
    "splathead_mix_longer_guided": "SplatHead, mixture, 20,000 steps + guides",
    "splathead_around": "SplatHead, all around, 20,000 steps",
    "splathead_around_guided": "SplatHead, all around, 20,000 steps + guides",
    "splathead_around_tuned": "SplatHead, mixture, then views all around",
    "splathead_around_tuned_guided": "SplatHead, mixture, then views all around + guides",
    "splathead_fits": "SplatHead, more kinds of fit",
    "splathead_fits_guided": "SplatHead, more kinds of fit + guides",
    "3dgs": "3D Gaussians",
    "true_depth": "true depth map",
}
"""Names in tables, in the order of rows; other methods follow by name."""

DERIVED = {FUSED: ", views fused", PREDICTED_AGAIN: ", fused and predicted again", INTERVAL: ", in intervals"}
"""What is added to the label of a method that others are made of"""

TARGET_NAMES = {"surface": "true surface", "render": "the splats' own 1024 depth"}

CEILING = "true_depth"
"""The target's own depth map scored as a mesh: what the pixel grid allows. Shown beside methods, never ranked."""

LOWER_IS_BETTER = {
    "rmse", "mae", "bias", "normal_error", "interval_violation", "interval_excess", "phase_spread", "chamfer_l1",
    "hausdorff", "hausdorff_95", "lpips", "depth_std", "consistency", "consistency_conflict", "seconds", "peak_memory",
    "ause_rmse", "ause_mae", "nll",
}  # fmt: skip
HIGHER_IS_BETTER = {"psnr", "ssim", "coverage", "precision", "recall", "f_score", "f_score_auc", "normal_consistency"}

METRIC_LABELS = {
    "rmse": "RMSE", "mae": "MAE", "bias": "bias", "psnr": "PSNR", "ssim": "SSIM", "lpips": "LPIPS",
    "normal_error": "normal error", "interval_violation": "interval violation", "coverage": "coverage",
    "phase_spread": "phase spread", "depth_std": "depth std", "chamfer_l1": "Chamfer L1", "hausdorff": "Hausdorff",
    "hausdorff_95": "Hausdorff 95 %", "precision": "precision", "recall": "recall", "f_score": "F",
    "f_score_auc": "area under F", "normal_consistency": "normal consistency", "consistency": "view disagreement",
    "consistency_conflict": "view conflicts", "peak_memory": "peak memory", "gaussians": "Gaussians",
    "interval_coverage_50": "in 50 %", "interval_coverage_80": "in 80 %", "interval_coverage_90": "in 90 %",
    "interval_coverage_95": "in 95 %", "ause_rmse": "AUSE (RMSE)", "ause_mae": "AUSE (MAE)", "nll": "NLL",
    "throughput": "images", "parameters": "parameters", "steps": "steps",
}  # fmt: skip

@dataclass(frozen=True)
class Results:
    """A selection of result rows."""

    rows: tuple[ResultRow, ...]

    def where(self, **columns: str | tuple[str, ...]) -> Results:
        """Rows whose columns have the given value (or one of a tuple of values)."""
        wanted = {name: value if isinstance(value, tuple) else (value,) for name, value in columns.items()}
        rows = (row for row in self.rows if all(getattr(row, name) in values for name, values in wanted.items()))
        return Results(tuple(rows))

    def one(self, **columns: str | tuple[str, ...]) -> ResultRow | None:
        """The only such row, None when there is none; more than one is an error."""
        found = self.where(**columns).rows
        if len(found) > 1:
            raise ValueError(f"{len(found)} result rows for {columns}, expected one; they differ in {_differences(found)}")
        return found[0] if found else None

    def distinct(self, column: str) -> list[str]:
        """Values of a column, in the order of their first row."""
        return list(dict.fromkeys(getattr(row, column) for row in self.rows))

    def index(self, *columns: str) -> dict[tuple[object, ...], ResultRow]:
        """Rows by the values of these columns; two rows with the same values are an error."""
        found: dict[tuple[object, ...], ResultRow] = {}
        for row in self.rows:
            key = tuple(getattr(row, column) for column in columns)
            if found.setdefault(key, row) is not row:
                differ = _differences([found[key], row])
                raise ValueError(f"2 result rows for {dict(zip(columns, key))}; they differ in {differ}")
        return found

    def first_seed(self) -> Results:
        """Rows of the smallest seed of each method on each target: tables show one training, a table of its own the spread over
        seeds."""
        first: dict[tuple[str, str], int] = {}
        for row in self.rows:
            if row.seed is not None:
                training = (row.method, row.target)
                first[training] = min(row.seed, first.get(training, row.seed))
        return Results(tuple(row for row in self.rows if row.seed is None or row.seed == first[row.method, row.target]))

    def __len__(self) -> int:
        return len(self.rows)


def _differences(rows: Iterable[ResultRow]) -> list[str]:
    numbers, rows = ("value", "ci_low", "ci_high"), list(rows)
    return [name for name in COLUMNS if name not in numbers and len({getattr(row, name) for row in rows}) > 1]


def without_parts(results: Results) -> Results:
    """Without the data sets that another of the rows' data sets pools: of ``a``, ``b`` and ``a+b``, the last."""
    together = [name for name in results.distinct("dataset") if "+" in name]
    parts = {part for name in together for part in name.split("+")}
    return Results(tuple(row for row in results.rows if row.dataset not in parts))


def run_files(config: Config) -> dict[str, list[Path]]:
    """Result files that the run has written so far, by kind."""
    files = {kind: sorted(stage_folder(config, stage).glob(pattern)) for kind, (stage, pattern) in RESULT_FILES.items()}
    return {kind: paths for kind, paths in files.items() if paths}


def published_files(folder: Path, name: str) -> dict[str, list[Path]]:
    """Committed result files ``<folder>/<name>_<kind>.csv`` by kind; an error that lists what there is when none exists."""
    folder = Path(folder)
    files = {kind: [folder / f"{name}_{kind}.csv"] for kind in RESULT_FILES}
    files = {kind: paths for kind, paths in files.items() if paths[0].is_file()}
    if not files:
        there = ", ".join(sorted(path.name for path in folder.glob("*.csv"))) or "no CSV"
        raise FileNotFoundError(f"{folder}: no {name}_<{'|'.join(RESULT_FILES)}>.csv, it has {there}")
    return files


def load_results(files: dict[str, list[Path]]) -> Results:
    """Every row of the given files."""
    return Results(tuple(row for paths in files.values() for path in paths for row in read_results(path)))


def split_by_scale(results: Results) -> dict[str, Results]:
    """Key suffix -> rows of datasets with lengths in mm (or without any), and of those in fractions of the diagonal.

    A dataset with both is an error. The suffix is empty where only one kind is present.
    """
    units: dict[str, set[str]] = {row.dataset: set() for row in results.rows}
    for row in results.rows:
        if is_length(row.metric):
            units[row.dataset].add(row.unit)
    mixed = sorted(dataset for dataset, found in units.items() if len(found) > 1)
    if mixed:
        raise ValueError(f"datasets {mixed} have lengths in mm and in fractions of the diagonal, expected one")
    nominal = tuple(row for row in results.rows if units[row.dataset] == {"frac"})
    known = tuple(row for row in results.rows if units[row.dataset] != {"frac"})
    parts = {"": known, "_fractions": nominal} if known and nominal else {"": known or nominal}
    return {suffix: Results(rows) for suffix, rows in parts.items() if rows}


def method_label(row_or_name: ResultRow | str) -> str:
    """A method's name in tables."""
    name, target = _and_target(row_or_name if isinstance(row_or_name, str) else row_or_name.method)
    base, added = base_method(name), ""
    for suffix, words in DERIVED.items():
        added += words if suffix in name.removeprefix(base) else ""
    return METHOD_LABELS.get(base, base) + added + (", for the render" if target == "render" else "")


def method_order(name: str) -> tuple[int, str]:
    """Sort key of methods: references, interpolation, networks; what is made of a method follows it."""
    names, base = list(METHOD_LABELS), base_method(_and_target(name)[0])
    return (names.index(base) if base in names else len(names), name)


def _and_target(name: str) -> tuple[str, str]:
    """A method's name and the target that follows it where the name is that of a study's folder; empty where none does."""
    method, _, target = name.rpartition("-")
    return (method, target) if target in TARGET_NAMES else (name, "")


def metric_label(metric: str) -> str:
    """A metric's name in tables."""
    return METRIC_LABELS.get(metric, metric.replace("_", " "))


def threshold_label(threshold: str) -> str:
    """A threshold as a column's header says it."""
    value, unit = parse_threshold(threshold)
    return f"@ {value:g} {'% diag' if unit == '%diag' else unit}"


def arrow(metric: str) -> str:
    """The direction in which a metric is better, as an arrow; empty where there is none."""
    if metric == "bias":
        return "→ 0"
    return "↓" if metric in LOWER_IS_BETTER else "↑" if metric in HIGHER_IS_BETTER else ""


def is_length(metric: str) -> bool:
    """Whether a metric is a length: mm, or a fraction of the bounding-box diagonal where the scale is unknown."""
    return "mm" in METRICS[metric].units


def unit_label(metric: str, unit: str) -> str:
    """Unit as a column's header says it; fractions of the diagonal are shown in percent."""
    if unit == "frac":
        return "% diag" if is_length(metric) or metric == "consistency" else "%" if metric in _PERCENT else ""
    return {"deg": "°", "count": ""}.get(unit, unit)


_DECIMALS = {
    "psnr": 2, "normal_error": 2, "seconds": 2, "throughput": 1, "peak_memory": 0, "gaussians": 0, "faces": 0, "parameters": 0,
    "steps": 0,
}  # fmt: skip
_PERCENT = {
    "coverage", "interval_violation", "consistency_conflict", "interval_coverage_50", "interval_coverage_80",
    "interval_coverage_90", "interval_coverage_95",
}  # fmt: skip


def shown(metric: str, unit: str, value: float) -> float:
    """A value in the unit that :func:`unit_label` names."""
    return 100 * value if unit == "frac" and unit_label(metric, unit) else value


def format_number(metric: str, unit: str, value: float, extra_decimals: int = 0) -> str:
    """A value as text with as many decimals as its metric deserves (and ``extra_decimals``); minus is a real minus."""
    decimals = (1 if metric in _PERCENT else _DECIMALS.get(metric, 3)) + extra_decimals
    text = f"{shown(metric, unit, value):,.{decimals}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−").replace(",", "\u202f")
