"""How kernels are compiled: without the GIL, cached on disk, announced when it takes a while."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import llvmlite
import numba
from llvmlite.binding import get_host_cpu_name

COMPILE_SECONDS = 10
"""Rough time that the first ever use spends compiling, for the announcement."""

_OPTIONS = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
_ready: set[str] = set()

inline = numba.njit(error_model="numpy", forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
"""Decorator for functions that kernels call; merged into each caller."""


def find_cache_root() -> Path | None:
    """The user's cache folder for this version of the kernels, or None where nothing can be written.

    Numba's own index notices an edit of the file that a kernel stands in, but not of the modules
    that it imports: so the folder's name is a hash of the whole package. It is in the user's
    cache folder because the installed package may be read-only.
    """
    package = Path(__file__).parent
    digest = hashlib.sha256(str(package).encode())  # numba files kernels by path
    for source in sorted(package.rglob("*.py")):
        digest.update(source.read_bytes())
    cpu = (numba.config.CPU_NAME or get_host_cpu_name(), numba.config.CPU_FEATURES)
    digest.update(repr((numba.__version__, llvmlite.__version__, platform.python_version(), cpu)).encode())
    base = numba.config.CACHE_DIR or os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    root = Path(base) / "splathead" / f"kernels-{digest.hexdigest()[:16]}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=root).close()
    except OSError:
        return None
    return root


CACHE_ROOT = find_cache_root()


def kernel(function: Callable) -> Callable:
    """Compile ``function`` on its first call for each combination of argument types, or load it from disk."""
    if CACHE_ROOT is None:
        return numba.njit(**_OPTIONS)(function)
    previous = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(CACHE_ROOT)  # read while decorating only
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)
    finally:
        numba.config.CACHE_DIR = previous


@contextlib.contextmanager
def compiling(name: str) -> Iterator[None]:
    """Around the first use of the kernels called ``name``: one line on stderr per process if any must be compiled."""
    if name in _ready:
        yield
        return
    marker = CACHE_ROOT / f"{name}.ready" if CACHE_ROOT else None
    if marker is None or not marker.exists():
        _announce()
    yield
    _ready.add(name)
    if marker is not None:
        with contextlib.suppress(OSError):
            marker.touch()


@functools.cache
def _announce() -> None:
    if CACHE_ROOT is None:
        warnings.warn("no writable cache folder (set NUMBA_CACHE_DIR): kernels are compiled in every process", stacklevel=5)
    print(f"compiling the CPU rasteriser, once, ~{COMPILE_SECONDS} s", file=sys.stderr, flush=True)
