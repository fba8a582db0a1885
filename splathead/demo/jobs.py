"""One job at a time, each in a process of its own, which can be stopped, may run out of memory, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import secrets
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

Options = dict[str, float | str]
"""What a visitor set of ``EnhanceOptions``"""
Enhance = Callable[[Path, Path, dict], object]
"""``enhance(path, out, options)`` writes a result folder or raises; a function of a module, as a new process imports it"""
USER_ERRORS = (ValueError, OSError, RuntimeError, ImportError, KeyError)
POLL_S = 0.2


class QueueFullError(Exception):
    """More jobs are waiting than the demo takes."""


@dataclass
class Job:
    """One upload and what becomes of it."""

    folder: Path
    """with the upload and, once it is done, ``out``; removed when the job fails or is forgotten"""
    name: str
    """of the uploaded file"""
    options: Options
    key: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    state: str = "waiting"
    """waiting, running, done or failed"""
    message: str = ""
    started: float = 0.0
    ended: float = 0.0
    finished: threading.Event = field(default_factory=threading.Event)

    @property
    def input(self) -> Path:
        """The uploaded file."""
        return self.folder / self.name

    @property
    def out(self) -> Path:
        """The result folder."""
        return self.folder / "out"

    @property
    def seconds(self) -> float:
        """How long it has been running, or ran."""
        return (self.ended or time.monotonic()) - self.started if self.started else 0.0


class JobQueue:
    """Runs jobs in the order of their arrival. Close it to stop the running one and remove everything under ``root``."""

    def __init__(self, enhance: Enhance, root: Path, *, max_waiting: int = 8, kept: int = 8, limit_s: float = 1800.0) -> None:
        self.root, self.max_waiting, self.kept, self.limit_s = Path(root), max_waiting, kept, limit_s
        self._enhance = enhance
        self._jobs: dict[str, Job] = {}
        self._waiting: queue.Queue[Job | None] = queue.Queue()
        self._lock, self._closing = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="demo jobs", daemon=True)
        self._thread.start()

    def new_folder(self) -> Path:
        """An empty folder for an upload; QueueFullError when no further job is taken."""
        with self._lock:
            self._check_room()
        folder = self.root / secrets.token_hex(8)
        folder.mkdir(parents=True)
        return folder

    def submit(self, job: Job) -> None:
        """Queue a job whose upload is complete; QueueFullError when others were faster."""
        with self._lock:
            self._check_room()
            self._jobs[job.key] = job
            self._waiting.put(job)

    def get(self, key: str) -> Job | None:
        """A job that is not forgotten yet."""
        with self._lock:
            return self._jobs.get(key)

    def position(self, job: Job) -> int:
        """How many jobs run or wait before this one."""
        with self._lock:
            pending = [other.key for other in self._jobs.values() if other.state in ("waiting", "running")]
            return pending.index(job.key) if job.key in pending else 0

    def close(self) -> None:
        """Stop the running job, forget the others, remove every folder."""
        self._closing.set()
        self._waiting.put(None)
        self._thread.join(timeout=30)
        shutil.rmtree(self.root, ignore_errors=True)

    def _check_room(self) -> None:
        waiting = sum(job.state == "waiting" for job in self._jobs.values())
        if self._closing.is_set() or waiting >= self.max_waiting:
            raise QueueFullError(f"{waiting} jobs are waiting already; try again later")

    def _work(self) -> None:
        while not self._closing.is_set():
            job = self._waiting.get()
            if job is None or self._closing.is_set():
                return
            job.started, job.state = time.monotonic(), "running"
            try:
                message = self._run(job)
            except Exception as error:  # whatever happens to one job, the next one is served
                message = f"the job could not be run: {type(error).__name__}: {error}"
            job.ended, job.message, job.state = time.monotonic(), message, "failed" if message else "done"
            if message:
                shutil.rmtree(job.folder, ignore_errors=True)
            job.finished.set()
            self._forget_oldest()

    def _run(self, job: Job) -> str:
        """Run a job in a new process; the error message, empty if it went well."""
        context = multiprocessing.get_context("spawn")  # a fork would inherit locked locks of this process's threads
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_child, args=(self._enhance, job.input, job.out, job.options, sender))
        process.start()
        sender.close()
        try:
            return self._wait(job, process, receiver)
        finally:
            _kill_group(process)
            receiver.close()

    def _wait(self, job: Job, process: multiprocessing.Process, receiver) -> str:
        while not receiver.poll(POLL_S):
            if self._closing.is_set():
                return "the demo was closed"
            if job.seconds > self.limit_s:
                return f"stopped after {self.limit_s:.0f} s"
        try:
            message = receiver.recv()
            process.join(timeout=2)  # it is about to end by itself
            return message
        except EOFError:  # killed, for example for want of memory
            process.join()
            return f"the tool ended without a result (exit code {process.exitcode}); was there enough memory?"

    def _forget_oldest(self) -> None:
        with self._lock:
            forgotten = []
            for state in ("done", "failed"):  # a failed one has no files, but its message may not have been read yet
                ended = sorted((job for job in self._jobs.values() if job.state == state), key=lambda job: job.ended)
                forgotten += ended[: max(0, len(ended) - self.kept)]
            for job in forgotten:
                del self._jobs[job.key]
        for job in forgotten:
            shutil.rmtree(job.folder, ignore_errors=True)


def _child(enhance: Enhance, path: Path, out: Path, options: Options, sender) -> None:
    """The process of one job: sends the error message, or an empty one."""
    os.setsid()  # so that the whole family can be stopped
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        enhance(path, out, options)
        if not (out / "report.html").is_file():
            from splathead.result_view.report import write_report

            write_report(out)
        message = ""
    except USER_ERRORS as error:
        text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
        message = text.replace(f"{path.parent}{os.sep}", "") or type(error).__name__
    except Exception as error:
        message = f"the tool failed: {type(error).__name__}: {error}"
    sender.send(message)
    sender.close()


def _kill_group(process: multiprocessing.Process) -> None:
    """End a job's process and whatever it started."""
    if process.pid is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    if process.is_alive():
        process.kill()
    process.join()
    process.close()


def enhance_with_tool(path: Path, out: Path, options: Options) -> None:
    """What ``scripts/20_enhance_head.py`` does, with only those options that the visitor gave."""
    from splathead.enhance import EnhanceOptions, enhance

    enhance(path, out, EnhanceOptions(**options))
