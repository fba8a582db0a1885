import warnings
from types import SimpleNamespace

import pytest
import torch
from analytic_surfaces import ellipsoid_depth

from splathead import devices
from splathead.cameras import orbit_camera
from splathead.enhance import EnhanceOptions, enhance
from splathead.enhance.device_choice import Devices
from splathead.images import DepthEncoding, write_png
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


@pytest.fixture
def gpu_without_nvcc(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gsplat, "unavailable_reason", lambda: "nvcc is not on the PATH; install the CUDA toolkit")
    monkeypatch.setattr(inria, "unavailable_reason", lambda: "not installed")


def test_gpu_without_nvcc_renders_on_the_cpu_and_says_so_once(gpu_without_nvcc):
    with pytest.warns(UserWarning, match="install the CUDA toolkit"):
        assert devices.raster_device("auto").type == "cpu"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert devices.raster_device("auto").type == "cpu"
    assert devices.compute_device("auto").type == "cuda"


def test_a_depth_map_on_a_gpu_without_nvcc_needs_no_rasteriser(gpu_without_nvcc, tmp_path):
    camera = orbit_camera(0.0, 0.0, 64)
    truth = ellipsoid_depth(camera)
    encoding = DepthEncoding.from_depth(truth, truth > 0, 8, "mm")
    write_png(tmp_path / "depth.png", encoding.encode(truth, truth > 0))
    options = EnhanceOptions(resolution=64, faces=3000, jobs=1, near=encoding.near, far=encoding.far, hfov=camera.hfov_deg)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "a GPU is here")
        record = enhance(tmp_path / "depth.png", tmp_path / "out", options)
    assert record["kind"] == "depth" and record["devices"] == {}
    with pytest.warns(UserWarning, match="install the CUDA toolkit"):
        assert Devices.of(options, "splats").raster.type == "cpu"


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


def test_processes_that_take_turns_on_a_gpu_are_told_of_a_better_way(monkeypatch, tmp_path):
    monkeypatch.setattr(devices, "MPS_FOLDER", str(tmp_path))
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    monkeypatch.setattr(devices, "gpu_count", lambda setting: 0 if setting == "cpu" else 2)
    assert "8 processes" in devices.mps_advice("auto", 8) and "nvidia-cuda-mps-control -d" in devices.mps_advice("auto", 8)
    assert devices.mps_advice("auto", 2) == devices.mps_advice("cpu", 8) == ""
    (tmp_path / "control").touch()
    assert devices.mps_advice("auto", 8) == ""
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path / "elsewhere"))
    assert devices.mps_advice("auto", 8)
