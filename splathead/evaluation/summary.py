"""What the terminal shows after an evaluation: one small table per target and the verdicts on the networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from splathead.evaluation.views import Method
from splathead.results import ResultRow

LABELS = {
    "rmse": "RMSE", "bias": "bias", "normal_error": "normals", "psnr": "PSNR", "coverage": "filled", "chamfer_l1": "Chamfer",
    "normal_consistency": "cosine", "hausdorff_95": "H95", "consistency": "disagree", "f_score": "F",
    "interval_coverage_50": "in 50 %", "interval_coverage_90": "in 90 %", "ause_rmse": "AUSE RMSE", "ause_mae": "AUSE MAE",
    "nll": "NLL", "interval_violation": "violated", "interval_excess": "excess",
}  # fmt: skip
VERDICT_METRICS = ("rmse", "chamfer_l1")
"""Smaller is better for each."""
_BLOCK = ("dataset", "split", "fit", "raster_mode", "target")


@dataclass(frozen=True)
class Column:
    """A measure that a table shows."""

    metric: str
    zone: str = ""
    threshold: str = ""

    def of(self, row: ResultRow) -> bool:
        """Whether a row belongs into this column."""
        return (row.metric, row.zone, row.threshold) == (self.metric, self.zone, self.threshold)


def summary_lines(rows: Sequence[ResultRow], columns: Sequence[Column], methods: Sequence[Method]) -> list[str]:
    """Tables over all views: methods by columns that were measured, then each network's paired differences (interior)."""
    from splathead.report.data import Results  # which reads files that stages write

    blocks: dict[tuple[str, ...], list[ResultRow]] = {}
    for row in Results(tuple(rows)).first_seed().rows:
        if row.views == "all":
            blocks.setdefault(tuple(getattr(row, name) for name in _BLOCK), []).append(row)
    order = {method.name: index for index, method in enumerate(methods)}
    lines = []
    for block, found in sorted(blocks.items(), key=lambda item: (item[0][:4], item[0][4] != "surface")):
        lines += ["", _title(dict(zip(_BLOCK, block)), found), *_table(found, columns, order)]
        paired = [row for row in found if row.method_b and row.zone == "interior" and row.metric in VERDICT_METRICS]
        lines += [f"  {verdict(row)}" for row in paired]
    return lines


def _title(block: dict[str, str], rows: Sequence[ResultRow]) -> str:
    target = f"against {block['target']}" if block["target"] else "between views"
    people = max(row.n or 0 for row in rows)
    words = f"{block['dataset']} {block['split']}, {block['fit']} fit, {block['raster_mode']}"
    return f"{target} ({words}, all views, {people} {'person' if people == 1 else 'people'})"


def _table(rows: Sequence[ResultRow], columns: Sequence[Column], order: dict[str, int]) -> list[str]:
    values = {(row.method, column): row for row in rows if not row.method_b for column in columns if column.of(row)}
    shown = [column for column in columns if any(key[1] == column for key in values)]
    if any(column.threshold.endswith("mm") for column in shown):
        shown = [column for column in shown if not column.threshold.endswith("%diag")]
    names = sorted({key[0] for key in values}, key=lambda name: (order.get(name, len(order)), name))
    units = [next(row.unit for (_, found), row in values.items() if found == column) for column in shown]
    head = [f"{LABELS[column.metric]}{'@' + column.threshold if column.threshold else ''}" for column in shown]
    second = [" ".join(filter(None, (column.zone, "" if unit == "frac" else unit))) for column, unit in zip(shown, units)]
    width = max(16, *(len(name) + 1 for name in names))
    lines = ["".join([f"  {'':{width}s}", *(f"{text:>15s}" for text in line)]) for line in (head, second)]
    for name in names:
        cells = [values.get((name, column)) for column in shown]
        numbers = ("-" if row is None else format(row.value, ".4g") for row in cells)
        lines.append("".join([f"  {name:{width}s}", *(f"{number:>15s}" for number in numbers)]))
    return lines


def verdict(row: ResultRow) -> str:
    """One paired difference in words: "unet vs bilinear: rmse -0.31 mm [-0.38, -0.25] over 6 people: better"."""
    interval, word = "", "no interval from one person"
    if row.ci_low is not None:
        interval = f" [{row.ci_low:+.3g}, {row.ci_high:+.3g}]"
        word = "better" if row.ci_high < 0 else "worse" if row.ci_low > 0 else "no clear difference"
    people = f"{row.n} {'person' if row.n == 1 else 'people'}"
    unit = "" if row.unit == "frac" else f" {row.unit}"
    return f"{row.method} vs {row.method_b}: {row.metric} {row.value:+.3g}{unit}{interval} over {people}: {word}"
