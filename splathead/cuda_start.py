"""The start of the CUDA driver, which takes a second or more, beside the imports."""

from __future__ import annotations

import ctypes
import os
import threading


def begin_cuda() -> None:
    """Begin to start the driver and a context on the first GPU, which torch then finds there.

    Nothing happens without a driver: who asks torch for a GPU is told so.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return
    os.environ.setdefault("CUDA_MODULE_LOADING", "LAZY")  # as torch sets it; the driver reads it when it starts
    threading.Thread(target=_start, args=(driver,), name="start CUDA").start()


def _start(driver: ctypes.CDLL) -> None:
    # ctypes releases Python's lock during these calls; torch's own start does not
    device, context = ctypes.c_int(), ctypes.c_void_p()
    if driver.cuInit(0) == 0 and driver.cuDeviceGet(ctypes.byref(device), 0) == 0:
        driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
