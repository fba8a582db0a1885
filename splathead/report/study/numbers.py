r"""Numbers of the paper's text as LaTeX macros, made from result rows; no number is typed by hand.

A macro's name is its parts in CamelCase: ``\RmseUnetSurfaceVanilla`` is the interior RMSE over all views of the UNet
against the true surface on vanilla fits, ``\RmseUnetSurfaceVanillaCi`` its interval. With ``Silhouette``, ``Full`` or
``Frontal`` after the metric: that zone, or near-frontal views. ``\RmseUnetMinusBilinearSurfaceVanilla`` is a paired
difference; ``report.publishing`` says which are published. ``\BudgetRmseSplatFullVanilla`` (``Antialiased`` at the end for the
other raster mode), ``\CrossDropVanilla``, ``\BitsRmseUnetEightBitVanilla``, ``\NormalsMaeSplatRenderVanilla``,
``\AuditFUnetAVanilla``, ``\CostParametersUnet``, ``\ClaimFGapFine``, ``\PublishedPsnrUnet``, settings such as
``\ConfigTrainSteps`` and counts such as ``\TestIdentities`` follow the same pattern.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from splathead.config import Config
from splathead.report.claims import DOES_NOT, PARTLY, REPLICATES, UNTESTED, Judged, published, shown_number
from splathead.report.data import Results, format_number
from splathead.report.study.ablation_tables import audit_rows, bits_rows, budget_rows, cross_rows, printed_f, shown_rows
from splathead.report.study.causes import causes
from splathead.report.study.data import FITS, Study
from splathead.report.study.settings import setting_numbers, tex_number
from splathead.report.typeset import escape_tex
from splathead.results import ResultRow

NOT_MEASURED = r"\notmeasured"
WORDS = {
    "1024": "full",
    "256": "low",
    "6bit": "six bit",
    "7bit": "seven bit",
    "8bit": "eight bit",
    "9bit": "nine bit",
    "10bit": "ten bit",
    "16bit": "sixteen bit",
    "0.1mm": "tenth",
    "0.25mm": "quarter",
    "0.5mm": "half",
    "1mm": "one",
    "2mm": "two",
    "normal_error": "normals",
    "f_score": "f",
    "f_score_auc": "area f",
    "hausdorff_95": "hausdorff",
    "chamfer_l1": "chamfer",
    "interval_violation": "violation",
}
DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
MAIN_METRICS = (
    "rmse",
    "mae",
    "bias",
    "psnr",
    "normal_error",
    "phase_spread",
    "interval_violation",
    "chamfer_l1",
    "hausdorff_95",
    "f_score_auc",
)
SHOWN_THRESHOLDS = tuple(key for key in WORDS if key.endswith("mm"))
MACRO = re.compile(r"\\([A-Z][A-Za-z]*[a-z][A-Za-z]*)")
"""A macro of ours in the paper's text: CamelCase, unlike most of LaTeX's own."""
LATEX_MACROS = {"IfFileExists", "LaTeX", "TeX", "Large", "Delta"}


def macro_name(*parts: str) -> str:
    """Parts (column values) as one CamelCase name of letters only; digits are spelled."""
    words = [word for part in parts for word in re.split(r"[^A-Za-z0-9]+", _spelled(part)) if word]
    name = "".join(word[0].upper() + word[1:] for word in words)
    return re.sub(r"\d", lambda digit: DIGITS[int(digit[0])], name)


def _spelled(part: str) -> str:
    if part in WORDS:
        return WORDS[part]
    return "_".join(WORDS.get(word, word) for word in part.split("_"))


def numbers(study: Study, judged: list[Judged], config: Config) -> dict[str, str]:
    """Macro name -> LaTeX text of every number that the results and the study's configuration hold."""
    found: dict[str, str] = {}
    sources = (
        _main(study), _around(study), _budget(study), _cross(study), _bits(study), _normals(study), _audit(study), _cost(study),
        _counts(study), _claims(judged), _settings(config),
    )  # fmt: skip
    for source in sources:
        for name, text in source:
            if found.setdefault(name, text) != text:
                raise ValueError(f"two values of macro {name}: {found[name]} and {text}")
    return found


def _of_row(name: str, row: ResultRow) -> Iterator[tuple[str, str]]:
    """The value and, where there is one, its interval; a difference has its sign."""
    extra = int(bool(row.method_b))
    text = format_number(row.metric, row.unit, row.value, extra)
    yield name, escape_tex(f"+{text}" if row.method_b and not text.startswith("−") else text)
    if row.ci_low is not None and row.ci_high is not None:
        bounds = [format_number(row.metric, row.unit, bound, extra) for bound in (row.ci_low, row.ci_high)]
        yield f"{name}Ci", escape_tex(f"[{', '.join(bounds)}]")


def _methods(row: ResultRow) -> tuple[str, ...]:
    """Words for whose value it is, of a difference for both."""
    return (row.method, "minus", row.method_b) if row.method_b else (row.method,)


def _main(study: Study) -> Iterator[tuple[str, str]]:
    places = {
        ("all", "interior"): "",
        ("all", "silhouette"): "silhouette",
        ("all", "full"): "full",
        ("near_frontal", "interior"): "frontal",
    }
    long = study.long_training().where(method="unet_epochs")
    for row in Results((*study.main.rows, *long.rows)).where(metric=(*MAIN_METRICS, "f_score")).rows:
        place = places.get((row.views, row.zone))
        if place is None or (row.metric == "f_score" and row.threshold not in SHOWN_THRESHOLDS):
            continue
        if row.metric == "f_score_auc" and not row.threshold.endswith("mm"):
            continue
        threshold = row.threshold if row.metric == "f_score" else ""
        yield from _of_row(macro_name(row.metric, threshold, place, *_methods(row), row.target, row.fit), row)


def _around(study: Study) -> Iterator[tuple[str, str]]:
    inside = study.around().where(metric=("rmse", "psnr", "normal_error"), views="all", zone="interior")
    for row in inside.rows:
        yield from _of_row(macro_name("around", row.metric, *_methods(row), row.fit), row)


def _budget(study: Study) -> Iterator[tuple[str, str]]:
    for row in budget_rows(study).where(method_b="").rows:
        mode = "antialiased" if row.raster_mode == "antialiased" else ""
        if row.metric in ("rmse", "bias", "normal_error", "depth_std", "interval_violation"):
            yield from _of_row(macro_name("budget", row.metric, row.method, row.fit, mode), row)


def _cross(study: Study) -> Iterator[tuple[str, str]]:
    names = {
        "all pairs of the five": "CrossDrop",
        "noise": "CrossNoise",
        "resampled ↔ real render": "CrossRendering",
        "8-bit code": "CrossCode",
        "control: bicubic ↔ area": "CrossBicubicArea",
        "control: bicubic ↔ antialiased bicubic": "CrossBicubicAntialiased",
        "control: area ↔ real render": "CrossAreaRender",
        "control: antialiased bicubic ↔ real render": "CrossAntialiasedRender",
    }
    for fit in FITS:
        for cause in causes(cross_rows(study).where(fit=fit, method="unet")):
            yield macro_name(names[cause.label], fit), escape_tex(format_number("psnr", "dB", cause.drop))
            if cause.share is not None:
                yield macro_name(names[cause.label], "share", fit), escape_tex(format_number("psnr", "dB", cause.share))


def _bits(study: Study) -> Iterator[tuple[str, str]]:
    for row in bits_rows(study).where(metric=("rmse", "mae", "normal_error"), method_b="").rows:
        yield from _of_row(macro_name("bits", row.metric, row.method, row.degradation_test, row.fit), row)


def _normals(study: Study) -> Iterator[tuple[str, str]]:
    for row in (
        shown_rows(study.experiment("normals"), "target").where(metric=("rmse", "mae", "normal_error"), method_b="").rows
    ):
        yield from _of_row(
            macro_name("normals", row.metric, row.method.removeprefix("unet_normals_"), row.target, row.fit), row
        )


def _audit(study: Study) -> Iterator[tuple[str, str]]:
    rows = audit_rows(study).where(target="render", method_b="")
    for setting in ("a", "b"):
        for fit in FITS:
            chosen = rows.where(experiment=f"f_score_audit_{setting}", fit=fit)
            for method in chosen.distinct("method"):
                row = printed_f(chosen.where(method=method))
                yield from _of_row(macro_name("audit", "f", method, setting, fit), row)


def _cost(study: Study) -> Iterator[tuple[str, str]]:
    for row in (*study.training().rows, *study.long_cost().rows):
        yield from _of_row(macro_name("cost", row.metric, row.method), row)
    for row in study.inference().rows:
        name = macro_name("inference", row.metric, row.method)
        if row.metric == "seconds":
            yield name + "Ms", f"{1000 * row.value:.1f}"
        else:
            yield from _of_row(name, row)


def _counts(study: Study) -> Iterator[tuple[str, str]]:
    for split in ("train", "val", "test"):
        if split in study.splits:
            yield macro_name(split, "identities"), str(len(study.splits[split]))
    if study.splits:
        yield "AllIdentities", str(sum(len(study.splits[split]) for split in ("train", "val", "test")))
    scored = study.main.where(metric="rmse", views="all", method="bilinear", method_b="", zone="interior")
    counts = sorted({row.n for row in scored.rows if row.n is not None})
    if len(counts) == 1:
        yield "ScoredIdentities", str(counts[0])
    if len(study.main):
        methods = {row.method for row in study.main.where(metric="rmse", method_b="").rows}
        yield "MethodCount", str(len(methods))
        seeds = {row.seed for row in study.main_of_all_data.where(method="unet", metric="rmse").rows}
        yield "UnetSeeds", str(len(seeds))


def _settings(config: Config) -> Iterator[tuple[str, str]]:
    for parts, text in setting_numbers(config):
        yield macro_name(*parts), text


def _claims(judged: list[Judged]) -> Iterator[tuple[str, str]]:
    for key, (value, text) in published().items():
        yield macro_name("published", key), tex_number(value) if abs(value) >= 1000 or "e" in text else text
    for item in judged:
        name = macro_name("claim", item.claim.key)
        yield f"{name}Verdict", escape_tex(item.verdict)
        if item.ours is not None:
            yield name, escape_tex(shown_number(item.ours.value, item.claim.unit))
        if item.claim.published is not None:
            yield f"{name}Published", escape_tex(shown_number(item.claim.published, item.claim.unit))
    for verdict in (REPLICATES, PARTLY, DOES_NOT, UNTESTED):
        count = sum(item.verdict == verdict for item in judged)
        yield macro_name("claims", verdict.replace("here", "")), str(count)
    if judged:
        yield "ClaimCount", str(len(judged))


def used_macros(tex: str) -> list[str]:
    """Names of our macros that a LaTeX text uses outside of comments, sorted."""
    text = re.sub(r"(?<!\\)%.*", "", tex).replace("\\\\", " ")  # a line break is no macro
    return sorted(set(MACRO.findall(text)) - LATEX_MACROS)


def numbers_tex(found: dict[str, str], used: list[str]) -> str:
    """``numbers.tex``: a definition for each macro that the paper uses; those without a row say "not measured"."""
    lines = ["% Made by scripts/12_make_tables.py from eval/*.csv; do not edit."]
    lines += [rf"\newcommand{{\{name}}}{{{found.get(name, NOT_MEASURED)}}}" for name in used]
    return "\n".join([*lines, ""])
