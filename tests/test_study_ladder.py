"""The ablation ladder: each step beside what it is a step from."""

from __future__ import annotations

import pytest

from splathead.method_names import base_method
from splathead.report.data import METHOD_LABELS, Results
from splathead.report.study.data import FITS, Study
from splathead.report.study.ladder import LADDER, ladder_table
from splathead.report.tables import Table
from splathead.report.typeset import latex, markdown
from splathead.results import ResultRow

PSNR = {"bilinear": 30.0, "bilinear_offset": 36.0, "variational": 30.5, "unet": 37.0, "splathead_guided": 44.0,
        "splathead_guided_fused": 44.5}  # fmt: skip
"""Made-up PSNR in dB on vanilla fits; regularised ones have 10 more"""
PAIRS = {
    ("bilinear_offset", "bilinear"): (6.0, 5.5, 6.25), ("variational", "bilinear"): (0.5, 0.25, 0.75),
    ("unet", "bilinear_offset"): (1.0, 0.75, 1.5), ("splathead_guided_fused", "splathead_guided"): (0.5, -0.125, 1.0),
    ("unet", "bilinear"): (7.0, 6.0, 8.0),
}  # fmt: skip
"""(method, method it is compared with): made-up difference in dB with its interval, as measured; the last is no step"""


def made_up(pairs: dict = PAIRS) -> list[ResultRow]:
    """Rows of both fits, and others that the table has no place for."""
    rows = []
    for fit, more in zip(FITS, (0.0, 10.0)):
        key = {"experiment": "main", "fit": fit, "views": "all", "zone": "interior", "target": "surface", "seed": 0}
        for method, psnr in PSNR.items():
            rows.append(ResultRow(metric="rmse", unit="mm", value=0.1 * (50 - psnr), method=method, **key))
            rows.append(ResultRow(metric="psnr", unit="dB", value=psnr + more, method=method, **key))
        for (method, other), numbers in pairs.items():
            named = dict(zip(("value", "ci_low", "ci_high"), numbers))
            rows.append(ResultRow(metric="psnr", unit="dB", **named, method=method, method_b=other, **key))
    elsewhere = ({"target": "render"}, {"views": "near_frontal"}, {"zone": "silhouette"}, {"fit": "few_views"}, {"seed": 1})
    return rows + [ResultRow(**{**vars(row), "value": 99.0, **place}) for place in elsewhere for row in rows[::5]]


def ladder(rows: list[ResultRow]) -> Table:
    table = ladder_table(Study("x", {"depth": Results(tuple(rows))}))
    assert table is not None
    return table


def lines_of(table: Table) -> dict[str, tuple]:
    (section,) = table.sections
    return {line.label: line.cells for line in section.lines}


def test_each_line_has_its_method_and_the_difference_to_what_it_names():
    table = ladder(made_up())
    texts = {label: [cell.text for cell in cells[:4]] for label, cells in lines_of(table).items()}
    assert texts == {
        "bilinear": ["–", "2.000", "30.00", "–"],
        "+ offset": ["bilinear", "1.400", "36.00", "+6.000"],
        "variational": ["bilinear", "1.950", "30.50", "+0.500"],
        "UNet, published loss": ["bilinear + offset", "1.300", "37.00", "+1.000"],
        "+ guides": ["SplatHead", "0.600", "44.00", "–"],
        "+ multi-view, fused": ["SplatHead + guides", "0.550", "44.50", "+0.500"],
    }
    assert [cells[5].text for cells in lines_of(table).values()] == [f"{value + 10:.2f}" for value in PSNR.values()]
    assert table.groups == (("", 1), ("vanilla fit", 3), ("regularised fit", 3))
    assert [unit for _, unit in table.heads] == ["", "mm", "dB", "dB", "mm", "dB", "dB"]


def test_bold_where_the_interval_excludes_zero():
    cells = lines_of(ladder(made_up()))
    unet, fused = (cells[label][3] for label in ("UNet, published loss", "+ multi-view, fused"))
    assert (unet.text, unet.interval, unet.verdict) == ("+1.000", "[0.750, 1.500]", "better")
    assert (fused.interval, fused.verdict) == ("[−0.125, 1.000]", "")
    single = {("unet", "bilinear_offset"): (1.0, None, None)}
    assert lines_of(ladder(made_up(single)))["UNet, published loss"][3].interval == ""  # of one person there is none


def test_a_step_appears_once_it_was_measured():
    rows = made_up()
    assert "+ offset" not in lines_of(ladder([row for row in rows if row.method != "bilinear_offset"]))
    unpaired = lines_of(ladder(made_up({}))).values()
    assert {len(cells) for cells in unpaired} == {5}  # no column of differences without a pair
    assert ladder_table(Study("x", {"depth": Results(())})) is None


def test_every_step_starts_from_another_of_the_ladder_and_has_a_name_of_its_own():
    methods = [step.method for step in LADDER]
    assert len({step.label for step in LADDER}) == len(set(methods)) == len(LADDER)
    for place, step in enumerate(LADDER):
        assert step.reference in methods[:place] or (place == 0 and not step.reference)
        assert base_method(step.method) in METHOD_LABELS
    references = {step.method: step.reference for step in LADDER}
    assert references["splathead_longest_guided"] == "splathead_guided"  # the long schedule is another branch
    assert references["splathead_mix_guided"] == "splathead_longest_guided"
    assert references["splathead_mix_longer_guided"] == "splathead_mix_guided"


@pytest.mark.parametrize("typeset", [markdown, lambda table: latex(table, intervals=False)])
def test_intervals_of_the_differences_stand_in_the_paper_too(typeset):
    text = typeset(ladder(made_up()))
    assert "[0.750, 1.500]" in text and "compared with" in text
    assert "llrrrrrr" in text or "| --- | --- | --: |" in text  # what a line is compared with are words
