"""How claims are measured: from the study's rows to a value, its interval and its source."""

from __future__ import annotations

from collections.abc import Callable

from splathead.benchmarks import FLOAT32_LOOP
from splathead.report.claims import Measured
from splathead.report.data import Results
from splathead.report.study.ablation_tables import audit_rows, cross_rows, printed_f
from splathead.report.study.causes import FIVE, TOTAL, causes
from splathead.report.study.data import Study, focus
from splathead.results import ResultRow

FIT = "vanilla"
"""The published splats were fitted without a depth regulariser."""
PROTOCOL = {"target": "render", "views": "near_frontal", "zone": "interior", "fit": FIT}
"""The published protocol in our terms: near-frontal views, inside the (eroded) mask, against the splats' own depth."""

Measure = Callable[[Study], Measured | None]


def _of_row(row: ResultRow | None, source: str, factor: float = 1.0) -> Measured | None:
    if row is None:
        return None
    low, high = (None if bound is None else factor * bound for bound in (row.ci_low, row.ci_high))
    key = [
        part for part in (row.fit, row.target, row.views, row.zone, row.method, row.method_b, row.metric, row.threshold) if part
    ]
    return Measured(factor * row.value, low, high, f"{source}: {'/'.join(key)}")


def _ratio(row: ResultRow | None, base: ResultRow | None, source: str) -> Measured | None:
    """How much a row lies above another, in percent."""
    if row is None or base is None:
        return None
    return Measured(
        100 * (row.value / base.value - 1), source=f"{_of_row(row, source).source} over {_of_row(base, source).source}"
    )


def paired(metric: str, method: str, base: str, **columns: str) -> Measure:
    """The paired difference of two methods in the main comparison."""

    def measure(study: Study) -> Measured | None:
        row = study.main.one(**(PROTOCOL | columns), metric=metric, method=method, method_b=base, threshold="")
        return _of_row(row, f"{study.name}_depth.csv")

    return measure


def audit_gap(setting_unet: str, setting_edsr: str) -> Measure:
    """F of the UNet with one setting minus F of EDSR with another, each at its setting's printed threshold."""

    def measure(study: Study) -> Measured | None:
        rows = audit_rows(study).where(fit=FIT, method_b="", target="render")
        values = [
            printed_f(rows.where(experiment=f"f_score_audit_{setting}", method=method))
            for setting, method in ((setting_unet, "unet"), (setting_edsr, "edsr"))
        ]
        if None in values:
            return None
        source = f"{study.name}_f_score_audit.csv: {FIT}/render, unet with {setting_unet}, edsr with {setting_edsr}"
        return Measured(values[0].value - values[1].value, source=source)

    return measure


def cross_drop(study: Study) -> Measured | None:
    """Mean drop in dB over all pairs of the five published degradations."""
    found = {cause.label: cause for cause in causes(cross_rows(study).where(fit=FIT, method="unet"))}
    if TOTAL not in found:
        return None
    return Measured(
        found[TOTAL].drop, source=f"{study.name}_cross_degradation.csv: {FIT}, psnr, all pairs of {', '.join(FIVE)}"
    )


def _protocol_rows(study: Study, experiment: str) -> Results:
    """Mean absolute errors of an ablation on the published protocol."""
    rows = study.experiment(experiment).where(**PROTOCOL, metric="mae")
    return focus(rows, "raster_mode", "split")


def bits_gap(study: Study) -> Measured | None:
    """How much L1 from 8-bit input lies above that from 16-bit input, in percent."""
    rows = _protocol_rows(study, "bits").where(method="unet", method_b="")
    return _ratio(rows.one(degradation_test="8bit"), rows.one(degradation_test="16bit"), f"{study.name}_bits.csv")


def normals_change(source: str) -> Measure:
    """How much L1 with normals of ``source`` lies above that without, in percent, with the paired difference's interval."""

    def measure(study: Study) -> Measured | None:
        rows = _protocol_rows(study, "normals")
        base = rows.one(method="unet_normals_none", method_b="")
        paired_row = rows.one(method=f"unet_normals_{source}", method_b="unet_normals_none")
        if base is not None and paired_row is not None:
            return _of_row(paired_row, f"{study.name}_normals.csv", 100 / base.value)
        return _ratio(rows.one(method=f"unet_normals_{source}", method_b=""), base, f"{study.name}_normals.csv")

    return measure


def training_cost(metric: str, method: str) -> Measure:
    """A method's row of what its training cost, or of its size."""

    def measure(study: Study) -> Measured | None:
        rows = study.training().where(metric=metric, method=method)
        return _of_row(rows.one(), f"{study.name}_training.csv")

    return measure


def memory_without_mixed_precision(study: Study) -> Measured | None:
    """Most memory of the published training in float32, by ``scripts/90_benchmark.py --only training``, without a cap."""
    rows = study.experiment("benchmark").where(metric="peak_memory", method=FLOAT32_LOOP)
    return _of_row(rows.one(), f"{study.name}_training_benchmark.csv")
