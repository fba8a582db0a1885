"""The stage contract: one folder per stage, items written atomically, resumable, re-run only when inputs change.

A stage's folder is ``runs/<config>/<NN_stage>/``. Each item (a subject, say) is written into a hidden
temporary folder and renamed when complete, so a folder that exists is a result that is whole. The
stage's *fingerprint* hashes its configuration, its code schema and the fingerprints of the stages it reads:
when it differs from the recorded one, the folder is cleared and everything is made again; otherwise
finished items are skipped. ``stage.json`` records what was run, with which versions, how long it took.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import resource
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path

import cv2

from splathead.gpu_assignment import take_gpu, visible_gpu
from splathead.images import write_json
from splathead.time_limit import DEADLINE, TimeLimitReached

STAGE_SCHEMA = 1
REPORTED_PACKAGES = ("torch", "numpy", "scipy", "numba", "opencv-python-headless", "trimesh", "libigl", "gsplat", "anny")


def fingerprint(data: object) -> str:
    """SHA-256 (16 hex digits) of JSON-like data; dataclasses and paths are allowed."""

    def plain(value: object) -> object:
        if is_dataclass(value) and not isinstance(value, type):
            return asdict(value)
        if isinstance(value, Path):
            return str(value)
        raise TypeError(f"cannot fingerprint {type(value).__name__}")

    text = json.dumps(data, sort_keys=True, default=plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def stage_fingerprint(name: str, settings: object, upstream: dict[str, str], extra: object, seed: int) -> str:
    """What :meth:`Stage.open` records and compares; ``upstream``: fingerprints of the stages that it reads."""
    return fingerprint([STAGE_SCHEMA, name, settings, upstream, extra, seed])


def fingerprint_path(path: Path) -> str:
    """Fingerprint of a user's file or folder: names, sizes and contents (mtime for files over 64 MiB)."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    rows = []
    for file in files:
        stat = file.stat()
        content = str(stat.st_mtime_ns) if stat.st_size > 2**26 else hashlib.sha256(file.read_bytes()).hexdigest()
        rows.append((str(file.relative_to(path)) if path.is_dir() else file.name, stat.st_size, content))
    return fingerprint(rows)


def safe_name(name: str) -> str:
    """Check that ``name`` can be a folder name of ours (letters, digits, ``._+-``)."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+-]*", name):
        raise ValueError(f"name {name!r}, expected letters, digits and . _ + - only, not starting with a dot")
    return name


@dataclass
class Stage:
    """One stage's folder. Use :meth:`open`, then :meth:`run_items` or :meth:`item`, then :meth:`close`."""

    folder: Path
    name: str
    record: dict = field(default_factory=dict)
    _started: float = field(default_factory=time.perf_counter)
    _worker_peaks_kib: dict[int, int] = field(default_factory=dict)

    @classmethod
    def open(
        cls,
        runs_dir: Path,
        name: str,
        settings: object,
        inputs: Sequence[str] = (),
        *,
        extra: object = None,
        force: bool = False,
        seed: int = 0,
    ) -> Stage:
        """Open ``runs_dir/name``, clearing it when its fingerprint changed or ``force``.

        ``inputs`` names earlier stages, which must be finished; ``extra`` is anything else the result
        depends on (fingerprints of user files, say).
        """
        runs_dir = Path(runs_dir)
        upstream = {stage: finished_fingerprint(runs_dir, stage) for stage in inputs}
        digest = stage_fingerprint(name, settings, upstream, extra, seed)
        folder = runs_dir / name
        previous = read_record(folder)
        if folder.exists() and (force or previous is None or previous.get("fingerprint") != digest):
            shutil.rmtree(folder)
            previous = None
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.rglob(".tmp-*"):
            shutil.rmtree(stale, ignore_errors=True)
        before = previous or {}
        record = {
            "schema": STAGE_SCHEMA, "stage": name, "fingerprint": digest, "state": "running", "inputs": upstream,
            "settings": json.loads(json.dumps(asdict(settings) if is_dataclass(settings) else settings, default=str)),
            "seed": seed, "seconds": before.get("seconds", 0.0), "done_before": before.get("state") == "done",
            "peak_memory_mib": before.get("peak_memory_mib", 0.0), **_environment(),
        }  # fmt: skip
        stage = cls(folder, name, record)
        if not record["done_before"]:
            write_json(folder / "stage.json", record)
        return stage

    @property
    def finished(self) -> bool:
        """True when an earlier run completed this stage with the same fingerprint."""
        return bool(self.record["done_before"])

    def item_done(self, item: str) -> bool:
        """True when the item's folder is complete."""
        return (self.folder / item).is_dir()

    def run_items(
        self,
        function: Callable[[str, Path], object],
        items: Iterable[str],
        *,
        jobs: int = 1,
        unit: str = "item",
        gpus: int = 0,
    ) -> None:
        """Run ``function(item, out_dir)`` for each unfinished item, ``jobs`` at a time, with a progress bar.

        ``function`` writes into ``out_dir``, which becomes ``folder/item`` when it returns. It must be
        picklable when ``jobs`` > 1 (joblib's loky workers, or dask when a client is set). An exception
        stops the stage; finished items stay. ``gpus``: workers share so many GPUs evenly. After :data:`DEADLINE` no item
        is started, and :class:`TimeLimitReached` says how many are left.
        """
        from joblib import Parallel, cpu_count, delayed
        from tqdm import tqdm

        pending = [item for item in items if not self.item_done(item)]
        if not pending:
            return
        workers = min(jobs, len(pending))
        share_gpus = gpus if workers > 1 else 0
        threads = max(1, cpu_count() // workers) if workers > 1 else 0
        calls = (
            delayed(_run_item)(
                function, item, self.folder / item, visible_gpu(index % share_gpus) if share_gpus > 1 else None, threads
            )
            for index, item in enumerate(pending)
            if not DEADLINE.passed
        )
        parallel = Parallel(n_jobs=workers, return_as="generator_unordered", pre_dispatch=workers, batch_size=1)
        for process, peak in tqdm(parallel(calls), total=len(pending), desc=self.name, unit=unit, dynamic_ncols=True):
            self._worker_peaks_kib[process] = peak
        left = sum(not self.item_done(item) for item in pending)
        if left:
            self._add_cost()
            write_json(self.folder / "stage.json", {k: v for k, v in self.record.items() if k != "done_before"})
            raise TimeLimitReached(f"{self.name}: time limit reached with {left} of {len(pending)} left; run again to resume")

    def close(self) -> None:
        """Mark the stage finished and record seconds and peak memory."""
        self.record["state"] = "done"
        self._add_cost()
        write_json(self.folder / "stage.json", {k: v for k, v in self.record.items() if k != "done_before"})

    def _add_cost(self) -> None:
        """Add this session's seconds, and its peak memory where it is larger, to the record."""
        self.record["seconds"] = round(self.record["seconds"] + time.perf_counter() - self._started, 3)
        # the sum of the processes' own peaks: at least what they held together at any moment
        self._worker_peaks_kib[os.getpid()] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        usage = sum(self._worker_peaks_kib.values()) / 1024
        self.record["peak_memory_mib"] = round(max(self.record["peak_memory_mib"], usage), 1)


def record_group(
    runs_dir: Path, name: str, parts: Sequence[Stage], inputs: Sequence[str] = (), *, done: bool, missing: Sequence[str] = ()
) -> None:
    """Write ``stage.json`` of a stage that consists of sub-stages, each with its own folder and fingerprint below it.

    Its fingerprint follows from its parts'; call it with ``done=False`` before work starts on unfinished parts, so
    that later stages refuse a half-made result, and with ``done=True`` when every part is finished. ``missing`` names what
    a run was told to go without.
    """
    runs_dir = Path(runs_dir)
    rows = [{"name": part.name, **{key: part.record[key] for key in ("fingerprint", "seconds")}} for part in parts]
    upstream = {stage: finished_fingerprint(runs_dir, stage) for stage in inputs}
    record = {
        "schema": STAGE_SCHEMA, "stage": name, "state": "done" if done else "running", "inputs": upstream,
        "fingerprint": fingerprint([STAGE_SCHEMA, name, upstream, [(row["name"], row["fingerprint"]) for row in rows]]),
        "parts": rows, "seconds": round(sum(row["seconds"] for row in rows), 3),
        "peak_memory_mib": max((part.record["peak_memory_mib"] for part in parts), default=0.0), **_environment(),
        "missing": list(missing),
    }  # fmt: skip
    write_json(runs_dir / name / "stage.json", record)


def _run_item(
    function: Callable[[str, Path], object], item: str, target: Path, gpu: str | None = None, threads: int = 0
) -> tuple[int, int]:
    """Make one item; returns the process and its peak resident memory in KiB so far.

    ``gpu``: see :func:`take_gpu`. ``threads``: of OpenCV, 0 = as they are.
    """
    if gpu is not None:
        take_gpu(gpu)
    if threads:  # joblib tells its workers' OpenMP, BLAS and numba how many cores are theirs; OpenCV would take all of them
        cv2.setNumThreads(threads)
    temporary = target.parent / f".tmp-{target.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        function(item, temporary)
        os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return os.getpid(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def read_record(folder: Path) -> dict | None:
    """``stage.json`` of a stage's folder; None when it is missing or unreadable."""
    path = folder / "stage.json"
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError:
        return None


def finished_fingerprint(runs_dir: Path, stage: str) -> str:
    """Fingerprint of a finished stage; an error that names the command to run when it is not finished."""
    record = read_record(Path(runs_dir) / stage)
    if record is None or record.get("state") != "done":
        folder = Path(runs_dir) / stage
        raise RuntimeError(f"{folder}: stage {stage} has not finished; run scripts/{stage}.py (or run_pipeline.py) first")
    return record["fingerprint"]


def _environment() -> dict:
    versions = {}
    for package in REPORTED_PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    from splathead.results import git_state

    commit, dirty = git_state()
    return {"commit": commit, "dirty": dirty, "python": platform.python_version(), "versions": versions}
