"""Figures of the cross-degradation matrix and of the F-score audit, and the list of all figures of the study."""

from __future__ import annotations

from typing import TYPE_CHECKING

from splathead.report.data import method_label, method_order
from splathead.report.figures import LINE_COLOUR, TEXT_COLOUR, TITLE, new_figure
from splathead.report.study.ablation_tables import (
    AUDIT_SETTINGS,
    PRINTED_WITH,
    audit_rows,
    cross_rows,
    degradation_label,
    printed_f,
)  # fmt: skip
from splathead.report.study.causes import degradation_order
from splathead.report.study.data import FITS, Study
from splathead.report.study.figures import COLUMN_IN, bits_figure, budget_figure, cost_figure, f_curves_figure, paired_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SETTING_COLOURS = {"f_score_audit_a": "#E69F00", "f_score_audit_b": "#0072B2"}
AUDIT_FIT = "vanilla"


def cross_figure(study: Study) -> Figure | None:
    """PSNR (text) of each training and test degradation; colour: drop from the network trained for the test."""
    rows = cross_rows(study).where(method="unet", method_b="")
    fits = [fit for fit in FITS if len(rows.where(fit=fit))]
    if not fits:
        return None
    names = sorted({row.degradation_test for row in rows.rows}, key=degradation_order)
    trained = sorted({row.degradation_train for row in rows.rows}, key=degradation_order)
    figure, axes = new_figure(3.9 * len(fits) + 0.4, 0.42 * len(trained) + 1.6, len(fits))
    tables = [rows.where(fit=fit).index("degradation_train", "degradation_test") for fit in fits]
    drops = [_drops({key: row.value for key, row in table.items()}) for table in tables]
    worst = max((value for table in drops for value in table.values()), default=1.0) or 1.0
    for axis, fit, table, drop in zip(axes, fits, tables, drops):
        image = axis.imshow(
            [[drop.get((a, b), float("nan")) for b in names] for a in trained], cmap="YlOrRd", vmin=0, vmax=worst
        )
        for i, a in enumerate(trained):
            for j, b in enumerate(names):
                if (a, b) in table:
                    colour = "white" if drop.get((a, b), 0) > 0.6 * worst else TEXT_COLOUR
                    weight = "bold" if a == b else "normal"
                    axis.text(
                        j, i, f"{table[a, b].value:.1f}", ha="center", va="center", fontsize=7, color=colour, fontweight=weight
                    )
        axis.set_xticks(range(len(names)), [degradation_label(name) for name in names], rotation=40, ha="right", fontsize=7)
        axis.set_yticks(
            range(len(trained)), [degradation_label(name) for name in trained] if axis is axes[0] else [], fontsize=7
        )
        axis.grid(visible=False)
        axis.set_title(f"{fit} fit", **TITLE)
    axes[0].set_ylabel("trained on", fontsize=8)
    figure.supxlabel("tested on", fontsize=8)
    bar = figure.colorbar(image, ax=axes, fraction=0.03, pad=0.02)
    bar.set_label("drop (dB)", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure


def _drops(psnr: dict) -> dict:
    """(trained, tested) -> PSNR of the network trained for the test minus this one's, at least 0 for the colour."""
    return {(a, b): max(0.0, psnr[b, b] - value) for (a, b), value in psnr.items() if (b, b) in psnr}


def audit_figure(study: Study, target: str = "render") -> Figure | None:
    """F-scores as printed, each row with its own script's threshold, beside both thresholds for every row."""
    rows = audit_rows(study).where(target=target, fit=AUDIT_FIT, method_b="")
    methods = sorted((name for name in rows.distinct("method") if name in PRINTED_WITH), key=method_order)
    if not methods:
        return None
    found = {(m, s): printed_f(rows.where(method=m, experiment=s)) for m in methods for s in AUDIT_SETTINGS}
    figure, (left, right) = new_figure(COLUMN_IN, 0.3 * len(methods) + 1.1, 2)
    for place, method in enumerate(methods):
        setting = PRINTED_WITH.get(method)
        if setting and found[method, setting]:
            _f_bar(left, place, found[method, setting].value, SETTING_COLOURS[setting])
        values = [(found[method, s].value, s) for s in AUDIT_SETTINGS if found[method, s]]
        right.plot([value for value, _ in values], [place] * len(values), color=LINE_COLOUR, lw=1)
        for value, name in values:
            right.plot([value], [place], "o", color=SETTING_COLOURS[name], ms=6)
    for axis, title in ((left, "mixed as published"), (right, "one threshold for all")):
        axis.set(xlim=(0, 1.08), ylim=(len(methods) - 0.5, -0.5), xlabel="F-score")
        axis.set_yticks(range(len(methods)), [method_label(name) for name in methods] if axis is left else [])
        axis.grid(axis="y", visible=False)
        axis.set_title(title, **TITLE)
    names = {"f_score_audit_a": "coarse threshold (setting A)", "f_score_audit_b": "fine threshold (setting B)"}
    handles = [right.plot([], [], "o", color=SETTING_COLOURS[s], label=name)[0] for s, name in names.items()]
    figure.legend(handles=handles, frameon=False, fontsize=8, loc="outside lower center", ncols=2)
    return figure


def _f_bar(axis: Axes, place: int, value: float, colour: str) -> None:
    axis.barh(place, value, height=0.6, color=colour)
    axis.text(value + 0.01, place, f"{value:.3f}", fontsize=7, va="center")


FIGURES = {
    "error_budget": budget_figure, "f_curves": f_curves_figure, "cross_degradation": cross_figure, "bits": bits_figure,
    "cost": cost_figure, "paired": paired_figure, "f_audit": audit_figure,
}  # fmt: skip
"""Key (the file's name) -> function that draws it, None without its rows"""


def study_figures(study: Study) -> dict[str, Figure]:
    """Figures that the results can fill, by key."""
    figures = {key: build(study) for key, build in FIGURES.items()}
    return {key: figure for key, figure in figures.items() if figure is not None}
