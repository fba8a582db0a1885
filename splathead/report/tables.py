"""Tables of results: chosen from tidy rows, never computed. A cell without a row says "not measured"."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from splathead.report.data import (
    CEILING,
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
    """A table ready to be typeset. ``heads``: (label, unit) of each column.

    ``groups``: (title, number of columns) of heads that share a title, over all columns; empty = no such line.
    ``main_columns``: indices of the columns whose intervals a compact form shows too.
    ``text_columns``: how many columns hold words, and are aligned to the left; they come first.
    """

    key: str
    title: str
    note: str
    heads: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]
    groups: tuple[tuple[str, int], ...] = ()
    first_head: str = "method"
    main_columns: tuple[int, ...] = ()
    text_columns: int = 0


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
        return Cell("–" if all(row.method_b for row in rows.rows) else NOT_MEASURED)
    return number_cell(row, best=best is not None and goodness(row) == best)


def number_cell(row: ResultRow, *, best: bool = False) -> Cell:
    """A row's number with its interval; a paired difference with its sign and verdict."""
    extra = int(bool(row.method_b))  # a clear difference may be small beside the values
    text, interval = format_number(row.metric, row.unit, row.value, extra), ""
    if row.ci_low is not None:
        bounds = (format_number(row.metric, row.unit, bound, extra) for bound in (row.ci_low, row.ci_high))
        interval = f"[{', '.join(bounds)}]"
    if row.method_b:
        return Cell(text if text.startswith("−") else f"+{text}", interval, verdict=_verdict(row))
    return Cell(text, interval, best=best)


def _verdict(row: ResultRow) -> str:
    """Whether a paired difference is clearly better or worse; a bias has no direction that is better."""
    if row.ci_low is None or row.ci_low <= 0 <= row.ci_high or row.metric == "bias":
        return ""
    if row.metric not in LOWER_IS_BETTER | HIGHER_IS_BETTER:
        return ""
    return "better" if (row.value > 0) == (row.metric in HIGHER_IS_BETTER) else "worse"


def goodness(row: ResultRow) -> float:
    """Larger is better; bias counts by its size."""
    return -abs(row.value) if row.metric in LOWER_IS_BETTER else row.value


def _best_values(results: Results, column: Column) -> dict[str, float]:
    """Best goodness per track where at least two methods of the track compete. Methods without a track are not ranked."""
    if column.metric not in LOWER_IS_BETTER | HIGHER_IS_BETTER:
        return {}
    by_track: dict[str, list[float]] = {}
    for row in results.where(metric=column.metric, zone=column.zone, threshold=column.threshold, method_b="").rows:
        if row.track and row.method != CEILING:
            by_track.setdefault(row.track, []).append(goodness(row))
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


def area_thresholds(results: Results) -> list[str]:
    """Thresholds at which tables show precision and recall: two of the F-score's."""
    return [text for text in f_thresholds(results) if parse_threshold(text)[0] in (0.5, 1.0)]
