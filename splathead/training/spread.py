"""Trainings side by side: several on each GPU, those on the same data forked off one process that has loaded it.

This process is the master. It starts loaders (:mod:`splathead.training.forks`) as new interpreters, since it may have used
CUDA, tells them which training comes next on which GPU, and hears from them how each one ended.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Hashable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING

import torch

from splathead.devices import gpu_count
from splathead.gpu_assignment import visible_gpu
from splathead.time_limit import DEADLINE
from splathead.training.forks import POLL_S, Ended, Load, Loaded, Run, output_path, serve

if TYPE_CHECKING:
    from splathead.training.jobs import TrainingJob

TRAININGS_PER_GPU = 3
"""Trainings that run on one GPU at a time, at most: a small network's step waits for kernel launches, not for the GPU"""
KINDS_PER_GPU = TRAININGS_PER_GPU + 1
"""Kinds of data in host memory for each GPU, at most: one for each training, and one that is loaded meanwhile. A kind with all
guides takes 7 GB in a study of 200 heads"""
GRACE_S = 10.0
"""Seconds that a loader has to end its trainings and itself"""
GIB = 2**30


def gpu_slots(jobs: Sequence[TrainingJob]) -> list[str]:
    """Places for trainings as :func:`take_gpu` wants them, as many for each GPU as may run on it; none on a CPU.

    A GPU has fewer than ``TRAININGS_PER_GPU`` where ``max_gpu_memory_gb`` of the jobs would not fit so many times, and one
    when a job may take all of its memory (0).
    """
    caps = [job.config.train.max_gpu_memory_gb for job in jobs]
    slots = []
    for index in range(gpu_count(jobs[0].config.device) if jobs else 0):
        fitting = int(torch.cuda.get_device_properties(index).total_memory / GIB / max(caps)) if all(caps) else 1
        slots += [visible_gpu(index)] * max(1, min(TRAININGS_PER_GPU, fitting))
    return slots


def spread(
    jobs: Sequence[TrainingJob],
    kinds: Sequence[Hashable],
    load: Load,
    run: Run,
    slots: Sequence[str | None],
) -> list[str]:
    """Run every job in a process of its own, in their order, until :data:`DEADLINE`; returns what the failed ones say.

    Args:
        jobs: trainings; their parents' folders exist.
        kinds: for each job what its data are; jobs of equal kinds share what one ``load`` of the first of them loads.
        load: called in a process that never uses CUDA. Like ``run`` it is pickled.
        run: called in a process that was forked off that one.
        slots: one for each process that may run at a time: its GPU for :func:`take_gpu`, or None for none.
    """
    return _Master(jobs, kinds, load, run, slots).run()


class _Loader:
    """One kind of data as the master sees it: the process that has it, and the trainings on it that have not ended."""

    def __init__(self) -> None:
        self.left: list[int] = []
        self.process: BaseProcess | None = None
        self.link: Connection | None = None
        self.loaded = False

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.is_alive()

    @property
    def heard(self) -> bool:
        """True from its start until it is dismissed."""
        return self.link is not None and not self.link.closed

    def start(self, load: Load, run: Run, first: TrainingJob) -> None:
        context = multiprocessing.get_context("spawn")
        link, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, load, run, first, DEADLINE.end))
        with _one_openmp_thread():
            process.start()
        theirs.close()
        self.process, self.link = process, link

    def dismiss(self) -> None:
        """Have it end, with what it trains."""
        if self.heard:
            self.link.close()
            if not self.loaded:
                self.process.kill()  # it listens only after it has loaded

    def join(self) -> None:
        """Wait until a dismissed one has ended."""
        if self.process:
            self.process.join(GRACE_S)
            if self.process.is_alive():
                self.process.kill()  # its trainings see that and end
                self.process.join()


class _Master:
    """Which trainings wait, run and have failed; see :func:`spread`."""

    def __init__(
        self,
        jobs: Sequence[TrainingJob],
        kinds: Sequence[Hashable],
        load: Load,
        run: Run,
        slots: Sequence[str | None],
    ) -> None:
        self.jobs, self._load, self._run = jobs, load, run
        by_kind: dict[Hashable, _Loader] = {}
        self.loader_of = [by_kind.setdefault(kind, _Loader()) for kind in kinds]
        for index, loader in enumerate(self.loader_of):
            loader.left.append(index)
        self.loaders = list(by_kind.values())
        self.free, self.max_loaders = list(slots), KINDS_PER_GPU * len(set(slots))
        self.waiting = list(range(len(jobs)))
        self.running: dict[int, tuple[str | None, float]] = {}  # GPU and time of the start
        self.failures: dict[int, str] = {}

    def run(self) -> list[str]:
        """Run all; whatever happens, no process is left afterwards."""
        try:
            while self.running or (self.waiting and not DEADLINE.passed):
                self._start_loaders()
                self._start_trainings()
                self._listen()
        finally:
            for loader in self.loaders:
                loader.dismiss()
            for loader in self.loaders:
                loader.join()
        return [self.failures[index] for index in sorted(self.failures)]

    def _start_loaders(self) -> None:
        for loader in self.loaders:
            if DEADLINE.passed or sum(other.alive for other in self.loaders) >= self.max_loaders:
                return
            if loader.process is None:
                loader.start(self._load, self._run, self.jobs[loader.left[0]])

    def _start_trainings(self) -> None:
        """Fill the free slots with the first jobs whose data are loaded, on the GPUs with the fewest trainings."""
        for index in list(self.waiting):
            if not self.free or DEADLINE.passed:
                return
            loader = self.loader_of[index]
            if not loader.loaded:
                continue
            busy = [gpu for gpu, _ in self.running.values()]
            gpu = min(self.free, key=busy.count)
            self.free.remove(gpu)
            self.waiting.remove(index)
            self.running[index] = (gpu, time.monotonic())
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # _listen finds a loader that has died
                loader.link.send((index, self.jobs[index], gpu))
            print(f"{self.jobs[index].name}: training" + (f" on GPU {gpu}" if gpu else ""), flush=True)

    def _listen(self) -> None:
        """Take in what loaders say, for a moment; dismiss those that have nothing left to train."""
        heard = [loader for loader in self.loaders if loader.heard]
        wait([loader.link for loader in heard], POLL_S)
        for loader in heard:
            alive = loader.alive  # before the last look at what it said
            try:
                while loader.left and loader.link.poll():
                    self._take(loader, loader.link.recv())
            except (EOFError, ConnectionResetError):
                alive = False
            if loader.left and not alive:
                loader.process.join(GRACE_S)
                self._give_up(loader, f"the process with its data has died (exit code {loader.process.exitcode})")
            if not loader.left:
                loader.dismiss()

    def _take(self, loader: _Loader, message: Loaded | Ended) -> None:
        if isinstance(message, Loaded):
            loader.loaded = not message.error
            if message.error:
                self._give_up(loader, message.error)
            return
        job, (gpu, began) = self.jobs[message.index], self.running.pop(message.index)
        self.free.append(gpu)
        loader.left.remove(message.index)
        if message.failure:
            self.failures[message.index] = message.failure
        elif output_path(job).stat().st_size == 0:
            output_path(job).unlink()
        ended = len(self.jobs) - len(self.waiting) - len(self.running)
        how = "failed" if message.failure else "ended"
        print(f"{job.name}: {how} after {time.monotonic() - began:.0f} s ({ended} of {len(self.jobs)} trainings)", flush=True)

    def _give_up(self, loader: _Loader, why: str) -> None:
        """Count all that is left on a kind of data as failed."""
        first, *others = loader.left
        more = f" (and {len(others)} more on the same data)" if others else ""
        self.failures[first] = f"{self.jobs[first].name}{more}: {why}"
        print(f"{self.failures[first]}", flush=True)
        self.free += [self.running.pop(index)[0] for index in loader.left if index in self.running]
        self.waiting = [index for index in self.waiting if index not in loader.left]
        loader.left = []


@contextlib.contextmanager
def _one_openmp_thread() -> Iterator[None]:
    """Processes started meanwhile have one thread of OpenMP, which reads this when it is loaded: its pool does not survive a
    fork."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
