"""paper/main.tex: no number typed by hand, everything it names exists, and what is committed is what the results say."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import REPOSITORY
from synthetic_study import write_study

from splathead.config import load_config
from splathead.report.build import README_BLOCK
from splathead.report.claims import claims_csv, judge_all
from splathead.report.study.build import build_study, readme_block, study_tables
from splathead.report.study.data import load_study
from splathead.report.study.matrix_figures import FIGURES
from splathead.report.study.numbers import numbers, numbers_tex, used_macros
from splathead.report.typeset import latex, markdown

PAPER, EVAL = REPOSITORY / "paper", REPOSITORY / "eval"
CONFIG = load_config(REPOSITORY / "configs" / "paper.yaml")
STRUCTURAL = r"(?<![\w.])(?:1024|256|8-bit|16-bit|8\\,GB|3D|2D)(?![\w]|[.,]\d)"
"""Digits that name a thing: sizes of the two maps, bits of the two codes, the published study's card, dimensions"""
NO_TEXT = (
    r"\\(?:ref|label|cite|input|studytable|studyfigure|includegraphics|vspace|setlength|documentclass|usepackage|begin|end)\b\*?(?:\{\\?\w+\})?"
)
needs_results = pytest.mark.skipif(not (EVAL / "paper_depth.csv").is_file(), reason="eval/paper_*.csv are not there yet")


@pytest.fixture(scope="module")
def tex() -> str:
    """The paper without its comments."""
    return re.sub(r"(?<!\\)%.*", "", (PAPER / "main.tex").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A made-up study with rows of every kind."""
    folder = tmp_path_factory.mktemp("eval")
    write_study(folder)
    return load_study(folder, "paper")


def prose(tex: str) -> str:
    """What a reader reads: the document without its bibliography, commands' keys and lengths."""
    body = tex[tex.index(r"\begin{document}") : tex.index(r"\begin{thebibliography}")]
    body = re.sub(NO_TEXT + r"(?:\[[^]]*\])?(?:\{[^}]*\})*", " ", body)
    return re.sub(r"\\[a-zA-Z]+", " ", body)


def typed_numbers(text: str) -> list[str]:
    """Numbers that are neither part of a name (L1) nor structural."""
    return [word.rstrip(".,") for word in re.findall(r"(?<![A-Za-z0-9])[0-9][0-9.,]*", re.sub(STRUCTURAL, " ", text))]


def test_no_number_is_typed_by_hand(tex):
    assert typed_numbers(prose(tex)) == []


def test_a_typed_number_would_be_found(tex):
    sentence = r"The UNet reaches 0.45~mm, $12\,\%$ less, 256.5 or 8~mm at 1024 pixels; see \ref{tab:cost9}."
    planted = tex.replace(r"\section{Results}", r"\section{Results} " + sentence)
    assert typed_numbers(prose(planted)) == ["0.45", "12", "256.5", "8"]


def test_every_number_macro_can_be_made(tex, study):
    found = numbers(study, judge_all(study), CONFIG)
    assert len(used_macros(tex)) > 50
    assert [name for name in used_macros(tex) if name not in found] == []


def test_every_table_and_figure_can_be_made(tex, study):
    tables = {table.key for table in study_tables(study)}
    assert set(re.findall(r"\\studytable\{(\w+)\}", tex)) <= tables
    assert set(re.findall(r"\\studyfigure(?:\[[\d.]+\])?\{(\w+)\}", tex)) <= set(FIGURES)


def test_references_labels_and_citations_meet(tex):
    labels, refs = (re.findall(rf"\\{name}\{{([^}}]+)\}}", tex) for name in ("label", "ref"))
    assert len(labels) == len(set(labels)) and set(labels) == set(refs)
    items = re.findall(r"\\bibitem\{([^}]+)\}", tex)
    cited = {key for group in re.findall(r"\\cite\{([^}]+)\}", tex) for key in group.split(",")}
    assert len(items) == len(set(items)) and set(items) == cited


def test_braces_and_environments_are_closed(tex):
    assert len(re.findall(r"(?<!\\)\{", tex)) == len(re.findall(r"(?<!\\)\}", tex))
    open_environments: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{([a-z*]+)\}", tex):
        if kind == "begin":
            open_environments.append(name)
        else:
            assert open_environments.pop() == name
    assert open_environments == []


@needs_results
def test_committed_tables_and_numbers_are_those_of_the_results(tex):
    study = load_study(EVAL, "paper")
    judged = judge_all(study)
    made = {"numbers.tex": numbers_tex(numbers(study, judged, CONFIG), used_macros(tex))}
    for table in study_tables(study):
        made[f"tables/{table.key}.tex"] = latex(table, intervals=table.key.startswith("detail_"))
        made[f"tables/{table.key}.md"] = markdown(table)
    stale = [name for name, text in made.items() if not (PAPER / name).is_file() or (PAPER / name).read_text() != text]
    assert stale == [], "run python scripts/12_make_tables.py"
    assert {f"tables/{path.name}" for path in (PAPER / "tables").iterdir()} == set(made) - {"numbers.tex"}
    assert (EVAL / "claims.csv").read_text() == claims_csv(judged)


@needs_results
def test_readme_block_is_that_of_the_results():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    begin, end = f"<!-- {README_BLOCK}:begin -->", f"<!-- {README_BLOCK}:end -->"
    block = text[text.index(begin) + len(begin) : text.index(end)].strip()
    assert block == readme_block(load_study(EVAL, "paper"), PAPER / "figures", "paper/figures").strip()


needs_latex = pytest.mark.skipif(shutil.which("latexmk") is None, reason="latexmk is not installed")


@needs_latex
@pytest.mark.parametrize("measured", [True, False])
def test_paper_compiles(tmp_path, study, measured):
    folder = tmp_path / "paper"
    folder.mkdir()
    shutil.copy(PAPER / "main.tex", folder)
    if measured:
        build_study(study, replace(CONFIG, report=replace(CONFIG.report, formats=["pdf"])), tmp_path, folder)
    else:
        (folder / "numbers.tex").write_text(numbers_tex({}, used_macros((folder / "main.tex").read_text())))
    assert "LaTeX Warning: Reference" not in compiled(folder)


@needs_latex
@needs_results
def test_the_paper_has_four_to_six_pages(tmp_path):
    log = compiled(Path(shutil.copytree(PAPER, tmp_path / "paper")))
    assert 4 <= int(re.search(r"Output written on main\.pdf \((\d+) pages", log)[1]) <= 6
    assert "Overfull" not in log and "undefined" not in log


def compiled(folder: Path) -> str:
    """Compile the paper in ``folder``; returns its log."""
    command = ["latexmk", "-pdf", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    return (folder / "main.log").read_text(errors="replace").replace("\n", "")
