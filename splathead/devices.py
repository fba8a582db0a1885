"""Which device does what: networks train on the GPU there is; rendering needs a CUDA rasteriser as well."""

from __future__ import annotations

import functools
import os
import warnings
from pathlib import Path

import torch


def compute_device(setting: str = "auto") -> torch.device:
    """Device for networks: ``auto`` takes CUDA when torch sees it; asking for a missing one is an error."""
    if setting == "auto":
        setting = "cuda" if torch.cuda.is_available() else "cpu"
    if setting == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("device cuda: torch sees no CUDA device; use device auto or cpu, or install a CUDA build of torch")
    return torch.device(setting)


def device_text(device: torch.device) -> str:
    """A device as records name it: cpu, or cuda with the name of the GPU."""
    return "cpu" if device.type == "cpu" else f"{device.type} ({torch.cuda.get_device_name(device)})"


def gpu_count(setting: str = "auto") -> int:
    """Number of GPUs that a device setting may use; 0 on a CPU."""
    return torch.cuda.device_count() if setting != "cpu" and torch.cuda.is_available() else 0


JOBS_PER_GPU = 8
"""Processes that fit or render on one GPU at a time, at most: a single one leaves it waiting for kernel launches"""


def gpu_jobs(setting: str, jobs: int) -> int:
    """Processes for work on the GPUs there are, at most ``jobs``; ``jobs`` on a CPU."""
    gpus = gpu_count(setting)
    return min(jobs, JOBS_PER_GPU * gpus) if gpus else jobs


MPS_FOLDER = "/tmp/nvidia-mps"
"""Where NVIDIA's multi-process service is spoken to, unless $CUDA_MPS_PIPE_DIRECTORY says otherwise"""


def mps_advice(setting: str, jobs: int) -> str:
    """What to do where ``jobs`` processes share the GPUs and would take turns on them, which costs time (eval/LOG.md,
    2026-11-29); empty where nothing is to be done."""
    if not 0 < gpu_count(setting) < jobs:
        return ""
    if Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", MPS_FOLDER), "control").exists():
        return ""
    service = "NVIDIA's multi-process service (nvidia-cuda-mps-control -d)"
    return f"{jobs} processes take turns on the GPU, which is slower than sharing it under {service}"


WORKER_GPU_BYTES = 2 * 2**30
"""GPU memory that one process that applies networks may need: its context, the networks, a UNet's maps at 1024"""


def network_jobs(setting: str, jobs: int) -> int:
    """Processes that apply networks, at most ``jobs``: most of their time is the CPU's (maps are read, scored, written), so a
    GPU takes as many as fit its memory. ``jobs`` on a CPU."""
    gpus = gpu_count(setting)
    if not gpus:
        return jobs
    return min(jobs, gpus * networks_in_memory(torch.device("cuda", 0)))


def networks_in_memory(gpu: torch.device) -> int:
    """Networks that can be applied at a time on a GPU, as far as its memory goes."""
    return max(1, torch.cuda.get_device_properties(gpu).total_memory // WORKER_GPU_BYTES)


def raster_device(setting: str = "auto", backend: str = "auto") -> torch.device:
    """Device for rendering with ``backend``: CUDA only where a CUDA rasteriser can run.

    On a machine with a GPU but no usable CUDA rasteriser (gsplat without nvcc, say) ``auto`` stays on the
    CPU, and one warning says why and what to install.
    """
    device = compute_device(setting)
    if device.type == "cpu" or backend in ("cpu", "reference"):
        return torch.device("cpu")
    if backend in ("gsplat", "inria"):
        return device  # a named backend that cannot run is refused, with its remedy, where it is used
    if _cuda_backend_usable():
        return device
    return torch.device("cpu")


@functools.cache
def _cuda_backend_usable() -> bool:
    from splathead.raster import available_backends

    reasons = {name: reason for name, reason in available_backends().items() if name in ("gsplat", "inria")}
    if None in reasons.values():
        return True
    why = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    warnings.warn(f"a GPU is here, but rendering stays on the CPU ({why}). Training uses the GPU.", stacklevel=3)
    return False
