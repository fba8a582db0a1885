"""Which rows of a run's results are published in ``eval/``: one rule, for every kind of result file.

A run's own folder keeps every row. Git keeps every version of a published file, so what no table, figure, claim, macro of
the paper or notebook reads stays out of it:

* Data sets that another one pools: only the methods' own depth errors inside, all views, which the table of data sets shows.
* Differences of two methods: of each metric only those inside, where its experiment has any on that target. Near-frontal
  differences of surfaces: only F-scores to interpolation, which the detailed tables show.
* Thresholds of surfaces: those that tables show, in the unit of the data, of precision and recall too. Of the F-score's
  others only what the figure of its curve shows: methods' own values inside, all views, first seed.

Everything else stays, with its interval: every method's own values in each zone, choice of views, fit, target and seed, and
the pooled data set's differences inside. Rows that are published already pass again, so the rule can be applied to a
published file too: ``publish_file("mesh", [path], path)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from splathead.report.data import Results, load_results, split_by_scale, without_parts
from splathead.report.table_set import DIFFERENCE_BASES
from splathead.report.tables import area_thresholds, f_thresholds
from splathead.results import ResultRow, parse_threshold, write_results


def publish_file(kind: str, sources: Sequence[Path], target: Path) -> None:
    """Write what is published of the result files ``sources`` of one kind (see ``RESULT_FILES``) to ``target``."""
    write_results(target, published_rows(kind, load_results({kind: list(sources)})).rows)


def published_rows(kind: str, results: Results) -> Results:
    """The rows that are published, by the rule of this module."""
    whole = without_parts(results).rows
    if kind == "depth":
        pooled = set(whole)
        whole += tuple(row for row in results.rows if row not in pooled and _is_own_error_inside(row))
    inside = {_measure(row) for row in whole if row.method_b and row.zone == "interior"}
    kept = Results(tuple(row for row in whole if not row.method_b or row.zone == "interior" or _measure(row) not in inside))
    if kind != "mesh":
        return kept
    return Results(tuple(row for part in split_by_scale(kept).values() for row in _surface_rows(part)))


def _measure(row: ResultRow) -> tuple[str, str, str]:
    return row.experiment, row.target, row.metric


def _is_own_error_inside(row: ResultRow) -> bool:
    return row.zone == "interior" and row.views == "all" and not row.method_b


def _surface_rows(results: Results) -> list[ResultRow]:
    """Published rows of surfaces whose lengths have one unit."""
    areas, scores = area_thresholds(results), f_thresholds(results)
    shown = {"precision": areas, "recall": areas, "f_score": scores}
    units = {parse_threshold(text)[1] for text in scores}
    curve = results.where(metric="f_score", views="all", zone="interior", method_b="").first_seed()
    on_curve = {row for row in curve.rows if parse_threshold(row.threshold)[1] in units}
    at_shown = (row for row in results.rows if row in on_curve or row.threshold in shown.get(row.metric, [row.threshold]))
    return [row for row in at_shown if not row.method_b or _is_shown_difference(row)]


def _is_shown_difference(row: ResultRow) -> bool:
    return row.views != "near_frontal" or (row.metric == "f_score" and row.method_b in DIFFERENCE_BASES)
