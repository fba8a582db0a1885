"""Tables whose columns are chosen by more than the metric: fits, degradations or data sets side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from splathead.report.data import HIGHER_IS_BETTER, LOWER_IS_BETTER, Results, arrow, metric_label, threshold_label, unit_label
from splathead.report.tables import Cell, Line, Section, Table, goodness, number_cell
from splathead.results import ResultRow

ABSENT = Cell("–")


@dataclass(frozen=True)
class GridColumn:
    """A column: rows with this metric, threshold and the values of ``where``."""

    metric: str
    where: Mapping[str, object] = field(default_factory=dict)
    threshold: str = ""
    label: str = ""
    main: bool = False
    """its interval is shown in compact forms too"""
    factor: float = 1.0
    """shown value over measured value, where ``unit`` differs from the row's"""
    unit: str = ""

    def selector(self) -> dict[str, object]:
        return {"metric": self.metric, "threshold": self.threshold, **self.where}


@dataclass(frozen=True)
class GridLine:
    """A line: rows with the values of ``where``. Lines of one ``rank`` compete for the best value; empty = not ranked.

    ``text``: its words below the grid's ``text_head``.
    """

    label: str
    where: Mapping[str, object]
    rank: str = ""
    text: str = ""


@dataclass(frozen=True)
class Grid:
    """What a table shows: groups of columns under a title, sections of lines under a title.

    ``text_head``: head of a column of words before those of numbers; empty = no such column.
    """

    key: str
    title: str
    note: str
    groups: Sequence[tuple[str, Sequence[GridColumn]]]
    sections: Sequence[tuple[str, Sequence[GridLine]]]
    first_head: str = "method"
    text_head: str = ""


def build_grid(grid: Grid, results: Results) -> Table | None:
    """The table without columns and lines that have no row; None when nothing is left, ValueError for two rows in a cell."""
    lookup = _Lookup(results, grid)
    lines = [line for _, section in grid.sections for line in section]
    groups = [(title, [c for c in columns if any(lookup.row(line, c) for line in lines)]) for title, columns in grid.groups]
    columns = [column for _, group in groups for column in group]
    best = {(id(column), rank): _best(lookup, lines, column, rank) for column in columns for rank in {x.rank for x in lines}}
    texts = int(bool(grid.text_head))
    sections = []
    for title, section in grid.sections:
        kept = [line for line in section if any(lookup.row(line, column) for column in columns)]
        cells = ([_cell(lookup.row(line, c), c, best[id(c), line.rank]) for c in columns] for line in kept)
        made = tuple(Line(line.label, (*[Cell(line.text)] * texts, *numbers)) for line, numbers in zip(kept, cells))
        sections += [Section(title, made)] if made else []
    if not sections:
        return None
    spans = (*[("", 1)] * texts, *((title, len(group)) for title, group in groups if group))
    heads = (*[(grid.text_head, "")] * texts, *(_head(lookup, lines, column) for column in columns))
    main = tuple(index for index, column in enumerate(columns, texts) if column.main)
    spans = spans if any(title for title, _ in spans) else ()
    return Table(grid.key, grid.title, grid.note, heads, tuple(sections), spans, grid.first_head, main, texts)


class _Lookup:
    """Rows by the columns that lines and grid columns name."""

    def __init__(self, results: Results, grid: Grid) -> None:
        lines = [line for _, section in grid.sections for line in section]
        columns = [column for _, group in grid.groups for column in group]
        named = {name for line in lines for name in line.where} | {name for column in columns for name in column.selector()}
        self._names = sorted(named | {"method_b"})
        metrics, thresholds = {c.metric for c in columns}, {c.threshold for c in columns}
        wanted = (row for row in results.rows if row.metric in metrics and row.threshold in thresholds)
        self._index = Results(tuple(wanted)).index(*self._names)

    def row(self, line: GridLine, column: GridColumn) -> ResultRow | None:
        values = {"method_b": "", **line.where, **column.selector()}
        return self._index.get(tuple(values.get(name, "") for name in self._names))


def _cell(row: ResultRow | None, column: GridColumn, best: float | None) -> Cell:
    if row is None:
        return ABSENT
    is_best = best is not None and goodness(row) == best
    if column.factor != 1.0:
        return Cell(f"{column.factor * row.value:,.1f}".replace(",", "\u202f"), best=is_best)
    return number_cell(row, best=is_best)


def _best(lookup: _Lookup, lines: Sequence[GridLine], column: GridColumn, rank: str) -> float | None:
    """Best goodness of the ranked lines; None where fewer than two compete or no direction is better."""
    if not rank or column.metric not in LOWER_IS_BETTER | HIGHER_IS_BETTER:
        return None
    rows = [lookup.row(line, column) for line in lines if line.rank == rank]
    values = [goodness(row) for row in rows if row is not None and not row.method_b]
    return max(values) if len(values) > 1 else None


def _head(lookup: _Lookup, lines: Sequence[GridLine], column: GridColumn) -> tuple[str, str]:
    unit = next(row.unit for row in (lookup.row(line, column) for line in lines) if row is not None)
    label = column.label or f"{metric_label(column.metric)} {arrow(column.metric)}".strip()
    named = column.threshold and not column.label
    return label, threshold_label(column.threshold) if named else column.unit or unit_label(column.metric, unit)
