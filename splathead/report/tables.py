"""Tables of results: chosen from tidy rows, never computed. A cell without a row says "not measured"."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from splathead.report.data import (
    HIGHER_IS_BETTER,
    LOWER_IS_BETTER,
    Results,
    arrow,
    format_number,
    method_label,
    method_order,
    metric_label,
    threshold_label,
    unit_label,
)  # fmt: skip
from splathead.results import ResultRow, parse_threshold

NOT_MEASURED = "not measured"
DIFFERENCE_BASES = ("bilinear", "bilinear_offset")
TARGET_NAMES = {"surface": "true surface", "render": "the splats' own 1024 depth", "": ""}
VIEW_NAMES = {"all": "all views", "near_frontal": "near-frontal views", "held_out": "held-out views", "": ""}


@dataclass(frozen=True)
class Column:
    """One column of a table: the cell is the row of the section and method that has these values."""

    metric: str
    zone: str = ""
    threshold: str = ""
    label: str = ""


@dataclass(frozen=True)
class Cell:
    """One number. ``best``: of its section and track. ``verdict`` of a difference whose interval excludes zero."""

    text: str
    interval: str = ""
    best: bool = False
    verdict: str = ""
    """better | worse | "" (no difference shown, or no direction that is better)"""


@dataclass(frozen=True)
class Line:
    """One method, or the paired difference of two."""

    label: str
    cells: tuple[Cell, ...]
    difference: bool = False


@dataclass(frozen=True)
class Section:
    """Lines that may be compared with each other."""

    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Table:
    """A table ready to be typeset. ``heads``: (label, unit) of each column."""

    key: str
    title: str
    note: str
    heads: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]


SECTION_COLUMNS = ("dataset", "fit", "raster_mode", "degradation_test", "split", "device")
ALWAYS_SHOWN = ("lpips",)
"""Measures whose absence a table says: their weights may be out of reach."""
LINE_COLUMNS = ("method", "method_b", "track", "degradation_train")


def build_table(key: str, title: str, note: str, results: Results, columns: Sequence[Column]) -> Table | None:
    """A table of the given columns over all of ``results``; None when no row belongs into it.

    Columns and rows of which nothing was measured are left out. Rows are grouped into sections that agree in
    dataset, fit, rasterisation, degradation, split and device.
    """
    wanted = {(column.metric, column.zone, column.threshold) for column in columns}
    results = Results(tuple(row for row in results.rows if (row.metric, row.zone, row.threshold) in wanted))
    if not len(results):
        return None
    present = {(row.metric, row.zone, row.threshold) for row in results.rows}
    kept = [c for c in columns if (c.metric, c.zone, c.threshold) in present or c.metric in ALWAYS_SHOWN]
    groups: dict[tuple[str, ...], list[ResultRow]] = {}
    for row in results.rows:
        groups.setdefault(tuple(getattr(row, name) for name in SECTION_COLUMNS), []).append(row)
    several = {name: len({group[i] for group in groups}) > 1 for i, name in enumerate(SECTION_COLUMNS)}
    shown_in_title = [name for name in SECTION_COLUMNS if several[name] or name == "fit"]
    sections = [
        Section(_section_title(dict(zip(SECTION_COLUMNS, group)), shown_in_title), _lines(Results(tuple(rows)), kept))
        for group, rows in sorted(groups.items())
    ]
    return Table(key, title, note, tuple(_head(results, column) for column in kept), tuple(sections))


def _section_title(values: dict[str, str], names: Iterable[str]) -> str:
    words = {"fit": "{} fit", "raster_mode": "{} rasterisation", "degradation_test": "input {}", "split": "{} identities"}
    return ", ".join(words.get(name, "{}").format(values[name]) for name in names if values[name])


def _head(results: Results, column: Column) -> tuple[str, str]:
    """Label with the direction that is better, and the unit or the threshold."""
    units = results.where(metric=column.metric, zone=column.zone, threshold=column.threshold).distinct("unit")
    unit = unit_label(column.metric, units[0]) if units else ""
    if column.threshold and not column.label:
        unit = threshold_label(column.threshold)
    return f"{column.label or metric_label(column.metric)} {arrow(column.metric)}".strip(), unit


def _lines(results: Results, columns: Sequence[Column]) -> tuple[Line, ...]:
    keys = {tuple(getattr(row, name) for name in LINE_COLUMNS) for row in results.rows}
    several_trainings = len({key[3] for key in keys if key[3]}) > 1
    best = {column: _best_values(results, column) for column in columns}
    lines = []
    for key in sorted(keys, key=_line_order):
        method, method_b, track, degradation = key
        label = method_label(method)
        if method_b:
            other = method_label(method_b)
            label += f" − ({other})" if " " in other else f" − {other}"
        if degradation and several_trainings:
            label += f" (trained on {degradation})"
        rows = results.where(**dict(zip(LINE_COLUMNS, key)))
        cells = tuple(_cell(rows, column, best[column].get(track)) for column in columns)
        lines.append(Line(label, cells, difference=bool(method_b)))
    return tuple(lines)


def _line_order(key: tuple[str, ...]) -> tuple:
    method, method_b, track, degradation = key
    return (bool(method_b), method_order(method), method_order(method_b), track, degradation)


def _cell(rows: Results, column: Column, best: float | None) -> Cell:
    row = rows.one(metric=column.metric, zone=column.zone, threshold=column.threshold)
    if row is None:
        return Cell(NOT_MEASURED)
    text = format_number(row.metric, row.unit, row.value)
    interval = ""
    if row.ci_low is not None:
        interval = f"[{format_number(row.metric, row.unit, row.ci_low)}, {format_number(row.metric, row.unit, row.ci_high)}]"
    if row.method_b:
        return Cell(text if text.startswith("−") else f"+{text}", interval, verdict=_verdict(row))
    return Cell(text, interval, best=best is not None and _goodness(row) == best)


def _verdict(row: ResultRow) -> str:
    """Whether a paired difference is clearly better or worse; a bias has no direction that is better."""
    if row.ci_low is None or row.ci_low <= 0 <= row.ci_high or row.metric == "bias":
        return ""
    if row.metric not in LOWER_IS_BETTER | HIGHER_IS_BETTER:
        return ""
    return "better" if (row.value > 0) == (row.metric in HIGHER_IS_BETTER) else "worse"


def _goodness(row: ResultRow) -> float:
    """Larger is better; bias counts by its size."""
    return -abs(row.value) if row.metric in LOWER_IS_BETTER else row.value


def _best_values(results: Results, column: Column) -> dict[str, float]:
    """Best goodness per track where at least two methods of the track compete. Methods without a track are not ranked."""
    if column.metric not in LOWER_IS_BETTER | HIGHER_IS_BETTER:
        return {}
    by_track: dict[str, list[float]] = {}
    for row in results.where(metric=column.metric, zone=column.zone, threshold=column.threshold, method_b="").rows:
        if row.track:
            by_track.setdefault(row.track, []).append(_goodness(row))
    return {track: max(values) for track, values in by_track.items() if len(values) > 1}


def f_thresholds(results: Results) -> list[str]:
    """Thresholds of the F-score that tables show: those that the evaluator names, in mm where the scale is known."""
    from splathead.metrics.mesh import THRESHOLDS_MM, THRESHOLDS_PERCENT

    present = [parse_threshold(text) for text in results.where(metric="f_score").distinct("threshold") if text]
    for unit, chosen in (("mm", THRESHOLDS_MM), ("%diag", THRESHOLDS_PERCENT)):
        values = sorted(value for value, found in present if found == unit and value in chosen)
        if values:
            return [f"{value:.6g}{unit}" for value in values]
    return []


def main_table(results: Results, target: str, views: str) -> Table | None:
    """The main comparison on one target: interior depth errors, normals and F-scores, with paired differences."""
    chosen = results.where(experiment="main", target=target, views=views)
    keep = Results(tuple(row for row in chosen.rows if not row.method_b or row.method_b in DIFFERENCE_BASES))
    depth = [Column(metric, "interior") for metric in ("rmse", "mae", "bias", "psnr", "normal_error")]
    f_scores = [Column("f_score", "interior", threshold) for threshold in f_thresholds(keep)]
    return build_table(
        f"main_{target}_{views}",
        f"Depth against {TARGET_NAMES[target]}, interior, {VIEW_NAMES[views]}",
        "Mean over test identities with 95 % bootstrap interval over identities. Bold: best of its input track. "
        "Last rows: paired differences, bold where the interval excludes zero.",
        keep,
        [*depth, *f_scores],
    )


def zone_table(results: Results, target: str) -> Table | None:
    """Errors by zone, coverage and the checks on the low-resolution grid."""
    chosen = results.where(experiment="main", target=target, views="all", method_b="")
    columns = [
        Column("rmse", "interior", label="RMSE interior"), Column("rmse", "silhouette", label="RMSE silhouette"),
        Column("rmse", "full", label="RMSE full"), Column("ssim", "full", label="SSIM full"),
        Column("coverage", "full"), Column("interval_violation", "interior"), Column("phase_spread", "interior"),
    ]  # fmt: skip
    note = (
        "A pixel that a method leaves empty is scored with bilinear's value; coverage says how many it filled. Interval "
        "violation: low-resolution cells whose mean leaves the input code's interval. Phase spread: standard deviation of "
        "the mean error over the 16 pixel phases of the low-resolution grid."
    )
    return build_table(f"zones_{target}", f"Zones and grid checks against {TARGET_NAMES[target]}", note, chosen, columns)


def surface_table(results: Results, target: str) -> Table | None:
    """Surface measures of single views."""
    chosen = results.where(experiment="main", target=target, views="all", method_b="")
    columns = [Column(metric, "full") for metric in ("chamfer_l1", "hausdorff_95", "normal_consistency")]
    auc = [row.threshold for row in chosen.where(metric="f_score_auc", zone="full").rows]
    columns.append(Column("f_score_auc", "full", auc[0] if auc else "", label="area under F"))
    for metric in ("precision", "recall"):
        columns += [Column(metric, "full", text) for text in f_thresholds(chosen) if parse_threshold(text)[0] in (0.5, 1.0)]
    note = (
        "Exact distances from points to triangles, no alignment. Precision is over predicted vertices, recall over the "
        "visible true surface."
    )
    return build_table(f"surface_{target}", f"Single-view surfaces against {TARGET_NAMES[target]}", note, chosen, columns)


def fused_table(results: Results) -> Table | None:
    """Fused meshes against the true mesh, or against the views where there is no truth."""
    chosen = results.where(experiment="fused")
    auc = [row.threshold for row in chosen.where(metric="f_score_auc").rows]
    columns = [Column("chamfer_l1"), Column("hausdorff_95"), Column("normal_consistency")]
    columns += [Column("f_score", "", threshold) for threshold in f_thresholds(chosen)]
    columns += [Column("f_score_auc", "", auc[0] if auc else "", label="area under F")]
    columns += [Column("consistency"), Column("consistency_conflict"), Column("faces", label="faces")]
    note = "Recall over the true surface that the fused views see. View disagreement: reprojected depth, % of the diagonal."
    return build_table("fused", "Fused meshes", note, chosen, columns)


def heldout_table(results: Results) -> Table | None:
    """Reconstruction quality on views that were never fitted."""
    chosen = results.where(views="held_out")
    names = ("psnr", "ssim", "lpips", "depth_std", "gaussians", "seconds")
    note = "Views that no fit has seen. Depth std: along the ray, in the Gaussians."
    return build_table("heldout", "Gaussian reconstruction, held-out views", note, chosen, [Column(name) for name in names])


def training_table(results: Results) -> Table | None:
    """Size and cost of each trained network."""
    chosen = results.where(split="train", metric=("parameters", "seconds", "throughput", "peak_memory"))
    note = "Training of this run's networks; images are views per second."
    columns = [Column(name) for name in ("parameters", "seconds", "throughput", "peak_memory")]
    return build_table("training", "Training", note, chosen, columns)


def timings_table(results: Results) -> Table | None:
    """Wall-clock time and memory of each stage."""
    chosen = results.where(experiment="timings")
    note = "This run; a resumed stage adds up. Memory is the peak of one process."
    return build_table("timings", "Time and memory by stage", note, chosen, [Column("seconds"), Column("peak_memory")])


def all_tables(results: Results) -> list[Table]:
    """Every table that the results can fill, in the order of the report."""
    targets = [target for target in ("surface", "render") if len(results.where(experiment="main", target=target))]
    tables = [main_table(results, target, views) for target in targets for views in ("all", "near_frontal")]
    tables += [builder(results, target) for target in targets for builder in (zone_table, surface_table)]
    tables += [fused_table(results), heldout_table(results), training_table(results), timings_table(results)]
    return [table for table in tables if table is not None]
