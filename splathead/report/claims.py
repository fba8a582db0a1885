"""The claims table: what the published study printed, what was measured here, and a verdict by rule.

Published numbers come from ``assets/published.csv``, ours from the study's result files; none is typed here. A claim whose
rows are absent is "cannot be tested here" and says which rows.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from splathead.report.study.data import Study
from splathead.report.tables import Cell, Line, Section, Table

PUBLISHED_FILE = Path(__file__).parent / "assets" / "published.csv"
COLUMNS = ("claim", "published", "unit", "ours", "ci_low", "ci_high", "verdict", "why", "source")
ROUNDED = 10_000
"""Parameter counts in millions were printed to this step."""
REPLICATES, PARTLY, DOES_NOT, UNTESTED = "replicates", "partly", "does not", "cannot be tested here"


@dataclass(frozen=True)
class Measured:
    """Our value of a claim, its interval where it has one, and the rows it comes from."""

    value: float
    low: float | None = None
    high: float | None = None
    source: str = ""

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"claim measured from {self.source}: value {self.value}, expected a finite number")

    @property
    def clear(self) -> bool:
        """Whether the interval excludes zero; False without an interval."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


@dataclass(frozen=True)
class Claim:
    """One published statement. ``why`` has a line for each verdict that the rule can give."""

    key: str
    text: str
    published: float | None
    unit: str
    measure: Callable[[Study], Measured | None]
    rule: Callable[[Measured, float], str]
    why: Mapping[str, str]
    needs: str = ""
    """what is missing when nothing can be measured"""


@dataclass(frozen=True)
class Judged:
    """A claim with our value and the verdict."""

    claim: Claim
    ours: Measured | None
    verdict: str
    why: str


@cache
def published() -> dict[str, tuple[float, str]]:
    """Key -> (value, text as printed) of ``published.csv``."""
    with PUBLISHED_FILE.open(newline="", encoding="utf-8") as file:
        return {row["key"]: (float(row["value"]), row["value"]) for row in csv.DictReader(file)}


def published_value(key: str) -> float:
    """A published number; KeyError names the file for one that it lacks."""
    if key not in published():
        raise KeyError(f"{PUBLISHED_FILE}: no value {key!r}")
    return published()[key][0]


def same_direction(ours: Measured, theirs: float) -> str:
    """A difference: clear, of the same sign and at least half as large replicates; clear and smaller is partly."""
    if not ours.clear or (ours.value > 0) != (theirs > 0):
        return DOES_NOT
    return REPLICATES if abs(ours.value) >= abs(theirs) / 2 else PARTLY


def same_size(ours: Measured, theirs: float) -> str:
    """A size: within half to double replicates, within a tenth to ten times is partly; an interval must exclude zero."""
    ratio = ours.value / theirs
    if ratio < 0.1 or ratio > 10 or (ours.low is not None and not ours.clear):
        return DOES_NOT
    return REPLICATES if 0.5 <= ratio <= 2 else PARTLY


def equal(ours: Measured, theirs: float) -> str:
    """A count: the same number (rounded as printed, see ROUNDED) replicates, within 1 % is partly."""
    step = ROUNDED if theirs % ROUNDED == 0 else 1
    if round(ours.value / step) * step == theirs:
        return REPLICATES
    return PARTLY if abs(ours.value - theirs) <= 0.01 * theirs else DOES_NOT


def judge(claim: Claim, study: Study) -> Judged:
    """Measure a claim and apply its rule."""
    ours = claim.measure(study)
    if ours is None:
        return Judged(claim, None, UNTESTED, claim.needs)
    verdict = claim.rule(ours, claim.published if claim.published is not None else math.nan)
    return Judged(claim, ours, verdict, claim.why[verdict])


def judge_all(study: Study) -> list[Judged]:
    """Every claim of :mod:`splathead.report.claim_list`, in its order."""
    from splathead.report.claim_list import claims

    return [judge(claim, study) for claim in claims()]


def claims_csv(judged: list[Judged]) -> str:
    """``eval/claims.csv`` as text: the same results give the same bytes."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for item in judged:
        ours = item.ours
        numbers = [_number(ours.value), _number(ours.low), _number(ours.high)] if ours else [""] * 3
        source = ours.source if ours else ""
        writer.writerow(
            [item.claim.text, _number(item.claim.published), item.claim.unit, *numbers, item.verdict, item.why, source]
        )
    return buffer.getvalue()


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return str(int(value)) if float(value).is_integer() else f"{value:.6g}"


def shown_number(value: float | None, unit: str) -> str:
    """A claim's number for people."""
    if value is None:
        return "–"
    if float(value).is_integer() and abs(value) >= 1000:
        return f"{int(value):,}".replace(",", "\u202f")
    decimals = {"dB": 2, "%": 1, "MiB": 0, "h": 2}.get(unit, 3)
    text = f"{value:.{decimals}f}"
    text = text.lstrip("-") if float(text) == 0 else text
    return text.replace("-", "−")


def claims_table(judged: list[Judged]) -> Table:
    """Claims as a table: published, ours with its interval, verdict."""
    lines = []
    for item in judged:
        ours, unit = item.ours, item.claim.unit
        interval = ""
        if ours is not None and ours.low is not None and ours.high is not None:
            interval = f"[{shown_number(ours.low, unit)}, {shown_number(ours.high, unit)}]"
        numbers = (Cell(shown_number(item.claim.published, unit)), Cell(shown_number(ours.value if ours else None, unit)))
        lines.append(Line(item.claim.text, (*numbers, Cell(interval or "–"), Cell(unit or "–"), Cell(item.verdict))))
    heads = (("published", ""), ("ours", ""), ("95 %", ""), ("unit", ""), ("verdict", ""))
    note = (
        "Verdicts follow rules that are the same for all claims of a kind; reasons and sources are in eval/claims.csv. "
        "Differences are paired within a run, which need not be the same one in two rows."
    )
    return Table("claims", "Published claims", note, heads, (Section("", tuple(lines)),), first_head="claim")
