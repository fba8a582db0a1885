"""Keep freed memory in the process while fitting."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h
_MIB = 2**20


def keep_freed_memory() -> None:
    """Ask glibc's allocator to reuse freed blocks instead of returning them to the system. No effect elsewhere.

    A step allocates and frees a few MiB of images. By default glibc unmaps them every time, and touching
    fresh pages takes a third of the step (1,250 page faults of 256x256 images' 16 ms). At most 512 MiB are kept.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library (macOS, musl, Windows)
        return
    mallopt(_M_MMAP_THRESHOLD, 32 * _MIB)
    mallopt(_M_TRIM_THRESHOLD, 512 * _MIB)
    mallopt(_M_TOP_PAD, 64 * _MIB)
