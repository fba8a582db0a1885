"""The benchmark of inference: rows of every network, ratios to the published one."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from splathead.benchmarks import inference
from splathead.benchmarks.table import to_lines, to_results
from splathead.config import ModelConfig


def test_rows_and_ratios(monkeypatch):
    monkeypatch.setattr(inference, "SIZE", 64)
    small = {"unet": ModelConfig(base_ch=4), "ours": inference.NETWORKS["SplatHead"]}
    monkeypatch.setattr(inference, "NETWORKS", small)
    first, ours = inference.inference_rows(0.01, torch.device("cpu"))
    assert (first.method, ours.method, ours.phase, ours.workload) == ("unet", "ours", "inference", "16 to 64, a map")
    assert first.ratio is None and ours.ratio_to == "unet" and ours.ratio == first.seconds / ours.seconds


class Recorder(nn.Module):
    """Notes for every run which network ran, and whether under autocast."""

    def __init__(self, name: str, seen: set) -> None:
        super().__init__()
        self.name, self.seen = name, seen

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.add((self.name, torch.is_autocast_enabled("cpu")))
        return x


class WithHalf(Recorder):
    """A network that makes its copy in half precision itself."""

    def in_half(self) -> Recorder:
        return Recorder("half", self.seen)


def half_seconds(monkeypatch, network: Recorder, *, triton: bool) -> dict[str, float | None]:
    """Ways of running it in half precision on the CPU, where nothing is captured or compiled."""
    compiled = []
    monkeypatch.setattr(inference, "_in_graph", lambda network, inputs: partial(inference._run, network, inputs))
    monkeypatch.setattr(inference, "find_spec", lambda name: object() if triton else None)
    monkeypatch.setattr(torch, "compile", lambda network, **how: compiled.append(how) or network)
    found = inference._half_seconds(network, [torch.zeros(1, 1, 2, 2)], 0.0)
    assert compiled == ([{"fullgraph": True, "dynamic": False}] if triton and isinstance(network, WithHalf) else [])
    return found


def test_half_precision_is_a_networks_own_copy_or_autocast(monkeypatch):
    seen: set = set()
    plain = half_seconds(monkeypatch, Recorder("plain", seen), triton=True)
    assert seen == {("plain", True)} and list(plain) == ["inference fp16", "inference fp16, CUDA graph"]
    seen.clear()
    own = half_seconds(monkeypatch, WithHalf("full", seen), triton=True)
    assert seen == {("half", False)} and list(own) == [*plain, inference.COMPILED] and all(own.values())
    assert not torch.is_autocast_enabled("cpu")


def test_without_triton_the_compiled_way_is_named_and_no_result(monkeypatch):
    half = half_seconds(monkeypatch, WithHalf("full", set()), triton=False)
    assert half[inference.COMPILED] is None
    rows = [inference._row("ours", phase, seconds, []) for phase, seconds in half.items()]
    assert "not measured" in to_lines(rows)[-1] and to_lines(rows)[-1].endswith("needs the package triton")
    assert len(to_results(rows, "cpu")) == 2
