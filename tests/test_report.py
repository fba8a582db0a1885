"""Tables, figures, published results and the README's block: what they say is what the rows say."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_run import result_rows

from splathead.config import Config, ReportConfig
from splathead.images import write_json
from splathead.report import build
from splathead.report.data import Results, format_number, load_results, published_files
from splathead.report.figures import LINE_STYLES, METHOD_COLOURS, all_figures, f_score_figure, figure_bytes, inline_svg
from splathead.report.html import page_facts
from splathead.report.table_set import all_tables, main_table
from splathead.report.tables import NOT_MEASURED, Table, f_thresholds
from splathead.report.typeset import escape_tex, html_table, latex, markdown
from splathead.results import ResultRow, write_results


def row(metric: str, value: float, unit: str = "mm", **columns) -> ResultRow:
    fixed = {"experiment": "main", "dataset": "test", "fit": "vanilla", "target": "surface", "split": "test", "views": "all",
             "zone": "interior", "track": "A", "n": 6}  # fmt: skip
    return ResultRow(metric=metric, value=value, unit=unit, **{**fixed, **columns})


def cell(table: Table, line_label: str, head: str, section: int = 0):
    column = [label for label, _ in table.heads].index(head)
    return next(line for line in table.sections[section].lines if line.label == line_label).cells[column]


@pytest.fixture(scope="module")
def results() -> Results:
    return Results(tuple(result_rows()))


def test_no_two_methods_look_the_same_in_a_figure():
    looks = [(colour, LINE_STYLES.get(method, "-")) for method, colour in METHOD_COLOURS.items()]
    assert len(set(looks)) == len(looks)


def test_table_shows_the_rows_numbers():
    rows = [
        row("rmse", 0.4125, method="unet", ci_low=0.39, ci_high=0.44), row("rmse", 1.25, method="bilinear"),
        row("bias", -0.01, method="unet"), row("bias", 0.02, method="bilinear"), row("psnr", 45.678, "dB", method="unet"),
        row("rmse", -0.8375, method="unet", method_b="bilinear", ci_low=-0.9, ci_high=-0.7),
        row("bias", -0.03, method="unet", method_b="bilinear", ci_low=-0.9, ci_high=0.7),
    ]  # fmt: skip
    table = main_table(Results(tuple(rows)), "surface", "all")
    assert [line.label for line in table.sections[0].lines] == ["bilinear", "UNet", "UNet − bilinear"]
    best = cell(table, "UNet", "RMSE ↓")
    assert (best.text, best.interval, best.best) == ("0.412", "[0.390, 0.440]", True)
    assert not cell(table, "bilinear", "RMSE ↓").best
    assert cell(table, "bilinear", "PSNR ↑").text == NOT_MEASURED
    difference = cell(table, "UNet − bilinear", "RMSE ↓")
    assert (difference.text, difference.verdict) == ("−0.8375", "better")
    assert cell(table, "UNet − bilinear", "bias → 0").verdict == ""
    assert cell(table, "UNet", "bias → 0").best


def test_best_is_ranked_within_a_track_and_references_are_not_ranked():
    rows = [
        row("rmse", 0.1, method="raw_splat", track=""), row("rmse", 0.3, method="splathead", track="C"),
        row("rmse", 0.4, method="unet"), row("rmse", 0.5, method="bilinear"),
    ]  # fmt: skip
    table = main_table(Results(tuple(rows)), "surface", "all")
    assert [line.label for line in table.sections[0].lines if line.cells[0].best] == ["UNet"]


def test_clearly_worse_is_said():
    interval = {"ci_low": -1.5, "ci_high": -0.5}
    rows = [row("psnr", -1.0, "dB", method="unet", method_b="bilinear", **interval), row("psnr", 40, "dB", method="unet")]
    table = main_table(Results(tuple(rows)), "surface", "all")
    assert cell(table, "UNet − bilinear", "PSNR ↑").verdict == "worse"
    assert 'class="worse"' in html_table(table)


def test_of_one_person_there_are_neither_intervals_nor_differences():
    rows = [row("rmse", 2.0, method="bilinear"), row("rmse", 1.0, method="unet")]
    rows.append(row("rmse", -1.0, method="unet", method_b="bilinear"))
    alone = main_table(Results(tuple(replace(one, ci_low=None, ci_high=None) for one in rows)), "surface", "all")
    assert [line.label for line in alone.sections[0].lines] == ["bilinear", "UNet"] and "One test identity" in alone.note
    several = main_table(Results(tuple(replace(one, ci_low=0.0, ci_high=0.1) for one in rows)), "surface", "all")
    assert len(several.sections[0].lines) == 3 and "bootstrap" in several.note


def test_fractions_of_the_diagonal_are_percent():
    rows = [row("rmse", 0.00123, "frac", method="unet"), row("f_score", 0.5, "frac", method="unet", threshold="0.5%diag")]
    table = main_table(Results(tuple(rows)), "surface", "all")
    assert ("RMSE ↓", "% diag") in table.heads and ("F ↑", "@ 0.5 % diag") in table.heads
    assert cell(table, "UNet", "RMSE ↓").text == "0.123"


def test_units_are_never_mixed_in_a_column():
    rows = [row("rmse", 0.5, method="unet"), row("rmse", 0.001, "frac", method="unet", dataset="capture")]
    tables = all_tables(Results(tuple(rows)))
    assert [table.heads[0] for table in tables if table.key.startswith("main")] == [("RMSE ↓", "mm"), ("RMSE ↓", "% diag")]


def test_two_rows_for_one_cell_are_an_error():
    rows = [row("rmse", 0.5, method="unet", seed=0), row("rmse", 0.6, method="unet", seed=1)]
    with pytest.raises(ValueError, match=r"2 result rows.*differ in.*seed"):
        main_table(Results(tuple(rows)), "surface", "all")


def test_thresholds_shown_are_the_evaluators(results):
    assert f_thresholds(results) == ["0.1mm", "0.25mm", "0.5mm", "1mm", "2mm"]


def test_absent_lpips_is_said_not_guessed(results):
    heldout = next(table for table in all_tables(results) if table.key == "heldout")
    assert "LPIPS ↓" in [label for label, _ in heldout.heads]
    assert NOT_MEASURED in markdown(heldout) and NOT_MEASURED in latex(heldout) and NOT_MEASURED in html_table(heldout)


def test_a_run_of_other_fits_has_a_section_and_a_panel_for_each(results):
    others = {"vanilla": "few_views", "regularised": "few_gaussians"}
    four = Results(results.rows + tuple(replace(row, fit=others[row.fit]) for row in results.rows if row.fit))
    expected = ["few_gaussians fit", "few_views fit", "regularised fit", "vanilla fit"]
    tables = {table.key: table for table in all_tables(four)}
    for key in ("main_surface_all", "zones_surface", "fused", "heldout"):
        assert [section.title for section in tables[key].sections] == expected, key
    assert r"few\_views fit" in latex(tables["main_surface_all"])
    figure = f_score_figure(four, "surface")
    assert sorted(axis.get_title(loc="left") for axis in figure.axes) == expected
    assert set(all_figures(four)) == set(all_figures(results)) and page_facts(four)


def test_markdown_and_latex_are_rectangular(results):
    for table in all_tables(results):
        width = len(table.heads) + 1
        lines = [line for line in markdown(table).splitlines() if line.startswith("|")]
        assert len(lines) > 2 and {line.count("|") for line in lines} == {width + 1}
        text = latex(table)
        body = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
        assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {width - 1}
        assert text.count("{") == text.count("}")
        assert not re.search(r"(?<!\\)%", "\n".join(text.splitlines()[2:]))


def test_escaping():
    assert escape_tex("a_b & 5 % − {x}") == r"a\_b \& 5 \% $-$ \{x\}"
    rows = [row("rmse", 0.5, method="<script>&|_")]
    table = main_table(Results(tuple(rows)), "surface", "all")
    assert "<script>" not in html_table(table) and "&lt;script&gt;" in html_table(table)
    assert r"\|" in markdown(table)


@pytest.mark.parametrize(
    ("metric", "unit", "value", "text"),
    [("rmse", "mm", 0.41249, "0.412"), ("bias", "mm", -0.0001, "0.000"), ("bias", "mm", -1.5, "−1.500"),
     ("coverage", "frac", 0.98765, "98.8"), ("gaussians", "count", 12345.0, "12\u202f345"), ("ssim", "frac", 0.98, "0.980"),
     ("normal_error", "deg", 5.0, "5.00"), ("consistency", "frac", 0.0012, "0.120")],
)  # fmt: skip
def test_numbers_as_text(metric, unit, value, text):
    assert format_number(metric, unit, value) == text


def test_figures_have_the_same_bytes_each_time(results):
    first, second = (f_score_figure(results, "surface") for _ in range(2))
    for suffix in ("png", "pdf", "svg"):
        assert figure_bytes(first, suffix) == figure_bytes(second, suffix), suffix


def test_figures_are_made_for_what_was_measured(results):
    assert set(all_figures(results.where(target="surface"))) == {"comparison_surface", "f_score_surface"}
    only_rmse = results.where(metric="rmse", target=("surface", "render"))
    assert set(all_figures(only_rmse)) == {"comparison_surface", "comparison_render"}
    assert all_figures(Results(())) == {}


def test_inline_svg_follows_the_page(results):
    svg = inline_svg(f_score_figure(results, "surface"), "F")
    assert svg.startswith("<svg ") and svg.rstrip().endswith("</svg>")
    assert "currentColor" in svg and 'aria-label="F"' in svg and "#222222" not in svg


def config_named(folder: Path, name: str = "quick") -> Config:
    return Config(name=name, runs_dir=str(folder / "runs"), report=ReportConfig(formats=["png"]))


def test_published_results_give_the_same_tables(results, tmp_path):
    config = config_named(tmp_path)
    results = results.where(target=("surface", ""), fit="regularised")
    files = {"02_reconstruct_gaussians/heldout.csv": "reconstruction", "07_evaluate_depth/depth.csv": "main"}
    for path, experiment in files.items():
        (config.run_folder / path).parent.mkdir(parents=True)
        write_results(config.run_folder / path, results.where(experiment=experiment).rows)
    info = {"name": "head", "identity": "head", "split": "test", "mesh_sha256": "1" * 64}
    write_json(config.run_folder / "01_collect_heads" / "head" / "subject.json", info)
    paths = build.publish(config, tmp_path / "eval")
    assert [path.name for path in paths] == ["quick_heldout.csv", "quick_depth.csv"]
    published = load_results(published_files(tmp_path / "eval", "quick"))
    assert {row.key() for row in published.rows} == {row.key() for row in results.where(experiment=tuple(files.values())).rows}
    build.build_from_eval(config, tmp_path / "eval", tmp_path / "a")
    build.build_from_eval(config, tmp_path / "eval", tmp_path / "b")
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert {"tables", "figures"} == {path.parts[0] for path in files} and len(files) > 8
    assert all((tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes() for path in files)
    assert "0.627" in (tmp_path / "a/tables/main_surface_all.md").read_text()


def test_results_of_other_test_meshes_are_not_published_over_the_frozen_ones(results, tmp_path):
    config = config_named(tmp_path)
    subject = config.run_folder / "01_collect_heads" / "head" / "subject.json"
    depth = config.run_folder / "07_evaluate_depth" / "depth.csv"
    depth.parent.mkdir(parents=True)
    write_results(depth, results.where(experiment="main", metric="rmse").rows)
    info = {"name": "head", "identity": "head", "split": "test", "mesh_sha256": "1" * 64}
    write_json(subject, info)
    published = build.publish(config, tmp_path / "eval")[0]
    before = published.read_bytes()
    write_json(subject, {**info, "mesh_sha256": "2" * 64})
    write_results(depth, results.where(experiment="main", metric="mae").rows)
    with pytest.raises(ValueError, match="differs from the frozen one"):
        build.publish(config, tmp_path / "eval")
    assert published.read_bytes() == before


def test_missing_published_results_are_named(tmp_path):
    (tmp_path / "other_depth.csv").touch()
    with pytest.raises(FileNotFoundError, match=r"no quick_<heldout\|.*other_depth.csv"):
        published_files(tmp_path, "quick")


def test_readme_block_is_replaced_and_nothing_else(results, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- results:begin -->\nstale \\1 numbers\n<!-- results:end -->\nafter\n")
    build.update_readme(readme, results, "quick")
    text = readme.read_text()
    assert text.startswith("before\n<!-- results:begin -->\n") and text.endswith("<!-- results:end -->\nafter\n")
    assert "stale" not in text and "Depth against true surface" in text
    build.update_readme(readme, results, "quick")
    assert readme.read_text() == text
    readme.write_text("no markers")
    with pytest.raises(ValueError, match="exactly one block"):
        build.update_readme(readme, results, "quick")
    readme.write_text("<!-- results:begin --><!-- results:end -->")
    with pytest.raises(ValueError, match="no main table"):
        build.update_readme(readme, Results(()), "quick")


def test_nothing_measured_is_no_table():
    assert all_tables(Results(())) == []
    only = replace(row("rmse", 0.5, method="unet"), experiment="ablation")
    assert all_tables(Results((only,))) == []


def test_pooled_data_sets_are_one_line_of_a_figure_and_one_headline():
    rows = [row("rmse", value, method=method, dataset=name, seed=0)
            for name, value in (("a", 1.0), ("b", 3.0), ("a+b", 2.0)) for method in ("bilinear", "unet")]  # fmt: skip
    rows += [row("rmse", -0.5, method="unet", method_b="bilinear", dataset=name, seed=0) for name in ("a", "b", "a+b")]
    (_, figure) = all_figures(Results(tuple(rows)))["comparison_surface"]
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in dots] == [2.0, 2.0]
    facts = page_facts(Results(tuple(rows)))
    assert facts.count("<li") == 2 and "2.000 mm" in facts and "−0.5000 mm" in facts
