"""Other processes for what holds Python's lock: marching cubes, edge collapse, text files. They import no torch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import numpy as np
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor

from splathead.cli import core_count, quick_imports
from splathead.threads import prepare

WORKERS = 3
"""One for the mesh before, and then one each for the mesh that the report shows and two mesh files"""


def in_workers(calls: list[tuple[Callable, tuple, dict]], jobs: int) -> Iterator:
    """Begin ``calls`` (made by :func:`joblib.delayed`); their results in order. With one job they run here, when asked for."""
    # a process that keeps 300 MB after a large mesh is replaced, as if it leaked; what that says alarms, and nothing is lost
    warnings.filterwarnings("ignore", "A worker stopped while some jobs were given to the executor", UserWarning)
    # joblib would pass large arrays as read-only files: compiled loops take those for another type, fast_simplification refuses
    # one of them at a time is at work in loops for several cores, beside this process
    with parallel_config(backend="loky", inner_max_num_threads=max(1, core_count() // 2)):
        return Parallel(n_jobs=min(jobs, WORKERS), return_as="generator", batch_size=1, max_nbytes=None)(calls)


def start_workers(jobs: int) -> None:
    """Begin to start the processes, with their imports, beside other work; with one job there are none."""
    if jobs > 1:
        prepare(lambda: list(in_workers([delayed(import_modules)()] * WORKERS, jobs)))


def stop_workers(jobs: int) -> None:
    """End the processes at once: a program that leaves it to them takes a second longer to end."""
    if jobs > 1:
        get_reusable_executor(reuse=True).shutdown(kill_workers=True)


def start_gpu(device: str) -> None:
    """Import torch, and begin to open the GPU (unless ``device`` is cpu), which takes seconds, beside further imports."""
    if device != "cpu":
        import torch

        if torch.cuda.is_available():
            prepare(_open_gpu)


def _open_gpu() -> None:
    """Have torch load what networks use of CUDA: its context, cuDNN, cuBLAS."""
    import torch

    with torch.no_grad():
        image = torch.ones(1, 8, 32, 32, device="cuda")
        torch.nn.functional.conv2d(image, torch.ones(8, 8, 3, 3, device="cuda"))
        (image[0, 0] @ image[0, 1]).sum().item()


def import_modules() -> None:
    """Import what meshes, their files and their pictures need."""
    with quick_imports():
        import igl  # noqa: F401
        import matplotlib.colors  # noqa: F401
        import trimesh  # noqa: F401

        import splathead.result_view.report  # noqa: F401

        import_mesh_modules()
    if core_count() > WORKERS:  # or they would take cores from what the first views wait for
        mesh_of_a_plate()


def mesh_of_a_plate() -> None:
    """Have compiled loops, and what is imported where it is used, loaded: make a small mesh, and draw it."""
    from splathead.cameras import orbit_camera
    from splathead.enhance.mesh import mesh_before
    from splathead.fusion import DepthView
    from splathead.result_view.report import draw_pair

    mask = np.zeros((64, 64), dtype=bool)
    mask[28:36, 28:36] = True
    view = DepthView(np.where(mask, np.float32(400), 0), mask, orbit_camera(0.0, 0.0, 64), rgb=np.zeros((64, 64, 3), np.uint8))
    mesh, small = mesh_before([view], 1000)
    draw_pair("a plate", "mm", mesh, mesh, (small, small))


def import_mesh_modules() -> None:
    """Import what meshes need."""
    import fast_simplification  # noqa: F401
    import scipy.sparse.csgraph
    import scipy.spatial  # noqa: F401
    import skimage.measure  # noqa: F401

    import splathead.enhance.mesh
    import splathead.fusion.kernels  # noqa: F401
