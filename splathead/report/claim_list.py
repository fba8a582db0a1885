"""The published study's claims: text, published value, the rows that test it, the rule, and a reason for each verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from splathead.report.claims import (
    DOES_NOT,
    PARTLY,
    REPLICATES,
    Claim,
    Measured,
    equal,
    published_value,
    same_direction,
    same_size,
)  # fmt: skip
from splathead.report.data import Results, method_label
from splathead.report.study.ablation_tables import audit_rows, bits_rows, cross_rows, shown_rows
from splathead.report.study.causes import FIVE, TOTAL, causes
from splathead.report.study.data import Study, focus
from splathead.results import ResultRow, parse_threshold

FIT = "vanilla"
"""The published splats were fitted without a depth regulariser."""
PROTOCOL = {"target": "render", "views": "near_frontal", "zone": "interior", "fit": FIT}
"""The published protocol in our terms: near-frontal views, inside the (eroded) mask, against the splats' own depth."""

Measure = Callable[[Study], Measured | None]


def claims() -> list[Claim]:
    """Every claim, in the order of the table."""
    return [*_quality_claims(), *_f_score_claims(), *_ablation_claims(), *_cost_claims()]


def _of_row(row: ResultRow | None, source: str, factor: float = 1.0) -> Measured | None:
    if row is None:
        return None
    low, high = (None if bound is None else factor * bound for bound in (row.ci_low, row.ci_high))
    key = [
        part for part in (row.fit, row.target, row.views, row.zone, row.method, row.method_b, row.metric, row.threshold) if part
    ]
    return Measured(factor * row.value, low, high, f"{source}: {'/'.join(key)}")


def _paired(metric: str, method: str, base: str, **columns: str) -> Measure:
    """The paired difference of two methods in the main comparison."""

    def measure(study: Study) -> Measured | None:
        row = study.main.one(**(PROTOCOL | columns), metric=metric, method=method, method_b=base, threshold="")
        return _of_row(row, f"{study.name}_depth.csv")

    return measure


def _gain(key: str, method: str, base: str, base_key: str, needs: str = "") -> Claim:
    theirs = published_value(f"Psnr{key}") - published_value(f"Psnr{base_key}")
    name, other = method_label(method), method_label(base)
    return Claim(
        f"Gain{key}Over{base_key}", f"{name} over {other}, PSNR", round(theirs, 2), "dB", _paired("psnr", method, base), same_direction,
        {
            REPLICATES: "clear, same sign, at least half the published difference",
            PARTLY: "clear and of the same sign, less than half the published difference",
            DOES_NOT: "the paired difference is not clear or has the other sign",
        },
        needs or f"no paired rows of {name} against {other}",
    )  # fmt: skip


def _quality_claims() -> list[Claim]:
    over_bicubic = [
        ("Edsr", "edsr"),
        ("Srresnet", "srresnet"),
        ("Sgnet", "sgnet"),
        ("Unet", "unet"),
        ("UnetNormals", "unet_normals"),
    ]
    found = [_gain(key, method, "bicubic", "Bicubic") for key, method in over_bicubic]
    found.append(_gain("Sgnet", "sgnet", "unet", "Unet"))
    found.append(_gain("UnetNormals", "unet_normals", "unet", "Unet"))
    collapse = _gain("SwinirPlain", "swinir_plain", "bicubic", "Bicubic")
    found.append(replace(collapse, text="SwinIR-tiny without residual against bicubic, PSNR"))
    dornet = _gain("Dornet", "dornet_nyu", "bicubic", "Bicubic")
    text = "DORNet, NYU weights, zero-shot against bicubic, PSNR"
    return [*found, replace(dornet, text=text, needs="no rows of DORNet-T; the full-size weights are not published")]


def _f_score_claims() -> list[Claim]:
    """The gap between the two groups of rows: as printed, then with one setting for both."""
    gap = round(published_value("FUnet") - published_value("FEdsr"), 3)
    mixed = {REPLICATES: "appears when each row keeps its own script's threshold", PARTLY: "smaller than half the printed gap",
             DOES_NOT: "does not appear even with mixed thresholds"}  # fmt: skip
    one = {REPLICATES: "also there with one threshold for all rows", PARTLY: "same sign with one threshold for all rows, under half the gap",
           DOES_NOT: "vanishes or turns round when both rows have one threshold"}  # fmt: skip
    needs = "no rows of the F-score audit"
    return [
        Claim(
            "FGapMixed",
            "F of UNet minus EDSR-light, thresholds mixed as printed",
            gap,
            "",
            _audit_gap("a", "b"),
            same_size,
            mixed,
            needs,
        ),
        Claim(
            "FGapFine", "the same with the finer threshold for both", gap, "", _audit_gap("b", "b"), _half_or_less, one, needs
        ),
        Claim(
            "FGapCoarse",
            "the same with the coarser threshold for both",
            gap,
            "",
            _audit_gap("a", "a"),
            _half_or_less,
            one,
            needs,
        ),
    ]


def _half_or_less(ours: Measured, theirs: float) -> str:
    """A gap: at least half of the published one replicates, a tenth of it is partly."""
    share = ours.value / theirs
    return REPLICATES if share >= 0.5 else PARTLY if share >= 0.1 else DOES_NOT


def _audit_gap(setting_unet: str, setting_edsr: str) -> Measure:
    """F of the UNet with one setting minus F of EDSR with another, each at its setting's printed threshold."""

    def measure(study: Study) -> Measured | None:
        rows = audit_rows(study).where(fit=FIT, method_b="", target="render")
        values = [printed_f(rows.where(experiment=f"f_score_audit_{setting}", method=method))
                  for setting, method in ((setting_unet, "unet"), (setting_edsr, "edsr"))]  # fmt: skip
        if None in values:
            return None
        source = f"{study.name}_f_score_audit.csv: {FIT}/render, unet with {setting_unet}, edsr with {setting_edsr}"
        return Measured(values[0].value - values[1].value, source=source)

    return measure


def printed_f(rows: Results) -> ResultRow | None:
    """The row at a setting's coarser threshold, which its script printed first."""
    return max(rows.rows, key=lambda row: parse_threshold(row.threshold)[0], default=None)


def _ablation_claims() -> list[Claim]:
    size = {
        REPLICATES: "within half to double the published value",
        PARTLY: "same sign, another size",
        DOES_NOT: "other sign or none",
    }
    splat = published_value("MaeSplatNormals") / published_value("MaeDsineNormals") - 1
    dsine = published_value("MaeDsineNormals") / published_value("MaeEightBit") - 1
    bits = published_value("MaeEightBit") / published_value("MaeSixteenBit") - 1
    return [
        Claim("CrossDrop", "mean drop over the cross-degradation test's pairs", published_value("CrossDrop"), "dB", _cross_drop, same_size,
              size, "the five degradations were not all crossed"),
        Claim("BitsGap", "L1 from 8-bit input above that from 16-bit input", round(100 * bits, 1), "%", _bits_gap, same_size, size,
              "no rows of the bit-depth ablation at 8 and 16 bits"),
        Claim("SplatNormals", "L1 with splat normals above that with DSINE or no normals", round(100 * splat, 1), "%",
              _normals_change("splat"), same_size, size, "no rows of the normal ablation"),
        Claim("DsineNormals", "L1 with DSINE normals above that without", round(100 * dsine, 1), "%", _normals_change("dsine"),
              _at_most_small, {REPLICATES: "does no harm", PARTLY: "little harm", DOES_NOT: "does harm"}, "DSINE weights not available"),
    ]  # fmt: skip


def _at_most_small(ours: Measured, _theirs: float) -> str:
    """An increase in percent: up to 2 is no harm, up to 10 little."""
    return REPLICATES if ours.value <= 2 else PARTLY if ours.value <= 10 else DOES_NOT


def _cross_drop(study: Study) -> Measured | None:
    found = {cause.label: cause for cause in causes(cross_rows(study).where(fit=FIT, method="unet"))}
    if TOTAL not in found:
        return None
    return Measured(
        found[TOTAL].drop, source=f"{study.name}_cross_degradation.csv: {FIT}, psnr, all pairs of {', '.join(FIVE)}"
    )


def _bits_gap(study: Study) -> Measured | None:
    rows = bits_rows(study).where(metric="mae", method="unet", fit=FIT, method_b="")
    return _ratio(rows.one(degradation_test="8bit"), rows.one(degradation_test="16bit"), f"{study.name}_bits.csv")


def _normals_change(source: str) -> Measure:
    def measure(study: Study) -> Measured | None:
        rows = shown_rows(study.experiment("normals"), "target").where(metric="mae", fit=FIT, method_b="", target="render")
        one, other = rows.one(method=f"unet_normals_{source}"), rows.one(method="unet_normals_none")
        return _ratio(one, other, f"{study.name}_normals.csv")

    return measure


def _ratio(row: ResultRow | None, base: ResultRow | None, source: str) -> Measured | None:
    """How much a row lies above another, in percent."""
    if row is None or base is None:
        return None
    return Measured(
        100 * (row.value / base.value - 1), source=f"{_of_row(row, source).source} over {_of_row(base, source).source}"
    )


def _cost_claims() -> list[Claim]:
    networks = [("Edsr", "edsr"), ("Srresnet", "srresnet"), ("Unet", "unet"), ("UnetNormals", "unet_normals"), ("Sgnet", "sgnet"),
                ("SwinirPlain", "swinir_plain")]  # fmt: skip
    why = {REPLICATES: "the same number", PARTLY: "within 1 % of the rounded number", DOES_NOT: "another number"}
    found = [
        Claim(f"Parameters{key}", f"parameters of {method_label(method)}", published_value(f"Parameters{key}"), "", _training("parameters", method),
              equal, why, f"no training row of {method}")
        for key, method in networks
    ]  # fmt: skip
    untested = [
        ("Memory", "fp16 AMP is needed to train the UNet within 8 GB", published_value("MemoryLimit"), "MiB",
         "training without mixed precision was not measured; the peak with it is in the table of cost"),
        ("Hours", "100 epochs of the UNet on an 8 GB laptop card", published_value("TrainingHours"), "h",
         "no such card here; the time on ours is in the table of cost"),
    ]  # fmt: skip
    found += [
        Claim(key, text, value, unit, lambda _study: None, equal, {}, needs) for key, text, value, unit, needs in untested
    ]
    return found


def _training(metric: str, method: str) -> Measure:
    def measure(study: Study) -> Measured | None:
        rows = focus(study.training().first_seed(), "target").where(metric=metric, method=method)
        return _of_row(rows.one(), f"{study.name}_training.csv")

    return measure
