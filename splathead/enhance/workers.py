"""Other processes for what holds Python's lock: marching cubes, edge collapse, text files. They import no torch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from joblib import Parallel, delayed

WORKERS = 2
"""One for the mesh before, and then one each for the two slow mesh files"""


def in_workers(calls: list[tuple[Callable, tuple, dict]], jobs: int) -> Iterator:
    """Begin ``calls`` (made by :func:`joblib.delayed`); their results in order. With one job they run here, when asked for."""
    return Parallel(n_jobs=min(jobs, WORKERS), return_as="generator", batch_size=1)(calls)


def start_workers(jobs: int) -> None:
    """Begin to start the processes, with their imports, beside other work; with one job there are none."""
    if jobs > 1:
        threading.Thread(target=lambda: list(in_workers([delayed(_import_modules)()] * WORKERS, jobs))).start()


def _import_modules() -> None:
    import fast_simplification  # noqa: F401
    import scipy.sparse.csgraph
    import scipy.spatial  # noqa: F401
    import skimage.measure  # noqa: F401
    import trimesh  # noqa: F401

    import splathead.enhance.mesh
    import splathead.fusion.kernels  # noqa: F401
