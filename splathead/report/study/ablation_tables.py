"""The study's ablations as tables: error budget, cross-degradation, normals, bit depth, F-score audit."""

from __future__ import annotations

from dataclasses import replace

from splathead.report.data import TARGET_NAMES, Results, format_number, method_label, method_order
from splathead.report.study.causes import cause_lines, degradation_order
from splathead.report.study.data import FITS, PREFERRED, Study, focus
from splathead.report.study.grid import ABSENT, Grid, GridColumn, GridLine, build_grid
from splathead.report.study.main_tables import fit_groups
from splathead.report.tables import Cell, Line, Section, Table
from splathead.results import ResultRow, parse_threshold

BUDGET_SECTIONS = {
    "from the true surface": {
        "truth_8bit_1024": "8-bit code at 1024",
        "truth_area_256_bilinear": "256, float, bilinear",
        "truth_area_256_8bit_bilinear": "256, 8-bit, bilinear",
    },
    "from the Gaussians": {
        "splat_1024": "1024, float",
        "splat_1024_unbiased": "1024, float, bias removed",
        "splat_1024_median": "1024, float, median depth",
        "splat_normals": "splat normals",
        "splat_256_bilinear": "256, float, bilinear",
        "splat_256_8bit_bilinear": "256, 8-bit, bilinear",
    },
}
"""Links of the error budget's two chains, in order; others are left out of its table"""
CODE_CHECKS = {"splat_256": "256 against 1024, float", "splat_256_8bit": "256 against 1024, 8-bit"}
NORMAL_SOURCES = {
    "none": "no normal head", "splat": "splat normals", "splat_bilateral": "splat normals, bilateral",
    "surface": "true normals", "dsine": "DSINE",
}  # fmt: skip
DSINE_ABSENT = "weights not available"
AUDIT_SETTINGS = {"f_score_audit_a": "setting A", "f_score_audit_b": "setting B"}
PRINTED_WITH = {
    "bicubic": "f_score_audit_a", "unet": "f_score_audit_a", "unet_normals": "f_score_audit_a",
    "edsr": "f_score_audit_b", "srresnet": "f_score_audit_b", "sgnet": "f_score_audit_b",
}  # fmt: skip
"""The setting with which the published study scored each row of its F-score table."""


def shown_rows(results: Results, *columns: str) -> Results:
    """Rows of an ablation with the preferred value of every column that its table does not name in ``columns``."""
    return focus(results, *(name for name in PREFERRED if name not in ("degradation_train", *columns)))


def budget_rows(study: Study) -> Results:
    """Rows of the error budget: interior, all views, against the true surface."""
    return shown_rows(study.experiment("error_budget"), "raster_mode")


def error_budget_table(study: Study) -> Table | None:
    """What of splat depth's error is bias, noise, resolution and quantisation."""
    columns = [
        GridColumn("rmse"),
        GridColumn("bias"),
        GridColumn("normal_error", label="normals ↓"),
        GridColumn("depth_std", label="std"),
    ]
    groups = []
    for fit in FITS:
        for mode, shown in (("classic", columns), ("antialiased", columns[:3])):
            groups.append((f"{fit} fit, {mode}", [replace(c, where={"fit": fit, "raster_mode": mode}) for c in shown]))
    sections = [
        (title, [GridLine(label, {"method": name}) for name, label in links.items()])
        for title, links in BUDGET_SECTIONS.items()
    ]
    note = "Interior, all views, against the true surface. Std: spread of the Gaussians' depth along the ray."
    grid = Grid("error_budget", "Error budget", note, groups, sections, first_head="map")
    return build_grid(grid, budget_rows(study))


def code_table(study: Study) -> Table | None:
    """How often the low-resolution render contradicts the high-resolution one."""
    columns = [GridColumn("interval_violation", {"raster_mode": mode}, label=mode) for mode in ("classic", "antialiased")]
    lines = [GridLine(label, {"method": name}) for name, label in CODE_CHECKS.items()]
    note = "Share of low-resolution cells where the mean of the 1024 render is more than half an 8-bit step off the 256 render."
    grid = Grid(
        "code_violation", "Is the input's code a constraint?", note, fit_groups(columns), [("", lines)], first_head="render"
    )
    return build_grid(grid, budget_rows(study))


def cross_rows(study: Study, target: str = "render") -> Results:
    """PSNR of the cross-degradation test: interior, near-frontal as published where it was measured."""
    rows = study.experiment("cross_degradation").where(target=target)
    views = "near_frontal" if "near_frontal" in rows.distinct("views") else "all"
    return focus(rows.where(metric="psnr", method_b="", views=("", views)), "raster_mode", "split", "zone")


def _views_name(rows: Results) -> str:
    return " and ".join(views.replace("_", "-") for views in rows.distinct("views") if views) + " views"


def cross_sections(rows: Results) -> list[tuple[str, list[GridLine]]]:
    """Lines of the cross-degradation tables: the UNet by what it was trained on, and what is not trained for the columns."""
    trained = sorted({row.degradation_train for row in rows.where(method="unet").rows}, key=degradation_order)
    lines = [GridLine(degradation_label(name), {"method": "unet", "degradation_train": name}) for name in trained]
    others = {(row.method, row.degradation_train): method_order(row.method) for row in rows.rows if row.method != "unet"}
    others = sorted(others, key=others.get)
    fixed = [GridLine(method_label(name), {"method": name, "degradation_train": trained}) for name, trained in others]
    return [("UNet trained on", lines), ("others, with the same weights everywhere", fixed)]


def cross_table(study: Study, fit: str, target: str = "render") -> Table | None:
    """PSNR of the network trained on one degradation (line) and tested on another (column)."""
    rows = cross_rows(study, target).where(fit=fit)
    names = sorted({row.degradation_test for row in rows.rows}, key=degradation_order)
    columns = [GridColumn("psnr", {"degradation_test": name}, label=degradation_label(name)) for name in names]
    note = f"PSNR in dB against {TARGET_NAMES[target]}, interior, {_views_name(rows)}. Columns: degradation of the test input."
    title = f"Cross-degradation{_against(target)}, {fit} fit"
    return build_grid(Grid(_cross_key(fit, target), title, note, [("", columns)], cross_sections(rows), "network"), rows)


def worst_drop_table(study: Study, target: str = "render") -> Table | None:
    """How much each method of the cross-degradation test depends on its input, in one number."""
    by_fit = {fit: cross_rows(study, target).where(fit=fit) for fit in FITS}
    by_fit = {fit: rows for fit, rows in by_fit.items() if len(rows)}
    titles = cross_sections(Results(tuple(row for rows in by_fit.values() for row in rows.rows)))
    sections = []
    for title, lines in titles:
        found = [[_mean_and_drop(rows.where(**line.where)) for rows in by_fit.values()] for line in lines]
        made = tuple(Line(line.label, tuple(cell for pair in pairs for cell in pair)) for line, pairs in zip(lines, found))
        sections += [Section(title, made)] if made else []
    if not sections:
        return None
    note = (
        f"Over the degradations of the test input: mean PSNR against {TARGET_NAMES[target]}, interior, "
        f"{_views_name(cross_rows(study, target))}, and a method's own best input minus its worst."
    )
    heads = tuple((label, "dB") for _ in by_fit for label in ("mean ↑", "worst drop ↓"))
    groups = tuple((f"{fit} fit", 2) for fit in by_fit)
    title = f"Cross-degradation{_against(target)}: the worst drop"
    return Table(_cross_key("drop", target), title, note, heads, tuple(sections), groups, "network")


def _mean_and_drop(rows: Results) -> tuple[Cell, Cell]:
    values = [row.value for row in rows.rows]
    if not values:
        return ABSENT, ABSENT
    mean, drop = sum(values) / len(values), max(values) - min(values)
    return Cell(format_number("psnr", "dB", mean)), Cell(format_number("psnr", "dB", drop))


def _cross_key(name: str, target: str) -> str:
    return f"cross_{name}" if target == "render" else f"cross_{target}_{name}"


def _against(target: str) -> str:
    return "" if target == "render" else f" against {TARGET_NAMES[target]}"


def degradation_label(name: str) -> str:
    """Name of a degradation in tables; ``16bit`` and ``8bit`` are the real low-resolution render."""
    names = {
        "bicubic": "bicubic", "bicubic_noise": "bicubic + noise", "bicubic_8bit": "bicubic 8-bit", "16bit": "render 16-bit",
        "8bit": "render 8-bit", "bicubic_antialiased": "bicubic antialiased", "area": "area", "area_8bit": "area 8-bit",
    }  # fmt: skip
    return names.get(name, name)


def causes_table(study: Study) -> Table | None:
    """The drop of the cross-degradation test by its cause."""
    lines = cause_lines({fit: cross_rows(study).where(fit=fit, method="unet") for fit in FITS})
    if not lines:
        return None
    heads = tuple((label, "dB") for _ in FITS for label in ("mean drop", "contribution"))
    made = tuple(Line(line.label, tuple(Cell(text) for text in line.texts)) for line in lines)
    note = (
        "Drop: PSNR of the network trained for the test's degradation minus that of one trained for another, mean over ordered "
        "pairs. The contributions of noise, rendering and code add up to the total of the five; the controls below stand apart."
    )
    groups = tuple((f"{fit} fit", 2) for fit in FITS)
    return Table(
        "cross_causes", "What the cross-degradation drop is made of", note, heads, (Section("", made),), groups, "cause"
    )


def normals_table(study: Study) -> Table | None:
    """Supervision by normals from several sources."""
    rows = shown_rows(study.experiment("normals"), "target")
    made = []
    for target in TARGET_NAMES:
        chosen = rows.where(target=target)
        lines = [GridLine(label, {"method": f"unet_normals_{name}"}, "all") for name, label in NORMAL_SOURCES.items()]
        columns = [
            GridColumn("mae", main=True),
            GridColumn("normal_error", label="normals ↓"),
        ]
        grid = Grid("normals", "", "", fit_groups(columns), [(f"against {TARGET_NAMES[target]}", lines)], "normals from")
        made.append(build_grid(grid, chosen))
    tables = [table for table in made if table is not None]
    if not tables:
        return None
    sections = tuple(_with_dsine(section, len(tables[0].heads)) for table in tables for section in table.sections)
    note = "UNet with a normal head, interior, all views; the head's loss has the published weight. Bold: best of its target."
    return replace(tables[0], title="Supervision by normals", note=note, sections=sections)


def _with_dsine(section: Section, width: int) -> Section:
    if any(line.label == NORMAL_SOURCES["dsine"] for line in section.lines):
        return section
    absent = Line(NORMAL_SOURCES["dsine"], (Cell(DSINE_ABSENT), *[Cell("–")] * (width - 1)))
    return replace(section, lines=(*section.lines, absent))


def bits_rows(study: Study, target: str = "surface") -> Results:
    """Rows of the bit-depth ablation on one target."""
    return shown_rows(study.experiment("bits"), "target").where(target=target)


def bits_table(study: Study) -> Table | None:
    """Errors against the number of bits of the input."""
    rows = bits_rows(study)
    depths = sorted({int(row.degradation_test.removesuffix("bit")) for row in rows.rows})
    rows = Results(tuple(replace(row, degradation_train="") for row in rows.rows))
    methods = sorted(rows.distinct("method"), key=method_order)
    sections = [
        (
            method_label(method),
            [GridLine(f"{bits} bits", {"method": method, "degradation_test": f"{bits}bit"}) for bits in depths],
        )
        for method in methods
    ]
    columns = [
        GridColumn("rmse", main=True),
        GridColumn("mae"),
        GridColumn("normal_error"),
    ]
    note = f"Interior, all views, against {TARGET_NAMES['surface']}. One network per depth."
    return build_grid(Grid("bits", "Bit depth of the input", note, fit_groups(columns), sections, "input"), rows)


def uncertainty_table(study: Study) -> Table | None:
    """How well networks know their own errors, by zone."""
    rows = focus(study.experiment("uncertainty"), "raster_mode", "split", "views")
    methods = sorted(rows.distinct("method"), key=method_order)
    sections = [
        (zone, [GridLine(method_label(method), {"method": method, "zone": zone}, zone) for method in methods])
        for zone in ("interior", "silhouette")
    ]
    columns = [*(GridColumn(f"interval_coverage_{level}") for level in (50, 90)), GridColumn("ause_rmse"), GridColumn("nll")]
    note = (
        "Predicted scale of a Laplace distribution against the error to the true surface, all views. In p %: share of errors "
        "within the central p % interval. AUSE: area under the sparsification error curve. NLL: density per mm."
    )
    return build_grid(Grid("uncertainty", "Predicted errors", note, fit_groups(columns), sections), rows)


def audit_rows(study: Study) -> Results:
    """F-scores with the published study's two settings, and with this study's evaluator at a thousandth of the diagonal."""
    audit = study.experiment(*AUDIT_SETTINGS).where(metric="f_score")
    audit = focus(audit, "raster_mode", "split", "zone")
    views = "near_frontal" if "near_frontal" in audit.distinct("views") else "all"
    return audit.where(views=("", views))


def printed_f(rows: Results) -> ResultRow | None:
    """The row at a setting's coarser threshold, which its script printed first."""
    return max(rows.rows, key=lambda row: parse_threshold(row.threshold)[0], default=None)


def audit_table(study: Study, target: str = "render") -> Table | None:
    """The published threshold mix-up: the same predictions with both settings."""
    rows = audit_rows(study)
    targets = rows.distinct("target")
    rows = rows.where(target=target if target in targets or not targets else targets[0])
    groups = []
    for experiment, name in AUDIT_SETTINGS.items():
        texts = sorted(rows.where(experiment=experiment).distinct("threshold"), key=lambda text: -parse_threshold(text)[0])
        for fit in FITS:
            columns = [GridColumn("f_score", {"experiment": experiment, "fit": fit}, text) for text in texts]
            columns = [replace(c, label=f"τ = {parse_threshold(c.threshold)[0]:g}") for c in columns]
            groups.append((f"{name}, {fit}", columns))
    lines = [GridLine(_audit_label(m), {"method": m}) for m in sorted(rows.distinct("method"), key=method_order)]
    note = "The same predictions with the published scripts' two settings; (A), (B): the setting of the published row."
    return build_grid(Grid("f_audit", "F-score audit", note, groups, [("", lines)]), rows)


def _audit_label(method: str) -> str:
    setting = PRINTED_WITH.get(method)
    return method_label(method) + (f" ({AUDIT_SETTINGS[setting][-1]})" if setting else "")


def ablation_tables(study: Study) -> list[Table]:
    """Every ablation's table that the results can fill."""
    tables: list[Table | None] = [error_budget_table(study), code_table(study)]
    for target in ("render", "surface"):
        tables += [*(cross_table(study, fit, target) for fit in FITS), worst_drop_table(study, target)]
    tables.append(causes_table(study))
    tables += [normals_table(study), bits_table(study), uncertainty_table(study), audit_table(study)]
    return [table for table in tables if table is not None]
