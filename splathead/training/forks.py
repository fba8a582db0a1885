"""The process that loads one kind of training data once, and the trainings that it forks, which share what it loaded.

It ends when the master closes its end of their connection, and kills its trainings then. It and each training also look
whether the process that started them is still there, so that none is left behind when that one is killed.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import torch

from splathead.gpu_assignment import take_gpu
from splathead.time_limit import DEADLINE

if TYPE_CHECKING:
    from splathead.training.jobs import TrainingJob

Load = Callable[["TrainingJob"], None]
"""Loads the data of a job, which the trainings forked afterwards share"""
Run = Callable[["TrainingJob"], str]
"""Trains a job; returns what is wrong where it fails, else nothing"""

POLL_S = 0.2
"""Seconds between looks at processes that may have ended"""


@dataclass(frozen=True)
class Loaded:
    """A loader has its data, or says why it has not."""

    error: str = ""


@dataclass(frozen=True)
class Ended:
    """The process of a training has ended; ``failure`` says what is wrong, if anything."""

    index: int
    failure: str


def output_path(job: TrainingJob) -> Path:
    """What a forked training prints, its warnings and its traceback: beside its folder, which holds results only."""
    return job.parent / f"{job.name}.log"


def serve(link: Connection, load: Load, run: Run, first: TrainingJob, end: float | None) -> None:
    """Body of a loader's process: ``load(first)``, then a process with ``run(job)`` for each (index, job, gpu) it receives.

    Sends :class:`Loaded`, then :class:`Ended` for each training. ``end`` is the master's deadline, ``gpu`` an argument of
    :func:`take_gpu` or None for a training without a GPU.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to every process of the terminal: the master ends this one
    torch.set_num_threads(1)  # a pool of threads would not survive the fork
    cv2.setNumThreads(1)
    DEADLINE.end = end
    trainings: dict[int, _Training] = {}
    with ending_with_parent():
        error = _load(load, first)  # forks come after this thread has ended: they copy none but their own
    try:
        link.send(Loaded(error))
        while not error:
            if link.poll(POLL_S):
                index, job, gpu = link.recv()
                trainings[index] = _Training.start(link, run, job, gpu)
            for index in [index for index, training in trainings.items() if training.ended]:
                link.send(Ended(index, trainings.pop(index).failure()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the master needs it no longer, or is gone
    finally:
        for training in trainings.values():
            training.process.kill()
            training.process.join()


def _load(load: Load, first: TrainingJob) -> str:
    """Load the data; returns what went wrong, if anything."""
    try:
        load(first)
        if torch.cuda.is_initialized():
            raise RuntimeError("loading training data started CUDA, which no forked process can use then")
    except Exception as error:
        output_path(first).write_text(traceback.format_exc(), encoding="utf-8")
        return f"{type(error).__name__}: {error} (while its data was loaded; traceback in {output_path(first)})"
    return ""


@dataclass
class _Training:
    """The process of one training, and the end of a pipe on which it says what is wrong at the end."""

    job: TrainingJob
    process: BaseProcess
    receiver: Connection

    @classmethod
    def start(cls, link: Connection, run: Run, job: TrainingJob, gpu: str | None) -> _Training:
        context = multiprocessing.get_context("fork")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_train, args=(link, sender, run, job, gpu), name=job.name)
        process.start()
        sender.close()
        return cls(job, process, receiver)

    @property
    def ended(self) -> bool:
        return self.receiver.poll() or not self.process.is_alive()

    def failure(self) -> str:
        """What is wrong with a training that has ended."""
        said = None
        with contextlib.suppress(EOFError):
            said = self.receiver.recv() if self.receiver.poll() else None
        self.process.join()
        self.receiver.close()
        return _exit_text(self.job, self.process.exitcode) if said is None else said


def _exit_text(job: TrainingJob, code: int) -> str:
    """What to say of a training whose process ended without a word."""
    how = f"was killed by signal {-code} (9: there may have been too little memory)" if code < 0 else f"exited with {code}"
    return f"{job.name}: its process {how} before it was done; what it printed is in {output_path(job)}"


def _train(link: Connection, sender: Connection, run: Run, job: TrainingJob, gpu: str | None) -> None:
    """Body of a training's process."""
    link.close()  # or the master could not tell that the loader has died
    file = os.open(output_path(job), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    with ending_with_parent():
        try:
            if gpu is not None:
                take_gpu(gpu)
            failure = run(job)
        except Exception as error:
            traceback.print_exc()
            failure = f"{job.name}: {type(error).__name__}: {error} (traceback in {output_path(job)})"
        sender.send(failure)


@contextlib.contextmanager
def ending_with_parent() -> Iterator[None]:
    """Meanwhile end this process at once when the one that started it is gone."""
    parent, done = multiprocessing.parent_process().pid, threading.Event()

    def watch() -> None:
        while not done.wait(POLL_S):
            if os.getppid() != parent:
                os._exit(1)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
