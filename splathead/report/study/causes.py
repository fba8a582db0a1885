"""What the drop of the cross-degradation test is made of: noise, rendering, code, and two controls of resampling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from splathead.report.data import Results, format_number

FIVE = ("bicubic", "bicubic_noise", "bicubic_8bit", "16bit", "8bit")
"""The published study's five degradations; its render is measured here as a real render, ``16bit`` and ``8bit``."""
RENDERED, RESAMPLED, NOISY = ("16bit", "8bit"), ("bicubic", "bicubic_8bit"), "bicubic_noise"
CONTROLS = {
    "control: bicubic ↔ area": ("bicubic", "area"),
    "control: bicubic ↔ antialiased bicubic": ("bicubic", "bicubic_antialiased"),
    "control: area ↔ real render": ("area", "16bit"),
    "control: antialiased bicubic ↔ real render": ("bicubic_antialiased", "16bit"),
}
"""Pairs of float inputs that differ in the kernel only, or in rendering against resampling with antialiasing."""
TOTAL = "all pairs of the five"

Pair = tuple[str, str]


@dataclass(frozen=True)
class Cause:
    """Mean drop in dB over ordered pairs (trained, tested) of one cause, and its share of the total in dB."""

    label: str
    drop: float
    share: float | None


@dataclass(frozen=True)
class CauseLine:
    """One line of the table: drop and share as text for each fit."""

    label: str
    texts: tuple[str, ...]


def degradation_order(name: str) -> tuple[int, str]:
    """Sort key of degradations: the published five, then the controls."""
    known = (*FIVE, "bicubic_antialiased", "area", "area_8bit")
    return (known.index(name) if name in known else len(known), name)


def pair_cause(pair: Pair) -> str:
    """Why two of the five degradations differ; noise before rendering before the code."""
    if NOISY in pair:
        return "noise"
    if (pair[0] in RENDERED) != (pair[1] in RENDERED):
        return "resampled ↔ real render"
    return "8-bit code"


def drops(rows: Results) -> dict[Pair, float]:
    """(trained, tested) -> PSNR of the network trained for the test minus that of the one trained for another, dB."""
    psnr = {
        pair: row.value
        for pair, row in rows.where(metric="psnr", method_b="").index("degradation_train", "degradation_test").items()
    }
    return {(a, b): psnr[b, b] - value for (a, b), value in psnr.items() if a != b and (b, b) in psnr}


def causes(rows: Results) -> list[Cause]:
    """The total over the five degradations, its causes and the controls; empty unless all five were crossed."""
    drop = drops(rows)
    pairs = [(a, b) for a in FIVE for b in FIVE if a != b]
    if any(pair not in drop for pair in pairs):
        return []
    names = sorted({pair_cause(pair) for pair in pairs}, key=("noise", "resampled ↔ real render", "8-bit code").index)
    found = [_cause(TOTAL, drop, pairs, len(pairs))]
    found += [_cause(name, drop, [pair for pair in pairs if pair_cause(pair) == name], len(pairs)) for name in names]
    for label, (a, b) in CONTROLS.items():
        both = [pair for pair in ((a, b), (b, a)) if pair in drop]
        if both:
            found.append(Cause(label, sum(drop[pair] for pair in both) / len(both), None))
    return found


def _cause(label: str, drop: Mapping[Pair, float], pairs: Sequence[Pair], total: int) -> Cause:
    summed = sum(drop[pair] for pair in pairs)
    return Cause(label, summed / len(pairs), summed / total)


def cause_lines(rows_by_fit: Mapping[str, Results]) -> list[CauseLine]:
    """The causes of every fit side by side; empty where no fit was crossed."""
    by_fit = [{cause.label: cause for cause in causes(rows)} for rows in rows_by_fit.values()]
    labels = list(dict.fromkeys(label for found in by_fit for label in found))
    lines = []
    for label in labels:
        texts: list[str] = []
        for found in by_fit:
            cause = found.get(label)
            texts += [format_number("psnr", "dB", value) if value is not None else "–"
                      for value in ((cause.drop, cause.share) if cause else (None, None))]  # fmt: skip
        lines.append(CauseLine(label, tuple(texts)))
    return lines
