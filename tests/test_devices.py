import warnings
from types import SimpleNamespace

import pytest
import torch

from splathead import devices
from splathead.raster import gsplat, inria


@pytest.fixture(autouse=True)
def fresh_cache():
    devices._cuda_backend_usable.cache_clear()
    yield
    devices._cuda_backend_usable.cache_clear()


def test_cpu_machine(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices.compute_device("auto").type == devices.raster_device("auto").type == "cpu"
    with pytest.raises(RuntimeError, match="torch sees no CUDA device"):
        devices.compute_device("cuda")


def test_gpu_without_nvcc_renders_on_the_cpu_and_says_so_once(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gsplat, "unavailable_reason", lambda: "nvcc is not on the PATH; install the CUDA toolkit")
    monkeypatch.setattr(inria, "unavailable_reason", lambda: "not installed")
    with pytest.warns(UserWarning, match="install the CUDA toolkit"):
        assert devices.raster_device("auto").type == "cpu"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert devices.raster_device("auto").type == "cpu"
    assert devices.compute_device("auto").type == "cuda"


def test_gpu_with_a_cuda_rasteriser(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gsplat, "unavailable_reason", lambda: None)
    assert devices.raster_device("auto").type == "cuda"
    assert devices.raster_device("auto", "cpu").type == "cpu"
    assert devices.raster_device("cpu").type == "cpu"


@pytest.mark.parametrize(
    ("gpus", "gib", "jobs", "processes"),
    [(0, 0, 16, 16), (1, 8, 16, 4), (1, 8, 1, 1), (1, 1, 16, 1), (4, 139, 48, 48), (4, 8, 48, 16)],
)
def test_networks_run_in_as_many_processes_as_gpu_memory_holds(monkeypatch, gpus, gib, jobs, processes):
    monkeypatch.setattr(devices, "gpu_count", lambda setting: gpus)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(total_memory=gib * 2**30))
    assert devices.network_jobs("auto", jobs) == processes
