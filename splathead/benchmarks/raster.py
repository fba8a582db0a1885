"""Speed of the CPU rasteriser: ours on one and two threads, Mitsuba 3's ellipsoids in the same process, compilation.

Scenes are random Gaussians on a head-sized ellipsoid seen from FaceLift's distance: ``head`` (the rig's
field of view, 11 % of the frame covered) and ``portrait`` (zoomed by 2, 44 %).
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from splathead.cameras import RIG_HFOV_DEG, RIG_RADIUS_UNITS, Camera, focal_from_fov
from splathead.gaussians import SH_C0, Gaussians
from splathead.raster import RasterSettings, rasterize

ZOOM = {"head": 1.0, "portrait": 2.0}
WORKLOADS = (("head", 20_000, 256), ("portrait", 20_000, 256), ("head", 100_000, 1024), ("portrait", 100_000, 1024))
"""Scene, Gaussians, image side in pixels."""


@dataclass(frozen=True)
class SpeedRow:
    """One measurement; ``seconds`` is None where it could not be made, and ``note`` says why."""

    workload: str
    method: str
    phase: str
    seconds: float | None
    ratio: float | None = None
    """how many times faster than ``ratio_to``"""
    ratio_to: str = ""
    note: str = ""
    peak_mib: float | None = None
    """most memory that it took at a time, where that was measured"""


def head_scene(scene: str, count: int, size: int, seed: int = 0) -> tuple[Gaussians, Camera]:
    """``count`` Gaussians of about constant total area on an ellipsoid, and a square camera of ``size`` px."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(count, 3))
    points *= np.array([0.35, 0.5, 0.4]) / np.linalg.norm(points, axis=1, keepdims=True)
    points[:, 2] += RIG_RADIUS_UNITS
    scales = 1.5 / math.sqrt(count) * np.exp(0.3 * rng.normal(size=(count, 1)) + 0.4 * rng.normal(size=(count, 3)))
    opacities = rng.uniform(0.05, 0.95, count)
    arrays = (
        points, np.log(scales), rng.normal(size=(count, 4)), np.log(opacities / (1 - opacities)),
        (rng.uniform(size=(count, 1, 3)) - 0.5) / SH_C0,
    )  # fmt: skip
    focal = ZOOM[scene] * focal_from_fov(size, RIG_HFOV_DEG)
    camera = Camera(size, size, focal, focal, size / 2, size / 2, np.eye(4), scene)
    return Gaussians(*(torch.from_numpy(a.astype(np.float32)) for a in arrays)), camera


def best_seconds(function: Callable[[], object], budget: float) -> float:
    """Shortest of the runs that fit into ``budget`` seconds (at least two, after one to warm up)."""
    function()
    times: list[float] = []
    while len(times) < 2 or sum(times) < budget:
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return min(times)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def rasterizer_seconds(gaussians: Gaussians, camera: Camera, *, threads: int, budget: float = 2.0) -> tuple[float, float]:
    """Seconds of (forward, forward + backward): colour, z and alpha; gradients of every parameter."""
    colours = gaussians.colours(torch.zeros(3))
    features = torch.cat([colours, gaussians.means[:, 2:]], dim=1).requires_grad_()
    names = ("means", "log_scales", "quaternions", "opacity_logits")
    leaves = [getattr(gaussians, name).detach().requires_grad_() for name in names]
    scene = Gaussians(*leaves, gaussians.sh)
    gradients = (torch.randn(4, camera.height, camera.width), torch.randn(camera.height, camera.width))

    def forward():
        return rasterize(scene, features, camera, RasterSettings(), "cpu")

    def forward_backward():
        raster = forward()
        torch.autograd.grad((raster.features, raster.alpha), (*leaves, features), gradients)

    with _threads(threads):
        return best_seconds(forward, budget), best_seconds(forward_backward, budget)


def mitsuba_unavailable() -> str | None:
    """None where Mitsuba 3 with its LLVM backend works, else the reason."""
    if importlib.util.find_spec("mitsuba") is None:
        return "mitsuba is not installed"
    try:
        mi = importlib.import_module("mitsuba")
        mi.set_variant("llvm_ad_rgb")
        mi.Float(1.0) + mi.Float(2.0)
    except (ImportError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        return f"mitsuba's LLVM backend does not start (DRJIT_LIBLLVM_PATH names a libLLVM of version 16 or later): {reason}"
    return None


def mitsuba_seconds(gaussians: Gaussians, camera: Camera, *, budget: float = 2.0) -> tuple[float, float]:
    """Seconds of Mitsuba 3's (forward, forward + backward): the same Gaussians as ``ellipsoids``, one sample per pixel.

    It computes colours only, and its geometry gradients stop at scales and quaternions (not raw ones),
    so the comparison favours it. Uses every core.
    """
    mi, dr = importlib.import_module("mitsuba"), importlib.import_module("drjit")
    scene = mi.load_dict(_mitsuba_scene(mi, gaussians, camera))
    params = mi.traverse(scene)
    learned = [key for key in params.keys() if key.split(".")[-1] in ("data", "opacities", "sh_coeffs")]  # noqa: SIM118
    if len(learned) != 3:
        raise RuntimeError(f"mitsuba's ellipsoids expose {sorted(params.keys())}, expected data, opacities and sh_coeffs")

    def forward():
        dr.eval(mi.render(scene, spp=1))
        dr.sync_thread()

    def forward_backward():
        for key in learned:
            dr.enable_grad(params[key])
        dr.backward(dr.mean(mi.render(scene, params, spp=1)))
        dr.eval([dr.grad(params[key]) for key in learned])
        dr.sync_thread()
        for key in learned:
            dr.disable_grad(params[key])

    return best_seconds(forward, budget), best_seconds(forward_backward, budget)


def _mitsuba_scene(mi, gaussians: Gaussians, camera: Camera) -> dict:
    # Mitsuba's cameras look along +z with x to the left, its quaternions end with w.
    to_world = mi.ScalarTransform4f(np.linalg.inv(camera.world_to_cam) @ np.diag([-1.0, -1.0, 1.0, 1.0]))
    quaternions = torch.nn.functional.normalize(gaussians.quaternions, dim=1)[:, [1, 2, 3, 0]]
    film = {
        "type": "hdrfilm", "width": camera.width, "height": camera.height, "rfilter": {"type": "box"},
        "pixel_format": "rgb", "component_format": "float32",
    }  # fmt: skip
    primitives = {
        "type": "ellipsoids",
        "centers": mi.TensorXf(gaussians.means.numpy()),
        "scales": mi.TensorXf(gaussians.scales.numpy()),
        "quaternions": mi.TensorXf(quaternions.contiguous().numpy()),
        "opacities": mi.TensorXf(gaussians.opacities[:, None].contiguous().numpy()),
        "sh_coeffs": mi.TensorXf(gaussians.sh[:, 0].contiguous().numpy()),
    }
    return {
        "type": "scene",
        "integrator": {"type": "volprim_rf_basic", "max_depth": 128, "srgb_primitives": False},
        "sensor": {"type": "perspective", "fov": camera.hfov_deg, "fov_axis": "x", "to_world": to_world, "film": film},
        "primitives": primitives,
    }


def raster_rows(budget: float = 2.0, workloads=WORKLOADS, peers: bool = True) -> list[SpeedRow]:
    """Every workload on one and two threads, and Mitsuba where it is installed."""
    unavailable = mitsuba_unavailable() if peers else "peers not asked for"
    rows = []
    for scene, count, size in workloads:
        name = f"{scene} {count // 1000}k@{size}"
        gaussians, camera = head_scene(scene, count, size)
        one = rasterizer_seconds(gaussians, camera, threads=1, budget=budget)
        two = rasterizer_seconds(gaussians, camera, threads=2, budget=budget)
        peer = (None, None) if unavailable else mitsuba_seconds(gaussians, camera, budget=budget)
        for phase, single, double, other in zip(("forward", "forward+backward"), one, two, peer, strict=True):
            rows.append(SpeedRow(name, "cpu, 1 thread", phase, single))
            rows.append(SpeedRow(name, "cpu, 2 threads", phase, double, single / double, "cpu, 1 thread"))
            rows.append(SpeedRow(name, "mitsuba", phase, other, note=unavailable or ""))
            if other is not None:
                rows.append(SpeedRow(name, "cpu, 2 threads", phase, double, other / double, "mitsuba"))
    return rows


_START = """
import time
import torch
started = time.perf_counter()
from splathead.benchmarks.raster import exercise_kernels
exercise_kernels()
first = time.perf_counter() - started
started = time.perf_counter()
exercise_kernels()
print(first - (time.perf_counter() - started))
"""


def exercise_kernels() -> None:
    """What a fit and a map rendering use: forward and backward with 4 and with 8 features, median depth."""
    from splathead.raster import OUTPUTS, render

    gaussians, camera = head_scene("head", 500, 64)
    gaussians.means.requires_grad_()
    for outputs in (("rgb", "depth"), OUTPUTS):
        maps = render(gaussians, camera, outputs=outputs, backend="cpu")
        maps.rgb.sum().backward()


def compile_rows() -> list[SpeedRow]:
    """Seconds that the first use costs, beyond the work itself: with an empty cache, and in the next process."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
        root = Path(__file__).parents[2]

        def start() -> float:
            command = [sys.executable, "-c", _START]
            result = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=True)
            return float(result.stdout.split()[-1])

        cold, warm = start(), min(start(), start())
    return [SpeedRow("start", "cpu", "cold compile", cold), SpeedRow("start", "cpu", "warm start", warm)]
