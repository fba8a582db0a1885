"""Threads for work that leaves Python's lock alone: NumPy, OpenCV, compiled loops, torch."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from splathead.cli import core_count

Item, Found = TypeVar("Item"), TypeVar("Found")


def prepare(function: Callable, *arguments: object) -> None:
    """Begin ``function``, whose only use is that a later call is quicker; what goes wrong is said by that call."""

    def run() -> None:
        with contextlib.suppress(Exception):
            function(*arguments)

    threading.Thread(target=run, name=f"prepare {function.__name__}").start()


def thread_map(function: Callable[[Item], Found], items: Iterable[Item]) -> list[Found]:
    """``function`` of every item, in order, on one thread per core. The first exception is raised."""
    items = list(items)
    with ThreadPoolExecutor(max(1, min(core_count(), len(items)))) as pool:
        return list(pool.map(function, items))
