"""Where training runs: device and processes, backend switches, compilation, memory caps and peaks."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from splathead.config import TrainConfig
from splathead.devices import compute_device
from splathead.models.interpolation import compiled
from splathead.training.data import Batch

if TYPE_CHECKING:
    from accelerate import Accelerator

RESIDENT_SHARE = 0.4
"""Share of ``max_gpu_memory_gb`` up to which the training data stays on the GPU"""
GIB = 2**30

log = logging.getLogger(__name__)


def create_accelerator(device: str) -> Accelerator:
    """Accelerate's handle on devices and processes for ``auto``, ``cpu`` or ``cuda``."""
    from accelerate import Accelerator

    return Accelerator(cpu=compute_device(device).type == "cpu")


def resident_bytes(settings: TrainConfig) -> int:
    """Bytes of training data that may stay on the GPU; more stays in pinned host memory."""
    return int(RESIDENT_SHARE * settings.max_gpu_memory_gb * GIB)


@contextlib.contextmanager
def training_backend(settings: TrainConfig, device: torch.device) -> Iterator[None]:
    """Set torch's global switches for one training, and put them back afterwards.

    cuDNN chooses its fastest algorithms, or with ``deterministic`` only those that repeat to the bit; torch's
    allocator is capped at ``max_gpu_memory_gb``. Beside a GPU torch gets one thread of the CPU: what is left to the CPU are
    small copies, for which one is the fastest, and on a machine that is busy every further one is waited for.
    """
    benchmark, strict = torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled()
    torch.backends.cudnn.benchmark = not settings.deterministic
    if settings.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        # warn only: 2x2 max pooling is listed as varying, but its windows do not overlap, so nothing is summed in varying order
        torch.use_deterministic_algorithms(True, warn_only=True)
    fraction, threads = 1.0, torch.get_num_threads()
    if device.type == "cuda":
        torch.set_num_threads(1)
        # the allocator's functions want the index that a plain "cuda" leaves out
        device = torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
        total = torch.cuda.get_device_properties(device).total_memory
        fraction = min(1.0, settings.max_gpu_memory_gb * GIB / total) if settings.max_gpu_memory_gb else 1.0
        torch.cuda.set_per_process_memory_fraction(fraction, device)
        torch.cuda.empty_cache()  # an earlier training's blocks are not this one's
        torch.cuda.reset_peak_memory_stats(device)
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = benchmark
        torch.use_deterministic_algorithms(strict)
        torch.set_num_threads(threads)
        if fraction < 1.0:
            torch.cuda.set_per_process_memory_fraction(1.0, device)


def maybe_compile(function: Callable, settings: TrainConfig, device: torch.device) -> Callable:
    """``torch.compile(function)`` where the settings ask for it and the machine can; else ``function`` and one warning."""
    if not settings.compile or device.type != "cuda":
        return function
    missing = []
    try:
        import triton  # noqa: F401
    except ImportError:
        missing.append("the package triton")
    if not (os.environ.get("CC") or any(map(shutil.which, ("cc", "gcc", "clang")))):
        missing.append("a C compiler (apt install gcc)")
    if missing:
        log.warning("train.compile needs %s: training without torch.compile", " and ".join(missing))
        return function
    return compiled(function)


@dataclass(frozen=True)
class InferenceCost:
    """Cost of one map."""

    seconds: float
    """median of several runs after a warm-up"""
    peak_mib: float
    """on a GPU weights, inputs and what the network allocates at most; else resident of the process"""


@torch.no_grad()
def inference_cost(network: torch.nn.Module, batch: Batch, amp: bool, runs: int = 10) -> InferenceCost:
    """Time and memory of super-resolving one frame; fp16 autocast on a GPU where ``amp``, as in training."""
    device = batch.lr_depth01.device
    inputs = (batch.lr_depth01,) if batch.guides is None else (batch.lr_depth01, batch.guides)
    network.eval()
    own = sum(t.nbytes for t in (*network.parameters(), *network.buffers(), *inputs))
    if device.type == "cuda":  # training data and the optimiser's moments are there, too: only what is added counts
        torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device)
    else:
        runs = 1
    seconds = []
    for _ in range(runs + 3 * (device.type == "cuda")):
        started = time.perf_counter()
        with torch.autocast(device.type, torch.float16, enabled=amp and device.type == "cuda"):
            network(*inputs)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    peak = (torch.cuda.max_memory_allocated(device) - held + own) / 2**20 if device.type == "cuda" else peak_memory_mib(device)
    return InferenceCost(statistics.median(seconds[-runs:]), peak)


def peak_memory_mib(device: torch.device) -> float:
    """Peak memory in MiB: reserved by torch on a GPU, resident of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
