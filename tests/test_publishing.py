"""Which rows are published in ``eval/``: what is read stays, of everything else only what the rule names goes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from conftest import REPOSITORY
from synthetic_run import result_rows
from synthetic_study import write_study

from splathead.config import load_config
from splathead.evaluation.mesh import SCALARS
from splathead.metrics.mesh import CURVE_MM, CURVE_PERCENT, THRESHOLDS_MM, THRESHOLDS_PERCENT
from splathead.report.claims import judge_all
from splathead.report.data import RESULT_FILES, Results
from splathead.report.publishing import publish_file, published_rows
from splathead.report.study.build import study_tables
from splathead.report.study.data import Study, load_study
from splathead.report.study.matrix_figures import study_figures
from splathead.report.study.numbers import numbers, used_macros
from splathead.report.table_set import all_tables
from splathead.report.typeset import latex
from splathead.results import METRICS, ResultRow, read_results, threshold_text, write_results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MM = [threshold_text(value, "mm") for value in CURVE_MM]
PERCENT = [threshold_text(value, "%diag") for value in THRESHOLDS_PERCENT]
WHOLE = ("multiview_test_depth", "interval_antialiased_interval_truth", "interval_classic_interval_truth")
"""Small files that were left whole, with rows of the data sets that another one pools: a table of eval/LOG.md shows some"""


def row(metric: str = "f_score", **columns: object) -> ResultRow:
    fixed = {"experiment": "main", "dataset": "heads", "target": "surface", "views": "all", "zone": "interior",
             "method": "unet", "unit": METRICS[metric].units[0], "value": 0.5, "ci_low": 0.4, "ci_high": 0.6,
             "seed": 0}  # fmt: skip
    return ResultRow(metric=metric, **{**fixed, **columns})


def in_every_place(metric: str, **columns: object) -> list[ResultRow]:
    zones, views = ("interior", "silhouette", "full"), ("all", "near_frontal")
    return [row(metric, zone=zone, views=view, **columns) for zone in zones for view in views]


def kind_of(name: str) -> str:
    return next(kind for kind in RESULT_FILES if name == kind or name.endswith(f"_{kind}"))


def shapes_of(figure: Figure) -> list[bytes]:
    """Every line, bar and picture of a figure, as numbers."""
    found: list[np.ndarray] = []
    for axis in figure.axes:
        found += [line.get_xydata() for line in axis.lines] + [image.get_array() for image in axis.images]
        found += [bar.get_bbox().get_points() for bar in axis.patches]
        found += [path.vertices for collection in axis.collections for path in collection.get_paths()]
    return [np.asarray(drawn).tobytes() for drawn in found]


def kept(kind: str, rows: list[ResultRow]) -> set[ResultRow]:
    return set(published_rows(kind, Results(tuple(rows))).rows)


@pytest.mark.parametrize("kind", ["depth", "cross_degradation", "mesh", "bits"])
def test_methods_own_values_stay_in_every_place_and_differences_inside(kind):
    metrics = ("chamfer_l1", "normal_consistency") if kind == "mesh" else ("rmse", "normal_error", "psnr")
    own = [one for metric in metrics for seed in (0, 1) for one in in_every_place(metric, seed=seed)]
    differences = [one for metric in metrics for one in in_every_place(metric, method_b="bilinear")]
    views = ("all",) if kind == "mesh" else ("all", "near_frontal")
    inside = {one for one in differences if one.zone == "interior" and one.views in views}
    assert kept(kind, own + differences) == set(own) | inside


def test_differences_of_a_measure_that_has_none_inside_stay():
    rows = [row(zone="full", threshold="0.01frac", method_b="edsr"), row("consistency", zone="", method_b="edsr")]
    assert kept("f_score_audit", rows) == set(rows)
    places = ({"experiment": "normals"}, {"target": "render"})  # what these have inside says nothing about the others
    elsewhere = [row("rmse", method_b="edsr"), *(row(method_b="edsr", **place) for place in places)]
    assert kept("depth", [*rows, *elsewhere]) == {*rows, *elsewhere}


def test_thresholds_of_surfaces_are_those_of_tables_in_the_datas_unit():
    places = [one for text in (*MM, *PERCENT) for metric in ("f_score", "precision", "recall")
              for one in in_every_place(metric, threshold=text)]  # fmt: skip
    others = [row("chamfer_l1"), *in_every_place("f_score_auc", threshold="2mm")]
    found = kept("mesh", places + others)
    shown = {threshold_text(value, "mm") for value in THRESHOLDS_MM}
    assert set(others) <= found
    for zone, view in ((one.zone, one.views) for one in in_every_place("f_score")):
        here = [one for one in found if (one.zone, one.views) == (zone, view)]
        curve = set(MM) if (zone, view) == ("interior", "all") else shown
        assert {one.threshold for one in here if one.metric == "f_score"} == curve
        for metric in ("precision", "recall"):
            assert {one.threshold for one in here if one.metric == metric} == {"0.5mm", "1mm"}


def test_curves_are_of_methods_themselves_and_of_one_training():
    rows = [row(threshold=text, seed=seed) for text in MM for seed in (3, 4)]
    pairs = [row(threshold=text, seed=3, method_b="bilinear") for text in MM]
    found = kept("mesh", rows + pairs)
    shown = {threshold_text(value, "mm") for value in THRESHOLDS_MM}
    assert {one.threshold for one in found if one.seed == 3 and not one.method_b} == set(MM)
    assert {one.threshold for one in found if one.seed == 4} == shown
    assert {one.threshold for one in found if one.method_b} == shown


def test_data_without_a_scale_keeps_its_thresholds_in_percent_beside_millimetres():
    percent = [threshold_text(value, "%diag") for value in CURVE_PERCENT]
    nominal = [row("chamfer_l1", dataset="scan", unit="frac"), *(row(dataset="scan", threshold=text) for text in percent)]
    nominal += [row("recall", dataset="scan", threshold=text) for text in ("0.5%diag", "1%diag")]
    known = [row("chamfer_l1"), *(row(threshold=text) for text in MM)]
    unread = [row(threshold="0.5%diag"), row("recall", dataset="scan", threshold="0.1%diag")]
    assert kept("mesh", nominal + known + unread) == set(nominal + known)


def test_near_frontal_differences_of_surfaces_are_f_scores_to_interpolation():
    near = {"views": "near_frontal", "method_b": "bilinear"}
    read = [row(threshold="0.5mm", **near), row(threshold="1mm", **{**near, "method_b": "bilinear_offset"})]
    unread = [row("chamfer_l1", **near), row(threshold="0.5mm", **{**near, "method_b": "edsr"})]
    everywhere = [replace(one, views="all") for one in read + unread]
    assert kept("mesh", read + unread + everywhere) == set(read + everywhere)
    assert kept("depth", [row("psnr", **{**near, "method_b": "edsr"})])


def test_of_pooled_data_sets_own_errors_inside_are_published_too():
    rows = [one for name in ("a", "b", "a+b") for one in in_every_place("rmse", dataset=name)]
    rows += [row("rmse", dataset=name, method_b="bilinear") for name in ("a", "b", "a+b")]
    parts = {one for one in rows if one.dataset != "a+b"}
    assert kept("bits", rows) == set(rows) - parts
    assert kept("depth", rows) - kept("bits", rows) == {row("rmse", dataset=name) for name in ("a", "b")}


def test_published_files_are_published_again_unchanged(tmp_path):
    places = [one for text in (*MM, *PERCENT) for one in in_every_place("f_score", threshold=text)]
    write_results(tmp_path / "mesh.csv", places)
    publish_file("mesh", [tmp_path / "mesh.csv"], tmp_path / "eval" / "x_mesh.csv")
    once = (tmp_path / "eval" / "x_mesh.csv").read_bytes()
    assert len(read_results(tmp_path / "eval" / "x_mesh.csv")) == len(MM) + 5 * len(THRESHOLDS_MM)
    publish_file("mesh", [tmp_path / "eval" / "x_mesh.csv"], tmp_path / "eval" / "x_mesh.csv")
    assert (tmp_path / "eval" / "x_mesh.csv").read_bytes() == once


def test_a_runs_tables_are_made_of_published_rows_alone():
    surfaces = (*SCALARS, "f_score", "f_score_auc", "precision", "recall")
    rows, published = result_rows(), []
    rows += [replace(one, threshold="0.1%diag") for one in rows if one.metric == "f_score" and one.threshold == "1mm"]
    for kind in ("mesh", "depth"):
        part = [one for one in rows if (one.metric in surfaces) == (kind == "mesh")]
        published += published_rows(kind, Results(tuple(part))).rows
    made = [[latex(table) for table in all_tables(Results(tuple(found)))] for found in (rows, published)]
    assert made[0] == made[1] and len(published) < len(rows)


def test_a_studys_tables_and_figures_are_made_of_published_rows_alone(tmp_path):
    write_study(tmp_path)
    study = load_study(tmp_path, "paper")
    thin = Study(study.name, {name: published_rows(kind_of(name), rows) for name, rows in study.kinds.items()}, study.splits)
    assert [latex(table) for table in study_tables(thin)] == [latex(table) for table in study_tables(study)]
    made, of_thin = ({key: shapes_of(figure) for key, figure in study_figures(one).items()} for one in (study, thin))
    assert made == of_thin and all(made.values())
    used = used_macros((REPOSITORY / "paper" / "main.tex").read_text(encoding="utf-8"))
    config = load_config(REPOSITORY / "configs" / "paper.yaml")
    found = [numbers(one, judge_all(one), config) for one in (study, thin)]
    of_all, of_thin = ([texts.get(name) for name in used] for texts in found)
    assert of_all == of_thin and sum(text is not None for text in of_all) > len(used) / 2
    assert sum(map(len, thin.kinds.values())) < sum(map(len, study.kinds.values()))


def test_nothing_is_committed_that_publishing_leaves_out():
    files = {path: kind for kind in RESULT_FILES for path in (REPOSITORY / "eval").glob(f"*_{kind}.csv")}
    assert {path.stem for path in files} > set(WHOLE)
    for path in [path for path in files if path.stem not in WHOLE]:
        rows = Results(tuple(read_results(path)))
        assert len(published_rows(files[path], rows)) == len(rows), f"{path}: run publish_file({files[path]!r}, ...) on it"
