"""Figures from result rows (matplotlib). The same rows give the same bytes: no time stamps, fixed identifiers."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from splathead.images import atomic_path
from splathead.report.data import (
    CEILING,
    TARGET_NAMES,
    Results,
    method_label,
    method_order,
    metric_label,
    shown,
    split_by_scale,
    unit_label,
    without_parts,
)  # fmt: skip
from splathead.results import parse_threshold

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito (2008), distinguishable with every common colour blindness
METHOD_COLOURS = {
    "raw_splat": "#8c8c8c", "nearest": "#CC79A7", "bilinear": "#E69F00", "bicubic": "#56B4E9", "bilinear_offset": "#D55E00",
    "variational": "#8B5A2B", "edsr": "#7a5195", "edsr_icnr": "#7a5195", "srresnet": "#ef5675", "srresnet_icnr": "#ef5675",
    "swinir": "#2f9c95", "swinir_plain": "#2f9c95", "unet": "#0072B2", "unet_normals": "#0072B2", "unet_long": "#0072B2",
    "unet_longest": "#0072B2", "unet_epochs": "#0072B2", "sgnet": "#b59f00", "dornet_nyu": "#222222",
    "splat_surface": "#003f5c", "unet_guided": "#0072B2", "unet_guided_longest": "#0072B2", "unet_shape": "#0072B2",
    "unet_guided_shape": "#00406b",
    "splathead": "#009E73", "splathead_guided": "#009E73", "splathead_depth": "#66c2a5",
    "splathead_mix": "#005f45", "splathead_mix_guided": "#005f45", "splathead_code_range": "#a6761d",
    "splathead_code_range_guided": "#a6761d", "splathead_bicubic": "#7f7f00", "splathead_bicubic_guided": "#7f7f00",
    "splathead_norgb": "#b2df8a", "splathead_norgb_guided": "#b2df8a", "splathead_fits": "#a65628",
    "splathead_fits_guided": "#a65628", "splathead_long": "#66a61e", "splathead_long_guided": "#66a61e",
    "splathead_longest": "#1b7837", "splathead_longest_guided": "#1b7837", "splathead_mix_longer": "#004d4d",
    "splathead_mix_longer_guided": "#004d4d", "splathead_around": "#8e0152", "splathead_around_guided": "#8e0152",
    "splathead_around_tuned": "#c51b7d", "splathead_around_tuned_guided": "#c51b7d",
    CEILING: "#777777",
}  # fmt: skip
LINE_STYLES = {
    "raw_splat": "--", CEILING: ":", "edsr_icnr": "--", "srresnet_icnr": "--", "swinir_plain": "--", "unet_normals": "--",
    "unet_long": (0, (6, 1, 2, 1)), "unet_longest": (0, (1, 4)), "unet_epochs": (0, (8, 2)), "dornet_nyu": "-.",
    "unet_guided": ":", "unet_guided_longest": (0, (5, 1, 1, 1, 1, 1)), "unet_shape": "-.", "unet_guided_shape": ":",
    "splathead_guided": "--", "splathead_depth": "-.",
    "splathead_mix": "-.", "splathead_mix_guided": ":",
    "splathead_code_range_guided": "--", "splathead_bicubic_guided": "--", "splathead_norgb_guided": "--",
    "splathead_fits_guided": "--", "splathead_long_guided": "--", "splathead_longest_guided": "--",
    "splathead_mix_longer_guided": "--", "splathead_around_guided": "--", "splathead_around_tuned_guided": "--",
}  # fmt: skip
"""Variants of a network have its colour and another line"""
OTHER_COLOURS = ("#7a5195", "#003f5c", "#bc5090", "#58508d")
TEXT_COLOUR, LINE_COLOUR = "#222222", "#777777"
STYLE = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.alpha": 0.25, "axes.axisbelow": True, "svg.hashsalt": "splathead",
    "svg.fonttype": "none", "text.color": TEXT_COLOUR, "axes.labelcolor": TEXT_COLOUR, "xtick.color": TEXT_COLOUR,
    "ytick.color": TEXT_COLOUR, "axes.edgecolor": LINE_COLOUR, "grid.color": LINE_COLOUR, "pdf.fonttype": 42,
}  # fmt: skip
TITLE = {"loc": "left", "fontsize": 9, "fontweight": "bold"}
NO_DATES = {
    "png": {"Software": None}, "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}  # fmt: skip


def method_colour(method: str, methods: Sequence[str]) -> str:
    """Colour of a method, the same in every figure."""
    unknown = [name for name in sorted(methods, key=method_order) if name not in METHOD_COLOURS]
    return METHOD_COLOURS.get(method) or OTHER_COLOURS[unknown.index(method) % len(OTHER_COLOURS)]


def new_figure(width_in: float, height_in: float, columns: int = 1, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of our style without pyplot's global state; axes in row-major order."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.ravel())


def figure_bytes(figure: Figure, suffix: str) -> bytes:
    """The figure as png, pdf or svg, without anything that changes from run to run."""
    import matplotlib

    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it reports every glyph at level INFO
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        if figure.get_layout_engine() is not None:  # once, not at every save
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
        options = {"pil_kwargs": {"compress_level": 4}} if suffix == "png" else {}
        figure.savefig(buffer, format=suffix, dpi=160, metadata=NO_DATES[suffix], transparent=suffix == "svg", **options)
    return buffer.getvalue()


def save_figure(figure: Figure, folder: Path, key: str, formats: Sequence[str]) -> list[Path]:
    """Write ``folder/key.<format>`` for each format, atomically."""
    paths = [Path(folder) / f"{key}.{suffix}" for suffix in formats]
    for path, suffix in zip(paths, formats):
        data = figure_bytes(figure, suffix)
        with atomic_path(path) as temporary:
            temporary.write_bytes(data)
    return paths


def inline_svg(figure: Figure, title: str) -> str:
    """The figure as an ``<svg>`` element whose text and lines take the page's colours."""
    text = figure_bytes(figure, "svg").decode()
    text = re.sub("<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)
    text = text.replace(TEXT_COLOUR, "currentColor").replace(LINE_COLOUR, "currentColor")
    return text.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)


def comparison_figure(results: Results, target: str) -> Figure | None:
    """Main measures of every method with their intervals: a dot and a line each, one colour per method."""
    chosen = results.where(experiment="main", target=target, views="all", zone="interior", method_b="", threshold="")
    metrics = [name for name in ("rmse", "mae", "bias", "normal_error") if len(chosen.where(metric=name))]
    if not metrics:
        return None
    measured = chosen.where(metric=tuple(metrics))
    methods, fits = sorted(measured.distinct("method"), key=method_order), measured.distinct("fit")
    figure, axes = new_figure(2.6 * len(metrics) + 1.2, 0.34 * len(methods) * len(fits) + 1.1, len(metrics))
    lines = [(fit, method) for fit in fits for method in methods]
    for axis, metric in zip(axes, metrics):
        for place, (fit, method) in enumerate(lines):
            for row in chosen.where(metric=metric, fit=fit, method=method).rows:
                bounds = (row.value, row.value) if row.ci_low is None else (row.ci_low, row.ci_high)
                value, low, high = (shown(metric, row.unit, number) for number in (row.value, *bounds))
                colour = method_colour(method, methods)
                axis.plot([low, high], [place, place], color=colour, lw=2.2, solid_capstyle="round")
                axis.plot([value], [place], "o", color=colour, ms=5)
        units = chosen.where(metric=metric).distinct("unit")
        axis.set_title(f"{metric_label(metric)} ({unit_label(metric, units[0])})", **TITLE)
        axis.set_ylim(len(lines) - 0.4, -0.6)
        axis.set_yticks(range(len(lines)), [_line_label(fit, method, fits) for fit, method in lines] if axis is axes[0] else [])
        axis.grid(axis="y", visible=False)
        axis.margins(x=0.12)
        if metric == "bias":
            axis.axvline(0, color=LINE_COLOUR, lw=0.8)
        else:
            axis.set_xlim(left=0)
    return figure


def _line_label(fit: str, method: str, fits: Sequence[str]) -> str:
    return method_label(method) + (f" · {fit}" if len(fits) > 1 and fit else "")


def f_score_figure(results: Results, target: str) -> Figure | None:
    """F-score over the distance threshold, one curve per method, one panel per fit."""
    chosen = results.where(experiment="main", target=target, views="all", zone="interior", method_b="", metric="f_score")
    if not len(chosen):
        return None
    fits, methods = chosen.distinct("fit"), sorted(chosen.distinct("method"), key=method_order)
    units = {parse_threshold(row.threshold)[1] for row in chosen.rows}
    unit = "mm" if "mm" in units else "%diag"
    figure, axes = new_figure(3.4 * len(fits) + 1.8, 3.0, len(fits))
    for axis, fit in zip(axes, fits):
        for method in methods:
            points = [(*parse_threshold(row.threshold), row.value) for row in chosen.where(fit=fit, method=method).rows]
            curve = sorted((threshold, value) for threshold, found, value in points if found == unit)
            style = LINE_STYLES.get(method, "-")
            if curve:
                axis.plot(*zip(*curve), ls=style, color=method_colour(method, methods), lw=1.6, label=method_label(method))
        axis.set_title(f"{fit} fit" if fit else "", **TITLE)
        axis.set_xlabel(f"threshold ({'% of the diagonal' if unit == '%diag' else unit})")
        axis.set_ylim(0, 1)
        axis.set_xlim(left=0)
    axes[0].set_ylabel(f"F-score, {TARGET_NAMES[target]}")
    axes[-1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def all_figures(results: Results) -> dict[str, tuple[str, Figure]]:
    """Figures that the results can fill: key -> (title, figure). Data sets that are also pooled are shown together only."""
    builders = {"comparison": ("Interior errors", comparison_figure), "f_score": ("F-score curves", f_score_figure)}
    figures = {}
    for suffix, part in split_by_scale(without_parts(results).first_seed()).items():
        for target, target_name in TARGET_NAMES.items():
            for key, (title, build) in builders.items():
                figure = build(part, target)
                if figure is not None:
                    figures[f"{key}_{target}{suffix}"] = (f"{title} against {target_name}", figure)
    return figures
