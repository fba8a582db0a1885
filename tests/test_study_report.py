"""The study's tables, figures, claims and macros: made of the rows, byte-stable, and honest about what is absent."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import REPOSITORY
from synthetic_study import METHODS, write_study

from splathead.config import load_config
from splathead.report.claims import (
    DOES_NOT,
    PARTLY,
    REPLICATES,
    UNTESTED,
    Measured,
    claims_csv,
    equal,
    judge_all,
    published,
    same_direction,
    same_size,
)
from splathead.report.data import Results, without_parts
from splathead.report.study.ablation_tables import ablation_tables, error_budget_table
from splathead.report.study.build import build_study, readme_block, study_tables
from splathead.report.study.causes import CONTROLS, FIVE, TOTAL, causes, pair_cause
from splathead.report.study.data import FITS, Study, focus, load_study, pooled
from splathead.report.study.grid import Grid, GridColumn, GridLine, build_grid
from splathead.report.study.main_tables import main_table, main_tables, real_heads_table
from splathead.report.study.matrix_figures import FIGURES, study_figures
from splathead.report.study.numbers import macro_name, numbers, numbers_tex, used_macros
from splathead.report.table_set import training_table
from splathead.report.typeset import latex, markdown
from splathead.results import ResultRow, read_results, write_results

CONFIG = load_config(REPOSITORY / "configs" / "paper.yaml")
PNG_ONLY = replace(CONFIG, report=replace(CONFIG.report, formats=["png"]))


def row(metric: str = "rmse", value: float = 1.0, unit: str = "mm", **columns: object) -> ResultRow:
    fixed = {
        "experiment": "main",
        "fit": "vanilla",
        "method": "unet",
        "target": "surface",
        "views": "all",
        "zone": "interior",
        "track": "A",
    }
    return ResultRow(metric=metric, value=value, unit=unit, **{**fixed, **columns})


@pytest.fixture(scope="module")
def eval_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("eval")
    write_study(folder)
    return folder


@pytest.fixture(scope="module")
def study(eval_folder) -> Study:
    return load_study(eval_folder, "paper")


@pytest.fixture(scope="module")
def found(study) -> dict[str, str]:
    return numbers(study, judge_all(study), CONFIG)


def test_kinds_are_found_by_name_and_their_absence_is_an_error(study, tmp_path):
    assert {"depth", "mesh", "scan_depth", "long_depth", "bits"} <= set(study.kinds)
    assert set(study.real_heads()) == {"scan", "capture", "lam"} and len(study.splits["test"]) == 24
    with pytest.raises(FileNotFoundError, match=r"paper_depth\.csv"):
        load_study(tmp_path, "paper")


def test_main_rows_are_pooled_and_of_the_first_seed(study):
    assert set(study.main.distinct("dataset")) == {"anny+ict"}
    assert {r.seed for r in study.main.rows} == {0}
    assert {r.seed for r in study.main_of_all_data.where(method="unet").rows} == {0, 1, 2}


def test_the_first_seed_is_that_of_each_methods_training_on_a_target():
    trainings = (("surface", 0), ("surface", 1), ("render", 1), ("render", 2), ("render", None))
    rows = Results(tuple(row(method="unet", target=target, seed=seed) for target, seed in trainings)).first_seed().rows
    assert [(r.target, r.seed) for r in rows] == [("surface", 0), ("render", 1), ("render", None)]


def test_data_sets_without_a_pooled_one_are_not_mixed():
    with pytest.raises(ValueError, match=r"\['ict', 'anny'\], expected one"):
        pooled(Results((row(dataset="ict"), row(dataset="anny"))))
    assert len(pooled(Results((row(dataset="ict"), row(dataset="ict+anny"))))) == 1


def test_published_rows_of_a_pooled_study_leave_its_parts_out():
    names = ("ict", "anny", "anny+ict", "scan", "")
    kept = without_parts(Results(tuple(row(dataset=name) for name in names)))
    assert [r.dataset for r in kept.rows] == ["anny+ict", "scan", ""]
    assert len(without_parts(Results((row(dataset="ict"),)))) == 1


def test_a_run_with_a_training_for_each_target_has_a_table_of_them(study):
    table = training_table(study.kinds["training"])
    labels = [line.label for line in table.sections[0].lines]
    assert "UNet for surface" in labels and "UNet for render" in labels and len(labels) == len(set(labels))


def test_the_published_schedule_is_beside_the_short_one(study):
    table = {table.key: table for table in main_tables(study)}["long"]
    tracks = [[line.label for line in section.lines] for section in table.sections]
    assert tracks == [
        ["UNet", "UNet, 10,000 steps", "UNet, 100 epochs", "SplatHead", "SplatHead, 10,000 steps"],
        ["UNet + guides", "UNet + guides, 10,000 steps", "SplatHead + guides", "SplatHead, 10,000 steps + guides"],
    ]
    own = [r for r in study.long_training().rows if r.metric == "rmse"]
    assert {r.method for r in own} == {"unet_epochs"} and "100 epochs" in markdown(table)
    assert not [r for r in study.main.rows if r.method == "unet_epochs"]


def test_views_from_all_around_have_a_table_and_macros_of_their_own(study):
    table = {table.key: table for table in main_tables(study)}["around"]
    assert [line.label for line in table.sections[1].lines][-1] == "SplatHead, mixture, then views all around + guides"
    place = {"method": "splathead", "metric": "rmse", "method_b": "", "fit": "vanilla", "views": "all", "zone": "interior"}
    (around,), (main,) = (rows.where(**place, target="surface").rows for rows in (study.around(), study.main))
    assert around.value > 1.3 * main.value
    found = numbers(study, judge_all(study), CONFIG)
    assert found["AroundRmseSplatheadVanilla"] == f"{around.value:.3f}"
    assert found["RmseSplatheadSurfaceVanilla"] == f"{main.value:.3f}"


def test_the_papers_tables_and_figures_keep_the_two_fits_whatever_others_there_are(study):
    kinds = {}
    for kind, rows in study.kinds.items():
        extra = [replace(r, fit="few_views") for r in rows.rows if r.fit == "vanilla" and not kind.startswith("capture")]
        kinds[kind] = Results(rows.rows + tuple(extra))
    assert len(kinds["depth"]) > len(study.kinds["depth"])
    both = study, Study(study.name, kinds, study.splits)
    for build in (main_tables, ablation_tables):
        before, after = ({table.key: markdown(table) for table in build(one)} for one in both)
        assert before == after
    before, after = (study_figures(one) for one in both)
    assert before.keys() == after.keys()
    panels = [[axis.get_title(loc="left") for axis in figures["f_curves"].axes] for figures in (before, after)]
    assert panels[0] == panels[1]


def test_focus_prefers_by_metric():
    rows = Results((row(zone="interior"), row(zone="full"), row("ssim", 0.9, "frac", zone="full")))
    assert [(r.metric, r.zone) for r in focus(rows, "zone").rows] == [("rmse", "interior"), ("ssim", "full")]


def test_grid_shows_each_row_in_its_cell_and_refuses_two():
    rows = (row(value=1.5, ci_low=1.0, ci_high=2.0), row(value=0.5, fit="regularised"), row(value=2.5, method="edsr"))
    columns = [GridColumn("rmse", {"fit": fit}, main=True) for fit in ("vanilla", "regularised")]
    lines = [GridLine(name, {"method": name}, "A") for name in ("edsr", "unet", "absent")]
    grid = Grid("k", "title", "note", [("both", columns)], [("", lines)])
    table = build_grid(grid, Results(rows))
    cells = {line.label: [(c.text, c.best) for c in line.cells] for line in table.sections[0].lines}
    assert cells == {"edsr": [("2.500", False), ("–", False)], "unet": [("1.500", True), ("0.500", False)]}
    assert "{\\tiny [1.000, 2.000]}" in latex(table, intervals=False) and "\\multicolumn{2}{c}{both}" in latex(table)
    with pytest.raises(ValueError, match=r"2 result rows.*seed"):
        build_grid(grid, Results((*rows, row(value=9.0, seed=1))))
    assert build_grid(grid, Results(())) is None


def test_main_table_holds_every_method_once_and_the_rows_values(study):
    table = main_table(study, "surface")
    labels = [line.label for section in table.sections for line in section.lines]
    assert len(labels) == len(set(labels)) == len(METHODS)
    wanted = study.main.one(
        metric="rmse", method="unet", target="surface", fit="vanilla", views="all", zone="interior", method_b=""
    )
    assert f"{wanted.value:.3f}" in markdown(table)
    assert [title for title, _ in table.groups] == ["vanilla fit", "regularised fit"]


def test_real_heads_at_a_glance_have_networks_and_methods_without_training(study):
    (section,) = real_heads_table(study).sections
    cells = {line.label: [cell.text for cell in line.cells] for line in section.lines}
    assert set(cells) >= {"UNet", "bilinear"} and len(cells["UNet"]) == 5  # two fits of the scan, two of the capture, LAM's
    assert "–" not in cells["UNet"] + cells["bilinear"]


def test_every_table_is_rectangular_in_latex_and_markdown(study):
    tables = study_tables(study)
    assert len(tables) == len({table.key for table in tables}) > 25
    for table in tables:
        width = len(table.heads) + 1
        lines = [line for line in markdown(table).splitlines() if line.startswith("|")]
        assert {line.count("|") for line in lines} == {width + 1}, table.key
        text = latex(table, intervals=False)
        body = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
        assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {width - 1}, table.key
        assert text.count("{") == text.count("}") and text.isascii(), table.key


def test_what_was_not_measured_has_no_table_and_no_figure(tmp_path):
    kinds = ("bits", "normals", "error_budget", "cross_degradation", "f_score_audit", "uncertainty", "scan_depth")
    write_study(tmp_path, leave_out=kinds)
    study = load_study(tmp_path, "paper")
    assert ablation_tables(study) == []
    assert not {"real_scan_surface", "bits"} & {table.key for table in main_tables(study)}
    assert set(study_figures(study)) == {"f_curves", "cost", "paired"}
    verdicts = {item.claim.key: item.verdict for item in judge_all(study)}
    assert verdicts["CrossDrop"] == verdicts["BitsGap"] == verdicts["FGapMixed"] == UNTESTED
    assert numbers_tex(numbers(study, judge_all(study), CONFIG), ["BitsRmseUnetEightBitVanilla"]).endswith(
        r"{\notmeasured}" + "\n"
    )


def test_dsine_is_said_to_be_absent_until_it_is_measured(study):
    table = next(table for table in ablation_tables(study) if table.key == "normals")
    assert markdown(table).count("weights not available") == 2
    rows = study.kinds["normals"].rows
    dsine = [replace(r, method="unet_normals_dsine") for r in rows if r.method == "unet_normals_splat"]
    with_dsine = Study("paper", {"normals": Results((*rows, *dsine))})
    assert "weights not available" not in markdown(ablation_tables(with_dsine)[0])


def test_error_budget_separates_fits_and_raster_modes(study):
    table = error_budget_table(study)
    assert [title for title, _ in table.groups] == [
        f"{f} fit, {m}" for f in ("vanilla", "regularised") for m in ("classic", "antialiased")
    ]


def psnr_rows(drop: dict[tuple[str, str], float]) -> Results:
    names = sorted({name for pair in drop for name in pair} | set(FIVE))
    key = {"experiment": "cross_degradation", "target": "render"}
    pairs = [(a, b) for a in names for b in names]
    made = (row("psnr", 50 - drop.get((a, b), 0), "dB", **key, degradation_train=a, degradation_test=b) for a, b in pairs)
    return Results(tuple(made))


def test_causes_of_planted_drops_are_found_and_add_up():
    planted = {"noise": 6.0, "resampled ↔ real render": 3.0, "8-bit code": 0.5}
    drop = {(a, b): planted[pair_cause((a, b))] for a in FIVE for b in FIVE if a != b}
    drop |= dict.fromkeys([("bicubic", "area"), ("area", "bicubic")], 2.0)
    by_label = {cause.label: cause for cause in causes(psnr_rows(drop))}
    assert {name: by_label[name].drop for name in planted} == pytest.approx(planted)
    assert sum(by_label[name].share for name in planted) == pytest.approx(by_label[TOTAL].drop)
    assert by_label[TOTAL].drop == pytest.approx((8 * 6 + 8 * 3 + 4 * 0.5) / 20)
    control = next(label for label, pair in CONTROLS.items() if pair == ("bicubic", "area"))
    assert by_label[control].drop == pytest.approx(2.0)


def test_an_incomplete_cross_test_has_no_total():
    assert causes(psnr_rows({}).where(degradation_train=FIVE[1:])) == []


def test_cross_tables_hold_networks_with_fixed_weights_and_the_worst_drop_of_each_method():
    psnr = {  # (method, trained on): PSNR on 8bit, area
        ("unet", "8bit"): (48.0, 41.5), ("unet", "area"): (45.0, 50.0), ("splathead_mix", "mixture"): (49.0, 49.5),
        ("splathead_mix_guided", "mixture"): (50.0, 49.75), ("bilinear", ""): (42.0, 42.0),
    }  # fmt: skip
    key = {"experiment": "cross_degradation", "metric": "psnr", "unit": "dB", "target": "render", "seed": 0}
    rows = [
        row(value=value, **key, method=method, degradation_train=trained, degradation_test=tested)
        for (method, trained), values in psnr.items()
        for tested, value in zip(("8bit", "area"), values)
    ]
    rows += [replace(r, value=r.value - 2, target="surface") for r in rows if r.method != "unet"]
    rows += [replace(rows[0], value=6.0, method_b="bilinear")]
    tables = {table.key: table for table in ablation_tables(Study("x", {"cross_degradation": Results(tuple(rows))}))}
    assert set(tables) == {"cross_vanilla", "cross_drop", "cross_surface_vanilla", "cross_surface_drop"}

    def texts(key: str) -> dict[str, list[str]]:
        return {line.label: [cell.text for cell in line.cells] for part in tables[key].sections for line in part.lines}

    ours = ("SplatHead, mixture, 10,000 steps", "SplatHead, mixture, 10,000 steps + guides")
    assert texts("cross_vanilla") == {
        "render 8-bit": ["48.00", "41.50"], "area": ["45.00", "50.00"], "bilinear": ["42.00", "42.00"],
        ours[0]: ["49.00", "49.50"], ours[1]: ["50.00", "49.75"],
    }  # fmt: skip
    assert texts("cross_drop") == {
        "render 8-bit": ["44.75", "6.50"], "area": ["47.50", "5.00"], "bilinear": ["42.00", "0.00"],
        ours[0]: ["49.25", "0.50"], ours[1]: ["49.88", "0.25"],
    }  # fmt: skip
    assert texts("cross_surface_drop")[ours[0]] == ["47.25", "0.50"] and "area" not in texts("cross_surface_drop")
    assert "true surface" in tables["cross_surface_vanilla"].title and tables["cross_drop"].groups == (("vanilla fit", 2),)


def test_predicted_errors_stand_by_zone_and_fit_and_the_better_order_is_bold():
    key = {"experiment": "uncertainty", "dataset": "anny"}
    measures = [(f"interval_coverage_{level}", "frac", level / 100 - 0.01) for level in (50, 80, 90, 95)]
    measures += [("ause_rmse", "frac", 0.2), ("ause_mae", "frac", 0.3), ("nll", "nat", -0.5)]
    better = {("splathead_guided", "ause_rmse"): 0.05, ("splathead_guided", "ause_mae"): 0.05}
    worse = {("silhouette", "nll"): 0.1}
    rows = [
        row(metric, value + worse.get((zone, metric), 0) - better.get((method, metric), 0), unit, **key,
            method=method, zone=zone, fit=fit, views=views)
        for metric, unit, value in measures for method in ("splathead", "splathead_guided")
        for zone in ("interior", "silhouette", "full") for fit in FITS for views in ("all", "near_frontal")
    ]  # fmt: skip
    (table,) = ablation_tables(Study("x", {"uncertainty": Results(tuple(rows))}))
    assert table.key == "uncertainty" and [title for title, _ in table.groups] == ["vanilla fit", "regularised fit"]
    assert [section.title for section in table.sections] == ["interior", "silhouette"]
    (ours, guided), (outside, _) = (section.lines for section in table.sections)
    assert [cell.text for cell in ours.cells[:4]] == ["49.0", "89.0", "0.200", "−0.500"]
    assert outside.cells[3].text == "−0.400"
    assert [cell.best for cell in guided.cells[:3]] == [False] * 2 + [True] and not ours.cells[2].best
    assert table.heads[0] == ("in 50 %", "%") and table.heads[3] == ("NLL ↓", "nat")
    assert "Predicted errors" in latex(table) + markdown(table)


def test_published_numbers_hold_the_studys_own_proof():
    bound, chamfer = (published()[key][0] for key in ("ChamferUnetBound", "ChamferUnet"))
    assert chamfer > bound  # the printed F-score cannot belong to the finer threshold


@pytest.mark.parametrize(
    ("value", "low", "high", "verdict"),
    [(4.0, 3.0, 5.0, REPLICATES), (1.0, 0.5, 1.5, PARTLY), (1.0, -0.1, 2.0, DOES_NOT), (-4.0, -5.0, -3.0, DOES_NOT)],
)
def test_rule_for_differences(value, low, high, verdict):
    assert same_direction(Measured(value, low, high), 4.0) == verdict


def test_rules_for_sizes_and_counts():
    assert [same_size(Measured(v), 4.0) for v in (3.0, 1.0, -3.0)] == [REPLICATES, PARTLY, DOES_NOT]
    assert [equal(Measured(v), 1515265) for v in (1515265, 1515264, 1600000)] == [REPLICATES, PARTLY, DOES_NOT]
    assert equal(Measured(9216123), 9220000) == REPLICATES  # printed as 9.22 M
    with pytest.raises(ValueError, match="finite"):
        Measured(float("nan"), source="x")


@pytest.mark.parametrize(("mib", "verdict"), [(9000.0, REPLICATES), (8000.0, PARTLY), (6000.0, DOES_NOT)])
def test_memory_without_mixed_precision_is_judged_by_the_benchmarks_peak(study, mib, verdict):
    row = ResultRow(
        experiment="benchmark", dataset="UNet training 1024, an image", method="published loop, float32", metric="peak_memory",
        unit="MiB", value=mib, device="a GPU",
    )  # fmt: skip
    mixed = replace(row, method="published loop", value=4000.0)
    with_row = replace(study, kinds=study.kinds | {"training_benchmark": Results((mixed, row))})
    judged = {item.claim.key: item for item in judge_all(with_row)}["Memory"]
    assert (judged.ours.value, judged.verdict) == (mib, verdict) and "paper_training_benchmark.csv" in judged.ours.source


def test_claims_name_their_rows_and_hold_their_values(study):
    judged = judge_all(study)
    lines = list(csv.DictReader(claims_csv(judged).splitlines()))
    assert list(lines[0]) == ["claim", "published", "unit", "ours", "ci_low", "ci_high", "verdict", "why", "source"]
    assert {line["verdict"] for line in lines} <= {REPLICATES, PARTLY, DOES_NOT, UNTESTED} and all(
        line["why"] for line in lines
    )
    assert all(bool(line["source"]) == bool(line["ours"]) == (line["verdict"] != UNTESTED) for line in lines)
    unet = next(line for line in lines if line["claim"] == "UNet over bicubic, PSNR")
    key = {"fit": "vanilla", "target": "render", "views": "near_frontal", "zone": "interior", "metric": "psnr"}
    assert float(unet["ours"]) == pytest.approx(study.main.one(**key, method="unet", method_b="bicubic").value)
    assert float(unet["published"]) == pytest.approx(46.97 - 42.45)


def test_mixed_thresholds_make_the_gap_and_one_threshold_takes_it_away(study):
    by_key = {item.claim.key: item for item in judge_all(study)}
    rows = study.kinds["f_score_audit"].where(fit="vanilla", target="render")

    def f(method: str, setting: str, threshold: str) -> float:
        return rows.one(method=method, experiment=f"f_score_audit_{setting}", threshold=threshold).value

    assert by_key["FGapMixed"].ours.value == pytest.approx(f("unet", "a", "0.01frac") - f("edsr", "b", "0.001frac"))
    assert by_key["FGapFine"].ours.value == pytest.approx(f("unet", "b", "0.001frac") - f("edsr", "b", "0.001frac"))
    assert by_key["FGapMixed"].verdict == REPLICATES and by_key["FGapCoarse"].verdict == DOES_NOT


def test_macros_have_letters_only_and_the_rows_values(study, found):
    assert all(re.fullmatch(r"[A-Z][A-Za-z]*", name) for name in found)
    value = study.main.one(
        metric="rmse", method="unet", target="surface", fit="vanilla", views="all", zone="interior", method_b=""
    )
    assert found["RmseUnetSurfaceVanilla"] == f"{value.value:.3f}"
    assert found["RmseUnetSurfaceVanillaCi"] == f"[{value.ci_low:.3f}, {value.ci_high:.3f}]"
    assert found["RmseEdsrMinusBilinearSurfaceVanilla"].startswith("$-$")
    assert found["TestIdentities"] == "24" and found["ConfigTrainCrop"] == "512" and found["PublishedFEdsr"] == "0.637"
    assert macro_name("rmse", "splat_1024", "8bit") == "RmseSplatFullEightBit" and macro_name("x4") == "XFour"


def test_used_macros_ignore_comments_line_breaks_and_latex():
    text = "a \\RmseX~mm % \\RmseComment\n title\\\\Measured \\LaTeX \\notmeasured 5\\% \\TestY"
    assert used_macros(text) == ["RmseX", "TestY"]


def test_variants_of_a_network_have_marks_of_their_own_where_it_costs(study):
    figure = study_figures(study)["cost"]
    marks = [(handle.get_color(), handle.get_marker()) for handle in figure.legends[0].legend_handles[: -len(FITS)]]
    assert len(marks) > 3 and len(set(marks)) == len(marks)
    assert [text.get_text() for text in figure.legends[0].get_texts()[-len(FITS) :]] == [f"{fit} fit" for fit in FITS]


def test_figures_have_the_same_bytes_each_time(study, tmp_path):
    assert set(study_figures(study)) == set(FIGURES)
    config = replace(CONFIG, report=replace(CONFIG.report, formats=["pdf"]))
    for name in ("a", "b"):
        build_study(study, config, tmp_path / f"eval_{name}", tmp_path / name)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert {path.parts[0] for path in files} == {"tables", "figures", "numbers.tex"}
    assert all((tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes() for path in files)
    assert (tmp_path / "eval_a/claims.csv").read_bytes() == (tmp_path / "eval_b/claims.csv").read_bytes()
    pdf = (tmp_path / "a/figures/bits.pdf").read_bytes()
    assert b"CreationDate" not in pdf and b"/Producer" not in pdf


def test_script_makes_the_paper_and_what_is_no_longer_measured_goes(tmp_path):
    write_study(tmp_path / "eval", leave_out=("mesh", "f_score_audit", "cross_degradation"))
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- results:begin -->\nstale\n<!-- results:end -->\nafter\n")
    command = [
        sys.executable,
        str(REPOSITORY / "scripts" / "12_make_tables.py"),
        "--config",
        str(REPOSITORY / "configs/paper.yaml"),
    ]
    command += [
        "--from_eval",
        str(tmp_path / "eval"),
        "--out",
        str(tmp_path / "paper"),
        "--readme",
        str(readme),
        "--formats",
        "png",
    ]
    first = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr[-2000:]
    assert (tmp_path / "paper/tables/bits.tex").is_file() and (tmp_path / "eval/claims.csv").is_file()
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("-->\nafter\n") and "stale" not in text
    assert "![error budget](paper/figures/error_budget.png)" in text and "### Published claims" in text
    (tmp_path / "eval/paper_bits.csv").unlink()
    build_study(load_study(tmp_path / "eval", "paper"), PNG_ONLY, tmp_path / "eval", tmp_path / "paper")
    assert not (tmp_path / "paper/tables/bits.tex").exists() and not (tmp_path / "paper/figures/bits.png").exists()


def test_script_without_arguments_makes_the_paper_or_says_what_is_missing(tmp_path):
    for name in ("configs", "README.md"):
        source = REPOSITORY / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    script = str(REPOSITORY / "scripts" / "12_make_tables.py")
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "expected at least paper_depth.csv" in done.stderr


def test_readme_block_needs_a_main_table(study, tmp_path):
    assert "### Depth against true surface" in readme_block(study, tmp_path, "paper/figures")
    write_results(tmp_path / "paper_bits.csv", study.kinds["bits"].rows)
    assert readme_block(load_study(tmp_path, "paper"), tmp_path, "paper/figures") == ""  # the README keeps its block


def test_nothing_made_up_is_committed():
    for path in (REPOSITORY / "eval").glob("*.csv"):
        if path.name != "claims.csv":
            assert not [r for r in read_results(path) if "made-up" in (r.device, r.config_hash)], path
