"""The ablation ladder: from bilinear interpolation to our network in steps, each beside what it is a step from."""

from __future__ import annotations

from dataclasses import dataclass, replace

from splathead.report.data import TARGET_NAMES, Results, method_label
from splathead.report.study.data import FITS, Study
from splathead.report.study.grid import ABSENT, Grid, GridColumn, GridLine, build_grid
from splathead.report.study.main_tables import fit_groups
from splathead.report.tables import Table

REFERENCE = "reference"
"""``method_b`` of a step's paired row, whichever method the step is compared with: one column shows them all"""


@dataclass(frozen=True)
class Step:
    """A line of the ladder: ``method`` is ``reference`` with one thing added, or another kind of method."""

    label: str
    method: str
    reference: str = ""


LADDER = (
    Step("bilinear", "bilinear"),
    Step("+ offset", "bilinear_offset", "bilinear"),
    Step("variational", "variational", "bilinear"),
    Step("UNet, published loss", "unet", "bilinear_offset"),
    Step("+ our loss", "unet_shape", "unet"),
    Step("compact network (SplatHead)", "splathead", "unet_shape"),
    Step("+ guides", "splathead_guided", "splathead"),
    Step("+ interval", "splathead_guided_interval", "splathead_guided"),
    Step("6,000 steps instead of 2,000", "splathead_long_guided", "splathead_guided"),
    Step("10,000 steps instead of 2,000", "splathead_longest_guided", "splathead_guided"),
    Step("+ mixture of inputs, 10,000 steps", "splathead_mix_guided", "splathead_longest_guided"),
    Step("mixture, 20,000 steps instead of 10,000", "splathead_mix_longer_guided", "splathead_mix_guided"),
    Step("+ multi-view, fused", "splathead_guided_fused", "splathead_guided"),
    Step("+ multi-view, predicted again", "splathead_guided_multiview", "splathead_guided"),
)
"""Each step beside what differs from it in that step alone where there is such a method, else beside the best line above:
several start from SplatHead with guides, which intervals and views are applied to and which longer schedules train for longer.
"""
NOTE = (
    "Each line is compared with the method that it names, not always with the line above; the network with and without guides "
    "is one set of weights. Interior, all views. RMSE, PSNR: mean over test identities. Difference: PSNR minus that of the "
    "named method, paired by view; 95 % bootstrap over identities. Bold: the interval excludes zero. Fits of "
    "different runs differ by rounding: a difference is of one run, and need not be that of the columns."
)


def ladder_table(study: Study) -> Table | None:
    """Error of each step against the true surface, and its paired difference in PSNR, both fits side by side."""
    columns = [
        GridColumn("rmse", main=True),
        GridColumn("psnr"),
        GridColumn("psnr", {"method_b": REFERENCE}, label="difference ↑", main=True),
    ]
    lines = [GridLine(step.label, {"method": step.method}, text=_named(step.reference)) for step in LADDER]
    title = f"Ablation ladder against {TARGET_NAMES['surface']}"
    grid = Grid("ladder", title, NOTE, fit_groups(columns), [("", lines)], first_head="step", text_head="compared with")
    return build_grid(grid, _ladder_rows(study))


def _named(reference: str) -> str:
    return method_label(reference) if reference else ABSENT.text


def _ladder_rows(study: Study) -> Results:
    """Rows of every method alone, and each step's paired difference in PSNR with :data:`REFERENCE` as its ``method_b``."""
    rows = study.main.where(target="surface", views="all", zone="interior")
    psnr = rows.where(metric="psnr")
    compared = [{"method": step.method, "method_b": step.reference} for step in LADDER if step.reference]
    pairs = (psnr.one(fit=fit, **pair) for fit in FITS for pair in compared)
    steps = (replace(pair, method_b=REFERENCE) for pair in pairs if pair is not None)
    return Results((*rows.where(method_b="").rows, *steps))
