"""The study's figures: error budget, F over the threshold, cross-degradation, bit depth, cost, differences, F-score audit."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from splathead.method_names import GUIDED
from splathead.report.data import CEILING, TARGET_NAMES, Results, method_label, method_order
from splathead.report.figures import LINE_COLOUR, LINE_STYLES, TEXT_COLOUR, TITLE, method_colour, new_figure
from splathead.report.study.ablation_tables import BUDGET_SECTIONS, bits_rows, budget_rows
from splathead.report.study.data import FITS, Study
from splathead.results import ResultRow, parse_threshold

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

VARIANTS = (
    "splathead_code_range", "splathead_bicubic", "splathead_norgb", "splathead_depth", "splathead_long", "splathead_mix",
    "unet_long",
)  # fmt: skip
"""Networks with one choice undone or another schedule: tables have them, curves would lie on each other"""
FIT_COLOURS = {"vanilla": "#D55E00", "regularised": "#0072B2"}
COLUMN_IN = 4.8
"""Width of figures that the paper shows in one column, with smaller text then"""
SMALL = 7
SHORT_TARGETS = {"surface": "true surface", "render": "splat render"}
MARKERS = "os^DvP*X"
OUTLIER = 8
"""Differences this many times the median size are named at the panel's edge instead of stretching its axis."""


def budget_figure(study: Study) -> Figure | None:
    """RMSE of every link of the two chains, a bar per fit; the antialiased rendering's value is a mark on the bar."""
    rows = budget_rows(study).where(metric="rmse", method_b="")
    links = [(title, name, label) for title, group in BUDGET_SECTIONS.items() for name, label in group.items()]
    links = [link for link in links if len(rows.where(method=link[1]))]
    if not links:
        return None
    found = rows.index("method", "fit", "raster_mode")
    longest = max(row.value for row in rows.rows)
    titles = list(dict.fromkeys(title for title, _, _ in links))
    places = [index + 0.7 * titles.index(title) for index, (title, _, _) in enumerate(links)]
    figure, (axis,) = new_figure(COLUMN_IN, 0.4 * len(links) + 1.2)
    for place, (_, name, _) in zip(places, links):
        if name.startswith("truth"):  # the same map whatever the fit
            _budget_bar(axis, place, (found.get((name, FITS[0], "classic")), None), LINE_COLOUR, longest)
            continue
        for offset, fit in ((-0.19, "vanilla"), (0.19, "regularised")):
            both = (found.get((name, fit, "classic")), found.get((name, fit, "antialiased")))
            _budget_bar(axis, place + offset, both, FIT_COLOURS[fit], longest)
    for title in titles:
        first = next(place for place, link in zip(places, links) if link[0] == title)
        axis.text(0, first - 0.62, title, fontsize=8, fontweight="bold", va="center", ha="left")
    axis.set_yticks(places, [label for _, _, label in links])
    axis.set_ylim(places[-1] + 0.6, -1.0)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("RMSE against the true surface, interior (mm)")
    handles = [axis.barh(0, 0, color=colour, label=f"{fit} fit") for fit, colour in FIT_COLOURS.items()]
    handles += axis.plot([], [], "D", color="white", mec=TEXT_COLOUR, ms=4, label="antialiased rendering")
    axis.margins(x=0.14)
    figure.legend(handles=handles, frameon=False, fontsize=8, loc="outside upper right", ncols=3)
    return figure


def _budget_bar(axis: Axes, place: float, both: tuple[ResultRow | None, ResultRow | None], colour: str, longest: float) -> None:
    """A bar for the classic rendering and a mark for the antialiased one. The bar's number stands inside of it where both are
    there: beside the mark it would read as the mark's."""
    classic, antialiased = both
    if classic is not None:
        axis.barh(place, classic.value, height=0.34, color=colour)
        inside = antialiased is not None and classic.value > 0.1 * longest
        end = 0 if inside else max(classic.value, antialiased.value if antialiased is not None else 0)
        style = {"textcoords": "offset points", "va": "center", "fontsize": SMALL, "color": "white" if inside else TEXT_COLOUR}
        axis.annotate(f"{classic.value:.2f}", (end, place), xytext=(4 if inside else 5, 0), **style)
    if antialiased is not None:
        axis.plot([antialiased.value], [place], "D", color="white", mec=TEXT_COLOUR, ms=4, mew=0.8)


def f_curves_figure(study: Study) -> Figure | None:
    """F over the threshold for every method but variants of others: a panel for each target and fit."""
    rows = study.main.where(metric="f_score", views="all", zone="interior", method_b="")
    left_out = {CEILING, *VARIANTS}
    rows = Results(
        tuple(row for row in rows.rows if row.threshold.endswith("mm") and row.method.removesuffix(GUIDED) not in left_out)
    )
    panels = [(target, fit) for target in TARGET_NAMES for fit in FITS if len(rows.where(target=target, fit=fit))]
    if not panels:
        return None
    methods = sorted(rows.distinct("method"), key=method_order)
    figure, axes = new_figure(9.6, 3.5, len(panels))
    for axis, (target, fit) in zip(axes, panels):
        _f_curves(axis, rows.where(target=target, fit=fit), methods)
        axis.set_title(f"{SHORT_TARGETS[target]}, {fit}", **TITLE)
        if axis is axes[0]:
            axis.set_ylabel("F-score")
        else:
            axis.set_yticklabels([])
    shown = {label: line for axis in axes for line, label in zip(*axis.get_legend_handles_labels())}
    labels = [method_label(method) for method in methods if method_label(method) in shown]
    lines = [shown[label] for label in labels]
    figure.legend(lines, labels, frameon=False, fontsize=SMALL, loc="outside lower center", ncols=5)
    return figure


def _f_curves(axis: Axes, rows: Results, methods: Sequence[str]) -> None:
    for method in methods:
        curve = sorted((parse_threshold(row.threshold)[0], row.value) for row in rows.where(method=method).rows)
        if curve:
            style, colour = LINE_STYLES.get(method, "-"), method_colour(method, methods)
            axis.plot(*zip(*curve), ls=style, color=colour, lw=1.3, label=method_label(method))
    axis.set(xscale="log", xlim=(0.05, 2), ylim=(0, 1), xlabel="threshold τ (mm)")
    axis.set_xticks([0.05, 0.1, 0.25, 0.5, 1, 2], ["0.05", "0.1", "0.25", "0.5", "1", "2"])
    axis.set_xticks([], minor=True)


def bits_figure(study: Study) -> Figure | None:
    """RMSE and normal error over the bits of the input, with intervals."""
    rows = bits_rows(study).where(method_b="")
    metrics = [
        (name, label)
        for name, label in (("rmse", "RMSE (mm)"), ("normal_error", "normal error (°)"))
        if len(rows.where(metric=name))
    ]
    if not metrics:
        return None
    figure, axes = new_figure(COLUMN_IN, 2.6, len(metrics))
    for axis, (metric, label) in zip(axes, metrics):
        for fit in FITS:
            for method in sorted(rows.distinct("method"), key=method_order):
                _bits_line(axis, rows.where(metric=metric, fit=fit, method=method), fit, method)
        axis.set_ylabel(label)
        axis.set_xlabel("bits of the 256 input")
        axis.set_ylim(bottom=0)
    figure.legend(*axes[0].get_legend_handles_labels(), frameon=False, fontsize=SMALL, loc="outside lower center", ncols=2)
    return figure


def _bits_line(axis: Axes, rows: Results, fit: str, method: str) -> None:
    points = sorted((int(row.degradation_test.removesuffix("bit")), row) for row in rows.rows) if len(rows) else []
    if not points:
        return
    bits, values = [b for b, _ in points], [row.value for _, row in points]
    style = "o-" if method == "unet" else "s--"
    colour = FIT_COLOURS[fit]
    axis.plot(bits, values, style, color=colour, lw=1.4, ms=4, label=f"{method_label(method)}, {fit}")
    bounds = [(row.ci_low, row.ci_high) for _, row in points]
    if all(low is not None for low, _ in bounds):
        axis.fill_between(bits, *zip(*bounds), color=colour, alpha=0.12, lw=0)
    axis.set_xticks(bits)


def cost_figure(study: Study, target: str = "surface") -> Figure | None:
    """RMSE over parameters and over inference time, both logarithmic; filled: regularised fits, open: vanilla."""
    errors = study.main.where(metric="rmse", target=target, views="all", zone="interior", method_b="").index("method", "fit")
    sizes = study.training().where(metric="parameters").index("method")
    times = study.inference().where(metric="seconds").index("method")
    costs_ms = {key: 1000 * row.value for key, row in times.items()}
    counts = {key: row.value for key, row in sizes.items()}
    panels = [(costs, label) for costs, label in ((counts, "parameters"), (costs_ms, "ms per 1024 map")) if costs]
    methods = sorted({name for name, _ in errors if any((name,) in costs for costs, _ in panels)}, key=method_order)
    if not methods:
        return None
    markers = _markers(methods)
    figure, axes = new_figure(3.6 * len(panels), 4.4, len(panels))
    for axis, (costs, label) in zip(axes, panels):
        for method in (name for name in methods if (name,) in costs):
            _cost_points(axis, costs[(method,)], {fit: errors.get((method, fit)) for fit in FITS}, method, markers[method])
        axis.set(xscale="log", yscale="log", xlabel=label)
        _plain_log_ticks(axis.yaxis)
        if costs is costs_ms:
            _plain_log_ticks(axis.xaxis)
        axis.margins(x=0.1)
    axes[0].set_ylabel(f"RMSE against {SHORT_TARGETS[target]} (mm)")
    marks = [
        axes[0].plot([], [], markers[name], color=method_colour(name, methods), ls="", ms=5, label=method_label(name))[0]
        for name in methods
    ]
    for fit in (name for name in FITS if any((method, name) in errors for method in methods)):
        face = "white" if fit == "vanilla" else LINE_COLOUR
        marks += axes[0].plot([], [], "o", color=face, mec=LINE_COLOUR, ms=5, mew=1.3, label=f"{fit} fit")
    figure.legend(handles=marks, frameon=False, fontsize=SMALL, loc="outside lower center", ncols=3)
    return figure


def _plain_log_ticks(axis: Axis) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _markers(methods: Sequence[str]) -> dict[str, str]:
    """A marker for each method: those of one colour, which are variants of a network, get different ones."""
    found: dict[str, str] = {}
    for method in methods:
        variants = [name for name in found if method_colour(name, methods) == method_colour(method, methods)]
        found[method] = MARKERS[len(variants) % len(MARKERS)]
    return found


def _cost_points(axis: Axes, cost: float, errors: Mapping[str, ResultRow | None], method: str, marker: str) -> None:
    colour = method_colour(method, [method])
    points = [(row.value, fit) for fit, row in errors.items() if row is not None]
    axis.plot([cost] * len(points), [value for value, _ in points], "-", color=colour, lw=0.8, alpha=0.5)
    for value, fit in points:
        face = colour if fit == "regularised" else "white"
        axis.plot([cost], [value], marker, color=face, mec=colour, ms=5.5, mew=1.3)


def paired_figure(study: Study, base: str = "unet") -> Figure | None:
    """Paired RMSE differences to one method with intervals, a panel per target."""
    rows = study.main.where(metric="rmse", views="all", zone="interior", method_b=base)
    if not len(rows):
        base = "bilinear_offset"
        rows = study.main.where(metric="rmse", views="all", zone="interior", method_b=base)
    targets = [target for target in TARGET_NAMES if len(rows.where(target=target))]
    if not targets:
        return None
    methods = sorted((name for name in rows.distinct("method") if name != base), key=method_order)
    figure, axes = new_figure(7.2, 0.3 * len(methods) + 1.1, len(targets))
    for axis, target in zip(axes, targets):
        found = rows.where(target=target).index("method", "fit")
        limit = OUTLIER * statistics.median(abs(row.value) for row in found.values())
        for place, method in enumerate(methods):
            for offset, fit in ((-0.14, "vanilla"), (0.14, "regularised")):
                if (method, fit) in found:
                    _paired_mark(axis, place + offset, found[method, fit], limit)
        axis.axvline(0, color=LINE_COLOUR, lw=0.8)
        axis.set_yticks(range(len(methods)), [method_label(name) for name in methods] if axis is axes[0] else [])
        axis.set_ylim(len(methods) - 0.5, -0.5)
        axis.grid(axis="y", visible=False)
        axis.set_title(f"against {SHORT_TARGETS[target]}", **TITLE)
        axis.set_xlabel(f"RMSE minus {method_label(base)}'s (mm)")
    fits = [fit for fit in FIT_COLOURS if len(rows.where(fit=fit))]
    handles = [axes[-1].plot([], [], "o-", color=FIT_COLOURS[fit], ms=4, label=f"{fit} fit")[0] for fit in fits]
    axes[-1].legend(handles=handles, frameon=False, fontsize=SMALL, loc="best")
    return figure


def _paired_mark(axis: Axes, place: float, row: ResultRow, limit: float) -> None:
    """A difference with its interval; one beyond ``limit`` as a number at the panel's right edge."""
    colour = FIT_COLOURS[row.fit]
    if abs(row.value) > limit:
        text, x = f"{row.value:+.1f} mm →", axis.get_yaxis_transform()
        axis.text(0.98, place, text, transform=x, ha="right", va="center", fontsize=6, color=colour)
        return
    low, high = (row.value, row.value) if row.ci_low is None else (row.ci_low, row.ci_high)
    axis.plot([low, high], [place] * 2, color=colour, lw=1.8, solid_capstyle="round")
    axis.plot([row.value], [place], "o", color=colour, ms=4)
