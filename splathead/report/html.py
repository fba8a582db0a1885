"""The self-contained HTML page: everything inline, nothing fetched, readable in light and dark."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from splathead.report.data import TARGET_NAMES, Results, format_number, method_label, metric_label, unit_label, without_parts
from splathead.report.panels import (
    DEPTH_COLOURS,
    ERROR_COLOURS,
    LAYERS,
    ViewMaps,
    colour_gradient,
    depth_picture,
    method_picture,
    normals_picture,
)  # fmt: skip
from splathead.report.shell import button_group, card, cards, page_text, tile
from splathead.report.tables import Table
from splathead.report.typeset import html_table
from splathead.report.viewer import viewer_markup
from splathead.results import METRICS, ResultRow


@dataclass
class Page:
    """What the report shows."""

    name: str
    description: str
    results: Results
    tables: Sequence[Table]
    figures: dict[str, tuple[str, str]] = field(default_factory=dict)  # key -> (title, inline svg)
    views: Sequence[ViewMaps] = ()
    error_range: float = 1.0
    viewer: str = ""
    """JSON of ``report.viewer``; empty = no meshes"""
    missing: Sequence[str] = ()
    """stages that have not been run"""


def build_page(page: Page) -> str:
    """The page as one HTML text."""
    sections = [
        ("maps", "Maps", _maps_section(page)),
        ("meshes", "Meshes", _viewer_section(page)),
        ("comparison", "Comparison", _comparison_section(page)),
        ("cost", "Reconstruction and cost", _tables(page, lambda key: key.startswith(("heldout", "training", "timings")))),
        ("reading", "How to read this", _reading_section(page)),
    ]
    return page_text(
        f"Results of the run “{page.name}”", description=page.description, facts=page_facts(page.results), sections=sections,
        footer=_provenance(page), scripts=["maps.js"] + ["viewer.js"] * bool(page.viewer),
    )  # fmt: skip


def page_facts(results: Results) -> str:
    """Up to four headline numbers, each a row of the results; of data sets that are also pooled, only together."""
    results = without_parts(results).first_seed()
    main = results.where(experiment="main", target="surface", views="all", zone="interior")
    main = main if len(main) else results.where(experiment="main", target="render", views="all", zone="interior")
    differences = [row for row in main.rows if row.method_b in ("bilinear", "bilinear_offset") and row.metric == "rmse"]
    shown = []
    if differences:
        differences.sort(key=lambda row: (row.fit != "regularised", row.fit, row.method_b))
        first = differences[0]
        same = {name: getattr(first, name) for name in ("dataset", "fit", "raster_mode", "method")}
        own = main.where(metric="rmse", method_b="", **same).rows
        against = f"{method_label(first.method)}, interior, against the {TARGET_NAMES[first.target]}, {first.fit} fit"
        shown += [_card(row, against) for row in own[:1]]
        for row in differences:
            if all(getattr(row, name) == value for name, value in same.items()):
                shown.append(_card(row, f"paired against {method_label(row.method_b)}, {row.n} identities"))
    for row in results.where(views="held_out", metric="psnr").rows[:1]:
        shown.append(_card(row, f"on views that were never fitted, {row.fit or 'imported'} Gaussians"))
    return cards(shown)


def _card(row: ResultRow, text: str) -> str:
    extra = int(bool(row.method_b))
    number, unit = format_number(row.metric, row.unit, row.value, extra), unit_label(row.metric, row.unit)
    verdict = ""
    if row.method_b:
        number = number if number.startswith("−") else f"+{number}"
        if row.ci_low is not None and not row.ci_low <= 0 <= row.ci_high:
            verdict = "better" if row.value < 0 else "worse"
    interval = ""
    if row.ci_low is not None:
        bounds = (format_number(row.metric, row.unit, bound, extra) for bound in (row.ci_low, row.ci_high))
        interval = " to ".join(bounds) + f" {unit}; "
    return card(f"{number} {unit}", f"{metric_label(row.metric)}: {interval}{text}", verdict)


def _maps_section(page: Page) -> str:
    if not page.views:
        return ""
    has_truth = any(view.truth is not None for view in page.views)
    layers = [layer for layer in LAYERS if has_truth or layer != "error"]
    names = [f"{view.sample.subject} · {view.sample.view}" for view in page.views]
    chosen = button_group("sample", "View", {str(i): name for i, name in enumerate(names)})
    layered = button_group("layer", "Show", {layer: layer for layer in layers})
    limit = f"{page.error_range:g} mm"
    bars = {
        "error": f"<span>−{limit}, in front</span><i style='background:{colour_gradient(ERROR_COLOURS)}'></i>"
        f"<span>+{limit}, behind; saturated beyond</span>",
        "depth": f"<span>nearest</span><i style='background:{colour_gradient(DEPTH_COLOURS)}'></i><span>farthest 5 %</span>",
        "normals": "<span>red: to the right, green: up, blue: towards the camera</span>",
    }
    scales = "".join(f'<div class="bar" data-layer="{layer}">{bars[layer]}</div>' for layer in layers)
    samples = "".join(_sample(page, view, index, layers) for index, view in enumerate(page.views))
    about = "The first test subjects by name, not by result. Click a map to magnify the same place in every map."
    return (
        f'<p class="about">{about}</p><div id="maps"><div class="controls">{chosen}{layered}</div>{scales}{samples}</div>'
    )


def _sample(page: Page, view: ViewMaps, index: int, layers: Sequence[str]) -> str:
    coded = depth_picture(view.lr_depth, view.depth_range)
    tiles = [tile(view.rgba, "RGB", "of the Gaussians"), tile(coded, "input", "depth code")]
    if view.truth is not None:
        truth = TARGET_NAMES[view.target]
        tiles.append(tile(depth_picture(view.truth, view.depth_range), truth, "depth"))
        tiles.append(tile(normals_picture(view.truth, view.camera), truth, "normals"))
    groups = [f'<div class="tiles">{"".join(tiles)}</div>']
    for layer in layers:
        pictures = {method: method_picture(view, method, layer, page.error_range) for method in view.methods}
        tiles = [tile(picture, method_label(method), layer) for method, picture in pictures.items() if picture is not None]
        groups.append(f'<div class="tiles" data-layer="{layer}">{"".join(tiles)}</div>')
    return f'<div data-sample="{index}">{"".join(groups)}</div>'


def _viewer_section(page: Page) -> str:
    if not page.viewer:
        return ""
    has_errors = any(mesh["errors"] for subject in json.loads(page.viewer)["subjects"] for mesh in subject["meshes"])
    limit = f"{page.error_range:g} mm"
    scale = (f"−{limit}, outside", f"+{limit}, inside the true surface")
    about = (
        "Depth maps of all views fused into one mesh per method, decimated for this page. Drag to turn, Shift-drag to move, "
        "click and scroll (or pinch, or + and −) to zoom, double-click to start over. All panes move together."
    )
    return f'<p class="about">{about}</p>' + viewer_markup(page.viewer, "error" if has_errors else "", scale)


def _tables(page: Page, wanted) -> str:
    return "".join(html_table(table) for table in page.tables if wanted(table.key))


def _comparison_section(page: Page) -> str:
    parts = []
    if page.missing:
        stages = html.escape(", ".join(page.missing))
        parts.append(f'<p class="about">Not measured in this run (stages not finished): {stages}.</p>')
    for target in TARGET_NAMES:  # tables of a target, then its figures
        tables = _tables(page, lambda key, target=target: key.startswith(("main", "zones", "surface")) and f"_{target}" in key)
        figures = [_figure(key, *content) for key, content in page.figures.items() if f"_{target}" in key]
        parts += [tables, *figures]
    return "".join([*parts, _tables(page, lambda key: key.startswith(("consistency", "fused")))])


def _figure(key: str, title: str, svg: str) -> str:
    caption = f"<figcaption><h3>{html.escape(title)}</h3></figcaption>"
    return f'<figure class="figure" id="figure-{key}">{caption}<div class="scroll">{svg}</div></figure>'


def _reading_section(page: Page) -> str:
    used = [metric for metric in METRICS if any(row.metric == metric for row in page.results.rows)]
    entries = "".join(f"<dt><b>{html.escape(metric_label(m))}</b></dt><dd>{html.escape(METRICS[m].meaning)}</dd>" for m in used)
    text = (
        "Zones come from the target alone: interior is away from the mask's edge and from any depth jump (8 pixels at 1024), "
        "silhouette is the rest of the mask. Numbers are of test identities unless a table says otherwise. Intervals are 95 % "
        "bootstrap intervals over identities, differences are paired by view."
    )
    return f'<p class="about">{text}</p><dl class="note">{entries}</dl>'


def _provenance(page: Page) -> str:
    rows = page.results.rows
    commits = sorted({f"{row.commit[:12]}{' with local changes' if row.dirty else ''}" for row in rows if row.commit})
    parts = [f"Configuration <code>{html.escape(page.name)}</code>"]
    if commits:
        parts.append("commit " + ", ".join(f"<code>{html.escape(commit)}</code>" for commit in commits))
    for label, column in (("seed", "seed"), ("device", "device")):
        values = sorted({str(getattr(row, column)) for row in rows if getattr(row, column) not in ("", None)})
        if values:
            parts.append(f"{label} {html.escape(', '.join(values))}")
    return "; ".join(parts) + ". Every number on this page is a row of the run’s CSV files."
