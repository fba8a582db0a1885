import warnings

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
