"""Distance from the GPU memory cap, with a GPU that is made up: what is moved, what is said, what the log holds."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from splathead.config import TrainConfig
from splathead.training.memory import MemoryWatch
from splathead.training.state import write_log

GIB = 2**30


class Data(SimpleNamespace):
    """Stands for a PairSet on a GPU."""

    def move_to_host(self) -> None:
        self.on_device = False


@pytest.fixture
def gpu(monkeypatch):
    state = {"peak": 0, "retries": 5}  # retries of trainings before this one
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: state["peak"])
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda device: {"num_alloc_retries": state["retries"]})
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: state.update(peak=0))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    return state


def watched(cap: float = 8.0) -> tuple[MemoryWatch, list[Data]]:
    data = [Data(on_device=True, device=torch.device("cuda"), nbytes=2 * GIB) for _ in range(2)]
    return MemoryWatch(TrainConfig(max_gpu_memory_gb=cap), torch.device("cuda"), data), data


def test_data_move_when_a_step_comes_too_close_to_the_cap(gpu, caplog):
    watch, data = watched()
    gpu["peak"] = 8 * GIB  # cuDNN's trials in the first step
    watch.settle()
    watch.keep_headroom()
    assert all(pairs.on_device for pairs in data) and not caplog.records
    gpu["peak"] = int(7.1 * GIB)
    watch.keep_headroom()
    assert all(pairs.on_device for pairs in data)
    gpu["peak"] = int(7.3 * GIB)
    watch.keep_headroom()
    assert not any(pairs.on_device for pairs in data)
    assert "7.30 GiB of max_gpu_memory_gb 8: the training data (4.00 GiB) moves to pinned host memory" in caplog.text
    watch.keep_headroom()
    assert "lower train.batch_size or train.crop" in caplog.text  # nothing is left to move


def test_no_cap_no_headroom(gpu, caplog):
    watch, data = watched(cap=0.0)
    gpu["peak"] = 70 * GIB
    watch.keep_headroom()
    assert data[0].on_device and not caplog.records


def test_retries_are_counted_by_epoch_and_many_of_them_are_said(gpu, caplog):
    watch, data = watched()
    gpu["retries"] += 40  # of the first step's trials
    watch.settle()
    gpu["retries"] += 3
    assert watch.end_epoch(100) == 3 and not caplog.records
    assert watch.end_epoch(100) == 0
    gpu["retries"] += 11
    assert watch.end_epoch(100) == 11
    assert "had to free and ask again 11 times in 100 steps" in caplog.text and not data[0].on_device


def test_on_a_cpu_there_is_nothing_to_watch():
    watch = MemoryWatch(TrainConfig(), torch.device("cpu"), [])
    watch.settle()
    watch.keep_headroom()
    assert watch.end_epoch(10) == 0 and watch.peak_gib() == 0


def test_a_log_begun_by_an_older_version_goes_on(tmp_path):
    write_log(tmp_path / "log.csv", [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": None, "alloc_retries": 7}])
    assert (tmp_path / "log.csv").read_text() == "epoch,loss,alloc_retries\n1,2.0,\n2,,7\n"
