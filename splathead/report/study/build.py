"""Everything of the paper that is made from results: tables, figures, ``numbers.tex``, ``claims.csv``, the README's block."""

from __future__ import annotations

from pathlib import Path

from splathead.config import Config
from splathead.images import atomic_path
from splathead.report.claims import claims_csv, claims_table, judge_all
from splathead.report.figures import save_figure
from splathead.report.study.ablation_tables import ablation_tables
from splathead.report.study.data import Study
from splathead.report.study.ladder import ladder_table
from splathead.report.study.main_tables import detailed_tables, main_tables
from splathead.report.study.matrix_figures import FIGURES, study_figures
from splathead.report.study.numbers import numbers, numbers_tex, used_macros
from splathead.report.tables import Table
from splathead.report.typeset import latex, markdown

README_TABLES = (
    "error_budget", "main_surface", "main_render", "around", "ladder", "cost", "cross_causes", "normals", "f_audit", "claims",
)  # fmt: skip
README_FIGURES = ("error_budget", "f_curves")
PAPER_TEX = "main.tex"
PAPER_NAME = "paper"


def study_tables(study: Study) -> list[Table]:
    """Every table of the paper that the results can fill; the details of the main comparison come last."""
    tables = [*main_tables(study), ladder_table(study), *ablation_tables(study)]
    return [table for table in (*tables, claims_table(judge_all(study)), *detailed_tables(study)) if table is not None]


def build_study(study: Study, config: Config, eval_folder: Path, folder: Path) -> list[Path]:
    """Write ``tables/``, ``figures/`` and ``numbers.tex`` into ``folder``, and the paper's ``claims.csv`` into ``eval_folder``
    (another study's into ``folder``).

    Numbers come from the results, settings from ``config``; the same results give the same bytes. Tables and figures of
    ours that the results no longer fill are removed. ``numbers.tex`` defines what ``folder/main.tex`` uses; without that
    file, every number there is.
    """
    written = []
    for table in study_tables(study):
        intervals = table.key.startswith("detail_")
        written.append(_write(folder / "tables" / f"{table.key}.tex", latex(table, intervals=intervals)))
        written.append(_write(folder / "tables" / f"{table.key}.md", markdown(table)))
    for key, figure in study_figures(study).items():
        written += save_figure(figure, folder / "figures", key, config.report.formats)
    for old in _generated(folder):
        if old not in written:
            old.unlink()
    judged = judge_all(study)
    found = numbers(study, judged, config)
    paper = folder / PAPER_TEX
    used = used_macros(paper.read_text(encoding="utf-8")) if paper.is_file() else sorted(found)
    written.append(_write(folder / "numbers.tex", numbers_tex(found, used)))
    claims_folder = Path(eval_folder) if study.name == PAPER_NAME else folder
    written.append(_write(claims_folder / "claims.csv", claims_csv(judged)))
    return written


def readme_block(study: Study, figures: Path, link: str) -> str:
    """The README's results: main tables in Markdown and the figures that exist in ``figures``, linked as ``link/<name>``; empty
    while the results hold no main table."""
    by_key = {table.key: table for table in study_tables(study)}
    if "main_surface" not in by_key and "main_render" not in by_key:
        return ""
    intro = (
        f"Measured by `configs/{study.name}.yaml`; made by `python scripts/12_make_tables.py` from `eval/{study.name}_*.csv`, "
        "not by hand. All tables and figures: [paper/](paper/)."
    )
    blocks = [intro]
    for key in README_FIGURES:
        if (figures / f"{key}.png").is_file():
            blocks.append(f"![{key.replace('_', ' ')}]({link}/{key}.png)")
    blocks += [markdown(by_key[key], intervals=False).rstrip() for key in README_TABLES if key in by_key]
    return "\n\n".join(blocks) + "\n"


def _generated(folder: Path) -> list[Path]:
    """Tables and figures that an earlier call has written."""
    tables = [path for path in (folder / "tables").glob("*") if path.suffix in (".tex", ".md")]
    return tables + [path for path in (folder / "figures").glob("*") if path.stem in FIGURES]


def _write(path: Path, text: str) -> Path:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path
