"""How the CPU kernels run: reproducible, safe between calls, threads and processes, compiled once."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numba
import numpy as np
import pytest
import torch
from raster_scenes import PARAMETERS, camera, leaves, random_gaussians

from splathead.gaussians import Gaussians
from splathead.raster import RasterSettings, rasterize, render
from splathead.raster.cpu import jit, parallel, simd

VIEW = camera(100, 70)


@contextmanager
def torch_threads(count: int):
    """Limit torch, and with it the rasteriser, to ``count`` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def scene(seed: int = 0) -> tuple[Gaussians, torch.Tensor]:
    """Enough Gaussians and tiles that every thread gets some of each."""
    gaussians = leaves(random_gaussians(4000, scale=(1.0, 6.0), seed=seed), torch.float32)
    return gaussians, torch.rand(4000, 4, generator=torch.Generator().manual_seed(seed))


def outputs_and_gradients(seed: int = 0) -> list[torch.Tensor]:
    """One forward and backward pass."""
    gaussians, features = scene(seed)
    raster = rasterize(gaussians, features, VIEW, RasterSettings(), "cpu")
    weights = torch.randn(raster.features.shape, generator=torch.Generator().manual_seed(5))
    ((raster.features * weights).sum() + raster.alpha.square().sum()).backward()
    return [raster.features.detach(), raster.alpha.detach(), *(getattr(gaussians, name).grad for name in PARAMETERS)]


def identical(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def test_bitwise_the_same_across_runs_and_thread_counts():
    with torch_threads(1):
        single = outputs_and_gradients()
    assert single[0].any() and single[2].any()
    for count in (1, 2, 3):
        with torch_threads(count):
            assert identical(outputs_and_gradients(), single), f"{count} threads"


def test_a_second_forward_does_not_disturb_a_pending_backward():
    expected = outputs_and_gradients()[2:]
    gaussians, features = scene()
    raster = rasterize(gaussians, features, VIEW, RasterSettings(), "cpu")
    weights = torch.randn(raster.features.shape, generator=torch.Generator().manual_seed(5))
    loss = (raster.features * weights).sum() + raster.alpha.square().sum()
    raster.features.detach().zero_()  # outputs are the caller's own
    outputs_and_gradients(seed=1)
    loss.backward(retain_graph=True)
    first = [getattr(gaussians, name).grad.clone() for name in PARAMETERS]
    assert identical(first, expected)
    loss.backward()
    assert identical([getattr(gaussians, name).grad for name in PARAMETERS], [2 * g for g in first])


def test_overwriting_a_parameter_before_backward_is_an_error():
    gaussians, features = scene()
    loss = rasterize(gaussians, features, VIEW, RasterSettings(), "cpu").features.sum()
    with torch.no_grad():
        gaussians.means.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_colours_do_not_depend_on_whether_depth_is_wanted():
    """Without it the mean distance, for which a GPU would be waited for, is not worked out."""
    gaussians = random_gaussians(200)
    alone, beside = (render(gaussians, VIEW, outputs=outputs) for outputs in (("rgb",), ("rgb", "depth", "depth_variance")))
    assert torch.equal(alone.rgb, beside.rgb) and torch.equal(alone.alpha, beside.alpha) and beside.depth.max() > 0


def test_concurrent_calls_from_several_threads():
    expected = {seed: outputs_and_gradients(seed) for seed in range(3)}
    with ThreadPoolExecutor(3) as pool:
        for seed, result in zip([0, 1, 2] * 3, pool.map(outputs_and_gradients, [0, 1, 2] * 3), strict=True):
            assert identical(result, expected[seed])


def _checksum(queue) -> None:
    queue.put([float(t.double().sum()) for t in outputs_and_gradients()])


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this platform")
def test_forked_child_renders_the_same():
    with torch_threads(2):
        expected = [float(t.double().sum()) for t in outputs_and_gradients()]  # the parent's pool exists by now
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        child = context.Process(target=_checksum, args=(queue,))
        child.start()
        result = queue.get(timeout=60)
        child.join(timeout=60)
    assert child.exitcode == 0
    assert result == pytest.approx(expected, rel=1e-6)


def test_memory_is_linear_in_gaussians_and_pixels():
    def peak_bytes(count: int, size: int) -> int:
        gaussians, features = leaves(random_gaussians(count, scale=(0.5, 1.0)), torch.float32), torch.rand(count, 4)
        view = camera(size, size)
        tracemalloc.start()  # sees numpy's arrays: all of the rasteriser's but its images and parameter gradients
        rasterize(gaussians, features, view, RasterSettings(), "cpu").features.sum().backward()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    base = peak_bytes(4000, 128)
    assert base < 4000 * 400 + 128 * 128 * 16 + 500_000
    assert peak_bytes(8000, 128) < 2.3 * base
    assert peak_bytes(4000, 256) < 4.3 * base


def test_thread_count_follows_torch_and_numba(monkeypatch):
    def never_started():
        raise ValueError

    monkeypatch.setattr(numba, "threading_layer", never_started)
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 2)
    with torch_threads(3):
        assert parallel.thread_count() == 2
    with torch_threads(1):
        assert parallel.thread_count() == 1
    monkeypatch.setattr(numba, "threading_layer", lambda: "workqueue")
    monkeypatch.setattr(numba, "get_num_threads", lambda: 1)
    with torch_threads(2):
        assert parallel.thread_count() == 1


def test_cache_folder_prefers_the_environment_and_depends_on_the_sources(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    folder = jit.find_cache_root()
    assert folder.parent == tmp_path / "xdg" / "splathead" and folder.is_dir()
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "numba"))
    assert jit.find_cache_root() == tmp_path / "numba" / "splathead" / folder.name
    monkeypatch.setattr(numba.config, "CPU_NAME", "x86-64")
    assert jit.find_cache_root().name != folder.name
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "file"))
    assert jit.find_cache_root() is None


RENDER_ONCE = """
import sys
sys.path.insert(0, {tests!r})
from test_raster_runtime import outputs_and_gradients
print("sum", float(outputs_and_gradients()[0].double().sum()))
"""


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code.format(tests=os.path.dirname(__file__))],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip


@pytest.mark.slow
def test_compiles_once_for_the_plainest_cpu_and_says_so(tmp_path):
    """No AVX, no FMA: the same pictures; the second process finds the kernels on disk."""
    environment = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    cold = run_python(RENDER_ONCE, **environment)
    assert cold.stderr.count("compiling the CPU rasteriser, once") == 1
    warm = run_python(RENDER_ONCE, **environment)
    assert "compiling" not in warm.stderr
    assert cold.stdout == warm.stdout
    here = float(outputs_and_gradients()[0].double().sum())
    assert float(cold.stdout.split()[1]) == pytest.approx(here, rel=1e-4)


# ---- the vector type


@numba.njit
def _exp2(x, out):
    for i in range(0, x.shape[0], 16):
        simd.store(out, i, simd.exp2(simd.load(x, i)))


@numba.njit
def _vector_tour(values, out):
    a, b = simd.load(values, 0), simd.load(values, 16)
    simd.store(out, 0, simd.sum_lanes_each((a, b, a * b)))
    simd.store(out, 16, simd.select((a < b) & (a >= np.float32(0.0)), a - b, a / b))
    simd.store(out, 32, simd.load_rows(values, 1, 8))
    simd.store_rows(out, 48, 4, simd.maximum(a, simd.minimum(b, np.float32(0.25))))
    return simd.any_lane(a > np.float32(3.0)), simd.any_lane(a > np.float32(-3.0))


def test_exp2_is_accurate_over_the_range_of_floats():
    x = np.linspace(-126, 126, 16 * 4000, dtype=np.float32)
    out = np.empty_like(x)
    _exp2(x, out)
    assert np.abs(out / np.exp2(x.astype(np.float64)) - 1).max() < 5e-7


def test_vector_operations_match_numpy():
    values = np.random.default_rng(0).uniform(-1, 1, 64).astype(np.float32)
    out = np.empty(64, np.float32)
    flags = _vector_tour(values, out)
    a, b = values[:16], values[16:32]
    assert flags == (False, True)
    np.testing.assert_allclose(out[:3], [a.sum(), b.sum(), (a * b).sum()], rtol=1e-5, atol=1e-6)
    assert not out[3:16].any()
    np.testing.assert_allclose(out[16:32], np.where((a < b) & (a >= 0), a - b, a / b), rtol=1e-6)
    np.testing.assert_array_equal(out[32:48].reshape(4, 4), values[1:33].reshape(4, 8)[:, :4])
    np.testing.assert_array_equal(out[48:64], np.maximum(a, np.minimum(b, np.float32(0.25))))
