"""How far a training stays from its GPU memory cap, and what it gives up to stay clear of it.

At the cap torch's allocator still finds memory, but only by giving back blocks that it kept and asking the driver for them
again, which waits for the GPU each time: nothing fails, a step just takes many times as long. So the training data moves to
host memory when a step's peak leaves less than ``HEADROOM_SHARE`` of the cap, and retries are counted in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch

from splathead.config import TrainConfig
from splathead.training.data import PairSet

HEADROOM_SHARE = 0.1
"""Of ``max_gpu_memory_gb``, which a step's peak with the data on the GPU leaves free"""
RETRY_SHARE = 0.1
"""Retries of the allocator for each step of an epoch above which it says so"""
GIB = 2**30

log = logging.getLogger(__name__)


class MemoryWatch:
    """Watches one training on ``device``, whose ``data`` may lie there. On a CPU there is nothing to watch."""

    def __init__(self, settings: TrainConfig, device: torch.device, data: Sequence[PairSet]) -> None:
        self.cap_gib, self.device, self.data = settings.max_gpu_memory_gb, device, data
        self._retries_seen = self._retries()

    def settle(self) -> None:
        """After the first step: forget the workspaces that cuDNN tried, up to all that is free, to find its fastest."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
            self._retries_seen = self._retries()

    def keep_headroom(self) -> None:
        """After some more steps: move the data off the GPU when their peak comes too close to the cap."""
        peak = self.peak_gib()
        if self.cap_gib and peak > (1 - HEADROOM_SHARE) * self.cap_gib:
            self._make_room(f"training steps take {peak:.2f} GiB of max_gpu_memory_gb {self.cap_gib:g}")

    def end_epoch(self, steps: int) -> int:
        """Retries of the allocator since the last call; many of them in an epoch of ``steps`` make a warning, and room."""
        now = self._retries()
        retries, self._retries_seen = now - self._retries_seen, now
        if retries > RETRY_SHARE * steps:
            what = f"torch's allocator had to free and ask again {retries} times in {steps} steps, each waits for the GPU"
            self._make_room(f"{what} (max_gpu_memory_gb {self.cap_gib:g})")
        return retries

    def peak_gib(self) -> float:
        """Most that tensors took at a time since :meth:`settle`."""
        return torch.cuda.max_memory_allocated(self.device) / GIB if self.device.type == "cuda" else 0.0

    def _retries(self) -> int:
        return torch.cuda.memory_stats(self.device).get("num_alloc_retries", 0) if self.device.type == "cuda" else 0

    def _make_room(self, why: str) -> None:
        resident = [pairs for pairs in self.data if pairs.on_device and pairs.device.type == "cuda"]
        if not resident:
            log.warning("%s; lower train.batch_size or train.crop, or raise max_gpu_memory_gb", why)
            return
        freed = sum(pairs.nbytes for pairs in resident) / GIB
        log.warning("%s: the training data (%.2f GiB) moves to pinned host memory", why, freed)
        for pairs in resident:
            pairs.move_to_host()
        torch.cuda.empty_cache()
