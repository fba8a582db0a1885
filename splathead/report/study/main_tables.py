"""The study's main comparison as tables: pixels and surfaces, zones, differences, cost, seeds, data sets, real heads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from splathead.report.data import CEILING, TARGET_NAMES, Results, method_label, method_order
from splathead.report.study.data import FITS, REAL_HEADS, TRACKS, Study, focus, pooled
from splathead.report.study.grid import Grid, GridColumn, GridLine, build_grid
from splathead.report.table_set import consistency_table, fused_table, heldout_table
from splathead.report.table_set import main_table as detailed_table
from splathead.report.tables import Table, f_thresholds
from splathead.results import parse_threshold

INTERIOR = {"zone": "interior"}
MEAN_NOTE = "Mean over test identities; interval: 95 % bootstrap over identities. Bold: best of its input track."


def method_lines(results: Results, ranked: bool = True) -> list[tuple[str, list[GridLine]]]:
    """Methods of the results in sections by track; methods without a track and the ceiling are left out."""
    sections = []
    for track, title in TRACKS.items():
        chosen = results.where(track=track, method_b="")
        methods = sorted((name for name in chosen.distinct("method") if name != CEILING), key=method_order)
        if methods:
            rank = track if ranked else ""
            sections.append((title, [GridLine(method_label(name), {"method": name}, rank) for name in methods]))
    return sections


def fit_groups(columns: Iterable[GridColumn], fits: Sequence[str] = FITS) -> list[tuple[str, list[GridColumn]]]:
    """The columns once for each fit, under its name."""
    columns = list(columns)
    return [(f"{fit} fit", [replace(c, where={**c.where, "fit": fit}) for c in columns]) for fit in fits]


def auc_threshold(results: Results) -> str:
    """Threshold up to which the area under F was measured, in millimetres where there is one; empty when it was not."""
    found = results.where(metric="f_score_auc").distinct("threshold")
    return sorted(found, key=lambda text: parse_threshold(text)[1] != "mm")[0] if found else ""


def main_table(study: Study, target: str) -> Table | None:
    """The main comparison on one target, both fits side by side."""
    title = f"Depth against {TARGET_NAMES[target]}"
    return comparison_table(study.main, target, f"main_{target}", title)


def around_table(study: Study) -> Table | None:
    """The methods on the test heads seen from all around, above and below."""
    title = f"Views from all around, above and below, against {TARGET_NAMES['surface']}"
    return comparison_table(study.around(), "surface", "around", title)


def comparison_table(rows: Results, target: str, key: str, title: str) -> Table | None:
    """Errors, normals and F of every method on one target, both fits side by side."""
    chosen = rows.where(target=target, views="all", zone="interior")
    columns = [
        GridColumn("rmse", main=True), GridColumn("bias"), GridColumn("normal_error", label="normals ↓"),
        *(GridColumn("f_score", threshold=text) for text in f_thresholds(chosen)[1:3]),
        GridColumn("f_score_auc", threshold=auc_threshold(chosen), label="F area ↑"),
    ]  # fmt: skip
    note = f"Interior, all views. {MEAN_NOTE}"
    return build_grid(Grid(key, title, note, fit_groups(columns), method_lines(chosen)), chosen)


def detailed_tables(study: Study) -> list[Table]:
    """Every measure of the main comparison with its interval, one table per target, fit and choice of views."""
    tables = []
    for target in TARGET_NAMES:
        for fit in FITS:
            for views in ("all", "near_frontal"):
                table = detailed_table(study.main.where(fit=fit), target, views)
                if table is not None:
                    tables.append(replace(table, key=f"detail_{target}_{fit}_{views}", title=f"{table.title}, {fit} fit"))
    return tables


def zone_table(study: Study, target: str, fit: str) -> Table | None:
    """Errors by zone and choice of views, the pixel-phase test and the consistency with the input's code."""
    chosen = study.main.where(target=target, fit=fit, method_b="")

    def zones(views: str) -> list[GridColumn]:
        short = {"interior": "interior", "silhouette": "silhouette", "full": "full"}
        return [GridColumn("rmse", {"views": views, "zone": zone}, label=f"{name} ↓") for zone, name in short.items()]

    interior = {"views": "all", **INTERIOR}
    checks = [
        GridColumn("phase_spread", interior, label="phase spread ↓"),
        GridColumn("interval_violation", interior, label="interval viol. ↓"),
    ]
    groups = [
        ("RMSE, near-frontal views", zones("near_frontal")),
        ("RMSE, all views", zones("all")),
        ("grid checks, interior", checks),
    ]
    note = (
        "Interior: 8 px from silhouettes and depth jumps. Phase spread: standard deviation of the mean error over the 16 "
        "pixel phases of the low-resolution grid. Interval violation: cells whose mean leaves the input code's interval."
    )
    title = f"Zones and grid checks against {TARGET_NAMES[target]}, {fit} fit"
    return build_grid(Grid(f"zones_{target}_{fit}", title, note, groups, method_lines(chosen)), chosen)


def paired_table(study: Study, target: str) -> Table | None:
    """Paired differences of every network to bilinear with a constant offset, and of others to the UNet."""
    chosen = study.main.where(target=target, views="all", zone="interior")
    sections = []
    for base in ("bilinear_offset", "unet"):
        methods = sorted((m for m in chosen.where(method_b=base).distinct("method") if m != base), key=method_order)
        lines = [GridLine(method_label(name), {"method": name, "method_b": base}) for name in methods]
        sections.append((f"minus {method_label(base)}", lines))
    columns = [
        GridColumn("rmse", main=True), GridColumn("normal_error", label="normals ↓"),
        GridColumn("f_score", threshold="0.5mm"),
    ]  # fmt: skip
    note = "Paired by view, bootstrapped over identities. Bold: the interval excludes zero."
    title = f"Paired differences against {TARGET_NAMES[target]}"
    return build_grid(Grid(f"paired_{target}", title, note, fit_groups(columns), sections), chosen)


def cost_table(study: Study) -> Table | None:
    """Parameters, training and inference cost of each method."""
    training, inference = study.training(), study.inference()
    rows = Results(tuple(replace(row, experiment="training") for row in training.rows) + inference.rows)
    train, apply = {"experiment": "training"}, {"experiment": "inference"}
    groups = [
        ("training", [
            GridColumn("parameters", train), *([GridColumn("steps", train)] if len(rows.where(metric="steps")) else []),
            GridColumn("seconds", train, label="time", factor=1 / 60, unit="min"),
            GridColumn("throughput", train), GridColumn("peak_memory", train, label="memory"),
        ]),
        ("one 1024 map", [
            GridColumn("seconds", apply, label="time", factor=1000, unit="ms"),
            GridColumn("peak_memory", apply, label="memory"),
        ]),
    ]  # fmt: skip
    methods = sorted(rows.where(metric=("parameters", "seconds")).distinct("method"), key=method_order)
    lines = [GridLine(method_label(name), {"method": name}) for name in methods]
    devices = sorted({row.device for row in rows.rows if row.device})
    note = f"Measured on {', '.join(devices)}. Training on surface; images are frames of 1024x1024, crops by their pixels."
    return build_grid(Grid("cost", "Size and cost", note, groups, [("", lines)]), rows)


def seeds_table(study: Study) -> Table | None:
    """RMSE of every seed of the methods that were trained more than once."""
    rows = study.main_of_all_data.where(metric="rmse", views="all", zone="interior", method_b="")
    rows = focus(pooled(rows), "raster_mode")
    seeds = sorted({row.seed for row in rows.rows if row.seed is not None})
    repeated = [m for m in rows.distinct("method") if len({row.seed for row in rows.where(method=m).rows}) > 1]
    lines = [
        GridLine(f"{method_label(method)}, {target}", {"method": method, "target": target})
        for method in sorted(repeated, key=method_order) for target in TARGET_NAMES
    ]  # fmt: skip
    columns = [GridColumn("rmse", {"seed": seed}, label=f"seed {seed}") for seed in seeds]
    chosen = rows.where(method=tuple(repeated))
    note = "RMSE, interior, all views; the same data, another initialisation and order of batches."
    return build_grid(Grid("seeds", "Spread over seeds", note, fit_groups(columns), [("", lines)]), chosen)


def datasets_table(study: Study, target: str = "surface") -> Table | None:
    """RMSE of each data set beside the pooled one."""
    rows = focus(
        study.main_of_all_data.where(metric="rmse", target=target, views="all", zone="interior", method_b=""), "raster_mode"
    )
    datasets = sorted(rows.distinct("dataset"), key=lambda name: (name.count("+"), name))
    if len(datasets) < 2:
        return None
    columns = [
        GridColumn("rmse", {"dataset": name}, label=name.replace("ict", "ICT").replace("anny", "Anny")) for name in datasets
    ]
    rows = rows.first_seed()
    note = f"RMSE, interior, all views. {MEAN_NOTE}"
    title = f"Heads by source, against {TARGET_NAMES[target]}"
    return build_grid(Grid(f"datasets_{target}", title, note, fit_groups(columns), method_lines(rows)), rows)


def real_head_tables(study: Study) -> list[Table]:
    """Depth errors where a head has truth, agreement of views where it has none, and fused meshes."""
    tables = []
    for prefix, rows in study.real_heads().items():
        rows, name = focus(rows.first_seed(), "raster_mode"), REAL_HEADS[prefix]
        for target in TARGET_NAMES:
            title = f"{name}: depth against {TARGET_NAMES[target]}"
            tables.append(comparison_table(rows.where(experiment="main"), target, f"real_{prefix}_{target}", title))
        for table in (consistency_table(rows), fused_table(rows)):
            if table is not None:
                title = f"{name}: {table.title[0].lower()}{table.title[1:]}"
                tables.append(replace(table, key=f"real_{prefix}_{table.key}", title=title))
    return [table for table in tables if table is not None]


def real_heads_table(study: Study) -> Table | None:
    """All real heads at a glance: error against the scan's surface, disagreement of views on the others."""
    heads = {prefix: rows.where(experiment="main").first_seed() for prefix, rows in study.real_heads().items()}
    heads = {prefix: focus(rows, "raster_mode", "views", "zone") for prefix, rows in heads.items()}
    heads = {prefix: rows.where(target=("", "surface"), metric=("rmse", "consistency")) for prefix, rows in heads.items()}
    # the views of a network for the surface are rows of that target, those of a method without training of none
    rows = Results(tuple(
        replace(row, experiment=prefix, dataset="", target="") for prefix, found in heads.items() for row in found.rows
    ))  # fmt: skip
    columns = [
        (
            REAL_HEADS["scan"],
            [GridColumn("rmse", {"experiment": "scan", "fit": fit}, label=fit) for fit in FITS],
        )
    ]
    for prefix in ("capture", "lam"):
        fits = sorted(heads[prefix].distinct("fit"), reverse=True) if prefix in heads else []  # vanilla first
        columns.append((REAL_HEADS[prefix], [
            GridColumn("consistency", {"experiment": prefix, "fit": fit}, label=fit or "imported") for fit in fits
        ]))  # fmt: skip
    methods = sorted((name for name in rows.distinct("method") if name != CEILING), key=method_order)
    lines = [GridLine(method_label(name), {"method": name}) for name in methods]
    note = (
        "Scan: RMSE against its surface, interior. Others have no truth: disagreement of views. In % of the diagonal where the "
        "size is not known. Networks are those trained for the true surface."
    )
    return build_grid(Grid("real_heads", "Real heads", note, columns, [("", lines)]), rows)


def fits_table(study: Study) -> Table | None:
    """Quality of the fits on views that they have not seen."""
    rows = study.kinds.get("heldout")
    return replace(table, key="fits") if rows and (table := heldout_table(rows)) else None


SCHEDULES = {
    "A": ("unet", "unet_longest", "unet_epochs", "splathead", "splathead_longest"),
    "B": ("unet_guided", "unet_guided_longest", "splathead_guided", "splathead_longest_guided"),
}
"""Track -> networks whose short and long schedules stand side by side"""


def long_table(study: Study, target: str = "render") -> Table | None:
    """Longer schedules beside the study's short one: five times its steps, and the UNet's published one."""
    epochs = focus(study.long_training(), "views", "zone").where(method="unet_epochs")
    if not len(epochs):
        return None
    short = study.main.where(views="all", zone="interior")
    rows = Results((*short.rows, *epochs.rows)).where(target=target, method_b="")
    columns = [GridColumn("rmse", main=True), GridColumn("normal_error")]
    known = set(rows.distinct("method"))
    sections = [
        (TRACKS[track], [GridLine(method_label(name), {"method": name}) for name in names if name in known])
        for track, names in SCHEDULES.items()
    ]
    note = (
        f"Interior, all views, trained and scored on {TARGET_NAMES[target]}. Names without a number: the study's schedule. "
        "100 epochs are of vanilla fits alone, the others learn from both kinds of fit."
    )
    return build_grid(Grid("long", "What the short schedule costs", note, fit_groups(columns), sections), rows)


def main_tables(study: Study) -> list[Table]:
    """Every table of the main comparison that the results can fill."""
    tables: list[Table | None] = [main_table(study, target) for target in TARGET_NAMES]
    tables.append(around_table(study))
    tables += [zone_table(study, target, fit) for target in TARGET_NAMES for fit in FITS]
    tables += [paired_table(study, target) for target in TARGET_NAMES]
    tables += [cost_table(study), seeds_table(study), datasets_table(study), long_table(study)]
    tables += [real_heads_table(study), *real_head_tables(study), fits_table(study)]
    return [table for table in tables if table is not None]
