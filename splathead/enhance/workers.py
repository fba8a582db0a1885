"""Other processes for what holds Python's lock: marching cubes, edge collapse, text files. They import no torch."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable, Iterator

from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor

from splathead.cli import quick_imports
from splathead.threads import prepare

WORKERS = 3
"""Of the mesh before, the mesh that the report shows and two mesh files, one is done sooner than the others"""


def in_workers(calls: list[tuple[Callable, tuple, dict]], jobs: int) -> Iterator:
    """Begin ``calls`` (made by :func:`joblib.delayed`); their results in order. With one job they run here, when asked for."""
    # a process that keeps 300 MB after a large mesh is replaced, as if it leaked; what that says alarms, and nothing is lost
    warnings.filterwarnings("ignore", "A worker stopped while some jobs were given to the executor", UserWarning)
    # who interrupts a call knows it
    for said in (".* tasks which were still being processed by the workers have been", "A generator produced by joblib"):
        warnings.filterwarnings("ignore", said, UserWarning)
    # joblib would pass large arrays as read-only files: compiled loops take those for another type, fast_simplification refuses
    return Parallel(n_jobs=min(jobs, WORKERS), return_as="generator", batch_size=1, max_nbytes=None)(calls)


def start_workers(jobs: int) -> None:
    """Begin to start the processes, with their imports, beside other work; with one job there are none. For the main thread."""
    if jobs > 1:
        # Ctrl-C reaches them, too, and each would print a traceback; what is ignored here they ignore from their first moment
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            started = in_workers([delayed(import_modules)()] * WORKERS, jobs)
        finally:
            signal.signal(signal.SIGINT, handler)
        prepare(list, started)


def stop_workers(jobs: int) -> None:
    """End the processes at once: a call that failed would wait until they have imported everything."""
    if jobs > 1:
        get_reusable_executor(reuse=True).shutdown(kill_workers=True)


def import_modules() -> None:
    """Import what meshes, their files and their pictures need."""
    with quick_imports():
        import igl  # noqa: F401
        import matplotlib.colors  # noqa: F401
        import trimesh  # noqa: F401

        import splathead.result_view.report  # noqa: F401

        import_mesh_modules()


def import_mesh_modules() -> None:
    """Import what meshes need."""
    import fast_simplification  # noqa: F401
    import scipy.sparse.csgraph
    import scipy.spatial  # noqa: F401
    import skimage.measure  # noqa: F401

    import splathead.enhance.mesh
    import splathead.fusion.kernels  # noqa: F401
