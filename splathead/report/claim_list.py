"""The published study's claims: text, published value, the rows that test it, the rule, and a reason for each verdict."""

from __future__ import annotations

from dataclasses import replace

from splathead.report.claim_measures import (
    audit_gap,
    bits_gap,
    cross_drop,
    memory_without_mixed_precision,
    normals_change,
    paired,
    training_cost,
)
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
)
from splathead.report.data import method_label


def claims() -> list[Claim]:
    """Every claim, in the order of the table."""
    return [*_quality_claims(), *_f_score_claims(), *_ablation_claims(), *_cost_claims()]


def _gain(key: str, method: str, base: str, base_key: str, needs: str = "") -> Claim:
    theirs = published_value(f"Psnr{key}") - published_value(f"Psnr{base_key}")
    name, other = method_label(method), method_label(base)
    return Claim(
        f"Gain{key}Over{base_key}",
        f"{name} over {other}, PSNR",
        round(theirs, 2),
        "dB",
        paired("psnr", method, base),
        same_direction,
        {
            REPLICATES: "clear, same sign, at least half the published difference",
            PARTLY: "clear and of the same sign, less than half the published difference",
            DOES_NOT: "the paired difference is not clear or has the other sign",
        },
        needs or f"no paired rows of {name} against {other}",
    )


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
    mixed = {
        REPLICATES: "appears when each row keeps its own script's threshold",
        PARTLY: "smaller than half the printed gap",
        DOES_NOT: "does not appear even with mixed thresholds",
    }
    one = {
        REPLICATES: "also there with one threshold for all rows",
        PARTLY: "same sign with one threshold for all rows, under half the gap",
        DOES_NOT: "vanishes or turns round when both rows have one threshold",
    }
    needs = "no rows of the F-score audit"
    return [
        Claim(
            "FGapMixed",
            "F of UNet minus EDSR-light, thresholds mixed as printed",
            gap,
            "",
            audit_gap("a", "b"),
            same_size,
            mixed,
            needs,
        ),
        Claim(
            "FGapFine",
            "F of UNet minus EDSR-light, the finer threshold for both",
            gap,
            "",
            audit_gap("b", "b"),
            _half_or_more,
            one,
            needs,
        ),
        Claim(
            "FGapCoarse",
            "F of UNet minus EDSR-light, the coarser threshold for both",
            gap,
            "",
            audit_gap("a", "a"),
            _half_or_more,
            one,
            needs,
        ),
    ]


def _half_or_more(ours: Measured, theirs: float) -> str:
    """A gap: at least half of the published one replicates, a tenth of it is partly."""
    share = ours.value / theirs
    return REPLICATES if share >= 0.5 else PARTLY if share >= 0.1 else DOES_NOT


def _ablation_claims() -> list[Claim]:
    size = {
        REPLICATES: "within half to double the published value",
        PARTLY: "same sign, within a tenth to ten times the published value",
        DOES_NOT: "another sign, no clear effect or another order of magnitude",
    }
    splat = published_value("MaeSplatNormals") / published_value("MaeDsineNormals") - 1
    dsine = published_value("MaeDsineNormals") / published_value("MaeEightBit") - 1
    bits = published_value("MaeEightBit") / published_value("MaeSixteenBit") - 1
    return [
        Claim(
            "CrossDrop",
            "mean drop over the cross-degradation test's pairs",
            published_value("CrossDrop"),
            "dB",
            cross_drop,
            same_size,
            size,
            "the five degradations were not all crossed",
        ),
        Claim(
            "BitsGap",
            "L1 from 8-bit input above that from 16-bit input",
            round(100 * bits, 1),
            "%",
            bits_gap,
            same_size,
            size,
            "no rows of the bit-depth ablation at 8 and 16 bits",
        ),
        Claim(
            "SplatNormals",
            "L1 with splat normals above that with DSINE or no normals",
            round(100 * splat, 1),
            "%",
            normals_change("splat"),
            same_size,
            size,
            "no rows of the normal ablation",
        ),
        Claim(
            "DsineNormals",
            "L1 with DSINE normals above that without",
            round(100 * dsine, 1),
            "%",
            normals_change("dsine"),
            _at_most_small,
            {REPLICATES: "does no harm", PARTLY: "little harm", DOES_NOT: "does harm"},
            "DSINE weights not available",
        ),
    ]


def _at_most_small(ours: Measured, _theirs: float) -> str:
    """An increase in percent: up to 2 is no harm, up to 10 little."""
    return REPLICATES if ours.value <= 2 else PARTLY if ours.value <= 10 else DOES_NOT


def _cost_claims() -> list[Claim]:
    networks = [
        ("Edsr", "edsr"),
        ("Srresnet", "srresnet"),
        ("Unet", "unet"),
        ("UnetNormals", "unet_normals"),
        ("Sgnet", "sgnet"),
        ("SwinirPlain", "swinir_plain"),
    ]
    why = {REPLICATES: "the same number", PARTLY: "within 1 % of the printed number", DOES_NOT: "another number"}
    found = [
        Claim(
            f"Parameters{key}",
            f"parameters of {method_label(method)}",
            published_value(f"Parameters{key}"),
            "",
            training_cost("parameters", method),
            equal,
            why,
            f"no training row of {method}",
        )
        for key, method in networks
    ]
    found += [
        Claim(
            "Memory",
            "fp16 AMP is needed to train the UNet within 8 GB",
            published_value("MemoryLimit"),
            "MiB",
            memory_without_mixed_precision,
            _above_card,
            {
                REPLICATES: "in float32 it takes more",
                PARTLY: "in float32 it takes nine tenths of that or more",
                DOES_NOT: "in float32 it takes less than nine tenths of that",
            },
            "training without mixed precision was not measured; the peak with it is in the table of cost",
        ),
        Claim(
            "Hours",
            "100 epochs of the UNet on an 8 GB laptop card",
            published_value("TrainingHours"),
            "h",
            lambda _study: None,
            equal,
            {},
            "no such card here; what an H200 took is in paper_long_training.csv",
        ),
    ]
    return found


def _above_card(ours: Measured, card: float) -> str:
    """Memory against a card's, of which a tenth goes to CUDA, the allocator and a display."""
    return REPLICATES if ours.value > card else PARTLY if ours.value > 0.9 * card else DOES_NOT
