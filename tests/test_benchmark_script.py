"""scripts/90_benchmark.py: every group runs on the device that its rows name."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch
from conftest import REPOSITORY

from splathead import devices
from splathead.benchmarks import pipeline, training
from splathead.benchmarks.table import to_results
from splathead.benchmarks.training import Throughput

spec = importlib.util.spec_from_file_location("benchmark_script", REPOSITORY / "scripts" / "90_benchmark.py")
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)


@pytest.mark.parametrize(
    ("device", "loops"),
    [("cpu", ["published loop", "eager"]), ("cuda", ["published loop", "eager", "compiled", "published loop, float32"])],
)
def test_training_runs_where_it_is_told_and_compiles_only_there_where_it_can(device, loops, monkeypatch):
    seen = []

    def throughput(settings, *, device, seconds):
        seen.append((device, settings.compile, settings.amp, settings.max_gpu_memory_gb))
        return Throughput(2.0, 100.0 if settings.amp else 170.0)

    monkeypatch.setattr(training, "training_throughput", throughput)
    monkeypatch.setattr(training, "published_throughput", throughput)
    rows = script.measure("training", 0.1, None, torch.device(device))
    assert [row.method for row in rows] == loops
    whole = {"published loop, float32": (False, 0.0)}  # no cap, or the memory that it takes would end it
    assert seen == [(device, loop == "compiled", *whole.get(loop, (True, 8.0))) for loop in loops]
    peaks = {row.method: row.value for row in to_results(rows, "cpu") if row.metric == "peak_memory"}
    assert peaks == {loop: 170.0 if loop in whole else 100.0 for loop in loops}


def test_a_fit_that_would_leave_the_gpu_is_not_measured(monkeypatch):
    monkeypatch.setattr(pipeline, "raster_device", lambda setting: torch.device("cpu"))  # no CUDA rasteriser
    (row,) = script.measure("fit", 0.1, None, torch.device("cuda"))
    assert row.seconds is None and "no rasteriser for cuda" in row.note


def test_what_runs_on_the_cpu_alone_is_refused_for_a_gpu(monkeypatch, capsys):
    monkeypatch.setattr(devices, "compute_device", lambda setting: torch.device("cuda"))
    monkeypatch.setattr(sys, "argv", ["90_benchmark.py", "--only", "inference", "raster"])
    with pytest.raises(SystemExit):
        script.run()
    assert "--only raster: it runs on the CPU" in capsys.readouterr().err
    assert not set(script.CPU_ONLY) & set(script.GROUPS["cuda"])
