"""Which GPU a worker process uses, where several share the machine's. Without torch: it must come before CUDA starts."""

from __future__ import annotations

import os


def visible_gpu(index: int) -> str:
    """What $CUDA_VISIBLE_DEVICES of a process must say to use this process's GPU number ``index``."""
    mine = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return mine.split(",")[index] if mine else str(index)


_gpu_taken = False


def take_gpu(visible: str) -> None:
    """Use one GPU (of :func:`visible_gpu`) in this process; only the first call counts, as CUDA looks once, when it starts."""
    global _gpu_taken
    if not _gpu_taken:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible
        _gpu_taken = True
