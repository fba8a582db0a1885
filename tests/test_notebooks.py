"""Every notebook is a jupytext pair whose halves agree, and runs from top to bottom."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.py"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_script_and_notebook_hold_the_same_cells(path):
    jupytext = pytest.importorskip("jupytext")
    script, notebook = (jupytext.read(path.with_suffix(suffix)) for suffix in (".py", ".ipynb"))
    cells = [[(cell.cell_type, cell.source) for cell in each.cells] for each in (script, notebook)]
    assert cells[0] == cells[1], f"{path.name} and its .ipynb differ: jupytext --sync {path.name}"
    assert not any(out.output_type == "error" for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, monkeypatch):
    jupytext = pytest.importorskip("jupytext")
    nbclient = pytest.importorskip("nbclient")
    with tempfile.TemporaryDirectory() as temporary:  # what the notebook writes goes with it
        monkeypatch.setenv("TMPDIR", temporary)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(path.parents[1]), os.environ.get("PYTHONPATH", "")]))
        client = nbclient.NotebookClient(jupytext.read(path), timeout=600, resources={"metadata": {"path": str(path.parent)}})
        client.execute()
