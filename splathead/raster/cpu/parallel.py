"""Threads for kernels that share a work counter.

Kernels release the GIL and fetch items (tiles, blocks of Gaussians) from an atomic counter until none
is left; a plain Python thread pool runs one kernel call per thread. No result depends on which
thread took which item. Unlike numba's own threading layers this may be called from several threads
at once and survives fork() (a forked child starts a new pool).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import torch
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0


def _forget_pool() -> None:
    global _lock, _pool, _pool_size
    _lock, _pool, _pool_size = threading.Lock(), None, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def thread_count() -> int:
    """Threads to use: the smaller of numba's setting (NUMBA_NUM_THREADS, set_num_threads) and torch's."""
    try:
        numba.threading_layer()
    except ValueError:  # numba's layer was never started, hence its count never changed; do not start it
        numba_threads = numba.config.NUMBA_NUM_THREADS
    else:
        numba_threads = numba.get_num_threads()
    return max(1, min(numba_threads, torch.get_num_threads()))


def _executor(size: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    with _lock:
        if _pool is None or _pool_size < size:
            _pool, _pool_size = ThreadPoolExecutor(size, thread_name_prefix="raster"), size
        return _pool


def run_shared(kernel: Callable, items: int, *args) -> None:
    """Call ``kernel(counter, items, *args)`` on every thread; the kernel takes items with :func:`next_item`."""
    counter = np.zeros(1, np.int64)
    helpers = min(thread_count(), items) - 1
    if helpers <= 0:
        kernel(counter, items, *args)
        return
    pool = _executor(helpers)
    futures = [pool.submit(kernel, counter, items, *args) for _ in range(helpers)]
    kernel(counter, items, *args)
    for future in futures:
        future.result()


@intrinsic
def next_item(_context, counter):
    """Fetch and increment ``counter[0]`` (int64) atomically."""

    def emit(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.atomic_rmw("add", data, cgutils.intp_t(1), "monotonic")

    return types.int64(counter), emit
