"""Compiled networks: matrices that are kept between calls are constants in them, and nothing else loads the compiler."""

from __future__ import annotations

import subprocess
import sys

import torch
from conftest import REPOSITORY

from splathead.models.interpolation import compiled
from splathead.models.splathead import SplatHeadArchitecture, create


def test_a_compiled_network_is_one_graph_that_makes_nothing_anew():
    graphs = []

    def backend(graph, _inputs):
        graphs.append(graph)
        return graph.forward

    torch.manual_seed(0)
    made = create(SplatHeadArchitecture(scale=4, widths=(8, 8, 12, 12), high_width=8, base="limited")).eval()
    half, given = made.in_half(torch.bfloat16), (torch.rand(2, 1, 24, 40), torch.rand(2, 9, 96, 160))
    with torch.no_grad():
        found = compiled(half, backend=backend, fullgraph=True)(*given)
        assert torch.equal(found, half(*given))
    assert len(graphs) == 1
    operations = [str(node.target) for node in graphs[0].graph.nodes]
    assert not any("scatter" in operation or "arange" in operation for operation in operations)  # the spline's matrices


def test_networks_are_compiled_in_that_way_alone():
    """``torch.compile`` by itself would copy the matrices at every call, and say nothing."""
    lines = [(path.name, line) for path in (REPOSITORY / "splathead").rglob("*.py") for line in path.read_text().splitlines()]
    calls = {name for name, line in lines if "torch.compile(" in line and "``" not in line}
    assert calls == {"interpolation.py"}


def test_what_needs_no_compiler_does_not_load_it():
    """Marking the kept matrices at import loaded it, a second and a half of every script's start."""
    check = "import sys, splathead.enhance.tool, splathead.training.trainer; print('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, text=True).stdout.strip() == "False"
