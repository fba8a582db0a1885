"""Threads for work that leaves Python's lock alone: NumPy, OpenCV, compiled loops, torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from splathead.cli import core_count

Item, Found = TypeVar("Item"), TypeVar("Found")


def thread_map(function: Callable[[Item], Found], items: Iterable[Item]) -> list[Found]:
    """``function`` of every item, in order, on one thread per core. The first exception is raised."""
    items = list(items)
    with ThreadPoolExecutor(max(1, min(core_count(), len(items)))) as pool:
        return list(pool.map(function, items))
