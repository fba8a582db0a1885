"""What the terminal shows after an ablation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from splathead.results import ResultRow

ZONE = "interior"


def blocks(rows: Sequence[ResultRow], metric: str) -> Iterator[tuple[str, list[ResultRow]]]:
    """Rows of a measure (interior; near-frontal views as published, all views where none is near-frontal), with a title for
    each data set, fit and target; all data sets together where there are rows of them."""
    rows = [row for row in rows if (row.metric, row.zone, row.method_b) == (metric, ZONE, "")]
    views = "near_frontal" if any(row.views == "near_frontal" for row in rows) else "all"
    together = any("+" in row.dataset for row in rows)
    found: dict[str, list[ResultRow]] = {}
    for row in rows:
        if row.views == views and (not together or "+" in row.dataset):
            title = f"against {row.target} ({row.dataset} {row.split}, {row.fit} fit, {row.raster_mode}, {views} views)"
            found.setdefault(title, []).append(row)
    yield from found.items()


def matrix_lines(rows: Sequence[ResultRow], line: Callable[[ResultRow], str]) -> list[str]:
    """Values of rows as a table: lines as ``line`` names them, columns by the input that a method was applied to."""
    columns = list(dict.fromkeys(row.degradation_test for row in rows))
    values = {(line(row), row.degradation_test): row.value for row in rows}
    lines = ["".join([f"  {'':20s}", *(f"{name:>21s}" for name in columns)])]
    for name in dict.fromkeys(line(row) for row in rows):
        cells = [values.get((name, column)) for column in columns]
        lines.append("".join([f"  {name:20s}", *(f"{'-' if v is None else format(v, '.4g'):>21s}" for v in cells)]))
    return lines
