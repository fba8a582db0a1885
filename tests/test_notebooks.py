"""Every notebook is a jupytext pair whose halves agree, and runs from top to bottom; none shows where it was run."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest
from synthetic_study import write_study

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("[0-9]*.py"))
PLACES = re.compile(r"/(tmp|home|root|work|Users|mnt)/|[A-Z]:\\Users")
"""Folders of a machine"""


def execute(notebook, folder: Path, monkeypatch) -> None:
    """Run a notebook in ``folder``; what it writes to temporary files is deleted."""
    nbclient = pytest.importorskip("nbclient")
    with tempfile.TemporaryDirectory() as temporary:
        monkeypatch.setenv("TMPDIR", temporary)
        root = Path(__file__).resolve().parents[1]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]))
        nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()


def outputs(notebook) -> list:
    """Outputs of all code cells."""
    return [out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_script_and_notebook_hold_the_same_cells(path):
    jupytext = pytest.importorskip("jupytext")
    script, notebook = (jupytext.read(path.with_suffix(suffix)) for suffix in (".py", ".ipynb"))
    cells = [[(cell.cell_type, cell.source) for cell in each.cells] for each in (script, notebook)]
    assert cells[0] == cells[1], f"{path.name} and its .ipynb differ: jupytext --sync {path.name}"
    assert outputs(notebook), f"{path.name} was not executed"
    assert not any(out.output_type == "error" for out in outputs(notebook))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_name_no_folder_of_a_machine(path):
    jupytext = pytest.importorskip("jupytext")
    texts = []
    for out in outputs(jupytext.read(path.with_suffix(".ipynb"))):
        shown = [out.text] if out.output_type == "stream" else [v for k, v in out.data.items() if k.startswith("text/")]
        texts += ["".join(text) for text in shown]
    assert not [text for text in texts if PLACES.search(text)]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, monkeypatch):
    jupytext = pytest.importorskip("jupytext")
    execute(jupytext.read(path), path.parent, monkeypatch)


@pytest.mark.slow
def test_paper_figures_of_a_whole_study(tmp_path, monkeypatch):
    """With every file of a study there, the notebook shows every figure and misses nothing."""
    jupytext = pytest.importorskip("jupytext")
    from splathead.report.study.matrix_figures import FIGURES

    source = next(path for path in NOTEBOOKS if path.stem == "05_paper_figures")
    (tmp_path / "notebooks").mkdir()
    write_study(tmp_path / "eval")
    notebook = jupytext.read(shutil.copy(source, tmp_path / "notebooks"))
    execute(notebook, tmp_path / "notebooks", monkeypatch)
    pictures = [out for out in outputs(notebook) if "image/png" in out.get("data", {})]
    assert len(pictures) == len(FIGURES)
    assert not [out for out in outputs(notebook) if "No rows" in out.get("text", "")]
