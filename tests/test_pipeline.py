"""The whole pipeline on the smoke configuration: what it writes, and that SIGKILL in any stage changes nothing."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import REPOSITORY

from splathead.config import load_config
from splathead.samples import STAGE_NAMES, list_samples, stage_folder

pytestmark = pytest.mark.slow
SMOKE = REPOSITORY / "configs" / "smoke.yaml"


def smoke_config(folder: Path) -> Path:
    """The smoke configuration with its runs in ``folder``."""
    data = yaml.safe_load(SMOKE.read_text())
    path = folder / "smoke.yaml"
    path.write_text(yaml.safe_dump({**data, "runs_dir": str(folder / "runs"), "device": "cpu"}))
    return path


def pipeline(config: Path, *flags: str) -> list[str]:
    return [sys.executable, str(REPOSITORY / "run_pipeline.py"), "--config", str(config), *flags]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, float]:
    """Configuration path of an uninterrupted run, and its seconds."""
    config = smoke_config(tmp_path_factory.mktemp("smoke"))
    started = time.perf_counter()
    result = subprocess.run(pipeline(config), cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    return config, time.perf_counter() - started


def test_every_stage_finishes_and_leaves_its_files(finished):
    path, seconds = finished
    print(f"smoke run: {seconds:.0f} s")
    config = load_config(path)
    for number in config.stages:
        record = json.loads((stage_folder(config, number) / "stage.json").read_text())
        assert record["state"] == "done" and record["stage"] == STAGE_NAMES[number]
    samples = list_samples(config, 5)
    # pairs are made of one rasterisation mode, pairs.lr_mode; the others stay as maps
    assert len(samples) == config.subjects.count * len(config.reconstruct.fit.presets) * len(config.subjects.map_yaws)
    tested = list_samples(config, 5, splits=("test",))
    for method in [*config.train.baselines, "unet"]:
        assert all(sample.prediction_path(config, method).is_file() for sample in tested), method
    report = stage_folder(config, 12) / "report.html"
    text = report.read_text()
    assert "<script src=" not in text and "https://" not in text.replace("https://www.w3.org", "")


def test_tables_hold_every_method_target_and_zone(finished):
    config = load_config(finished[0])
    with (stage_folder(config, 7) / "depth.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    methods = {row["method"] for row in rows}
    assert {*config.train.baselines, "unet"} <= methods
    assert {row["target"] for row in rows} >= {"surface", "render"}
    assert {row["zone"] for row in rows} >= {"interior", "silhouette", "full"}
    assert {row["fit"] for row in rows} >= {"vanilla", "regularised"}
    assert all(np.isfinite(float(row["value"])) for row in rows)
    with (stage_folder(config, 8) / "mesh.csv").open() as stream:
        assert {"f_score", "hausdorff", "normal_consistency"} <= {row["metric"] for row in csv.DictReader(stream)}


def test_a_second_run_does_nothing(finished):
    path, _ = finished
    before = content_hashes(load_config(path).run_folder)
    started = time.perf_counter()
    result = subprocess.run(pipeline(path), cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    print(f"second run: {time.perf_counter() - started:.0f} s")
    assert content_hashes(load_config(path).run_folder) == before


VOLATILE_COLUMNS = {"commit", "dirty", "device"}
VOLATILE_METRICS = {"seconds", "peak_memory", "throughput", "speedup"}
VOLATILE_KEYS = {"seconds", "iterations_per_second", "images_per_second", "peak_memory_mib", "commit", "dirty"}


def content_hashes(run_folder: Path) -> dict[str, str]:
    """SHA-256 of every result of a run, with times, memory and provenance left out."""
    hashes = {}
    for path in sorted(run_folder.rglob("*")):
        relative = str(path.relative_to(run_folder))
        # a kill in the middle of a write leaves its hidden temporary file, which nothing reads
        skipped = path.name in ("stage.json", "log.csv", "checkpoint.safetensors") or path.name.startswith(".")
        if path.is_dir() or skipped or relative.startswith(STAGE_NAMES[12]):
            continue
        hashes[relative] = hashlib.sha256(stable_content(path)).hexdigest()
    return hashes


def stable_content(path: Path) -> bytes:
    if path.suffix == ".csv":
        with path.open() as stream:
            rows = [row for row in csv.DictReader(stream) if row.get("metric") not in VOLATILE_METRICS]
        return json.dumps([{k: v for k, v in row.items() if k not in VOLATILE_COLUMNS} for row in rows]).encode()
    if path.suffix == ".json":
        return json.dumps(without_volatile(json.loads(path.read_text())), sort_keys=True).encode()
    if path.suffix == ".npz":
        with np.load(path) as archive:  # zip members carry a time stamp
            return b"".join(name.encode() + archive[name].tobytes() for name in sorted(archive.files))
    return path.read_bytes()


def without_volatile(data: object) -> object:
    if isinstance(data, dict):
        return {k: without_volatile(v) for k, v in data.items() if k not in VOLATILE_KEYS}
    if isinstance(data, list):
        return [without_volatile(entry) for entry in data]
    return data


def kill_while_running(config_path: Path, number: int, delay: float) -> bool:
    """Start at stage ``number``, kill the whole process group ``delay`` seconds after the stage opened its folder."""
    record = stage_folder(load_config(config_path), number) / "stage.json"
    process = subprocess.Popen(
        pipeline(config_path, "--start-from", str(number), "--stop-at", str(number)), cwd=REPOSITORY,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    while not record.exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(delay)
    interrupted = process.poll() is None
    if interrupted:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return interrupted


def test_sigkill_in_the_middle_of_every_stage_resumes_to_the_same_results(finished, tmp_path):
    reference = content_hashes(load_config(finished[0]).run_folder)
    path = smoke_config(tmp_path)
    config = load_config(path)
    interrupted = []
    for number in config.stages:
        if kill_while_running(path, number, delay=0.4):
            interrupted.append(number)
            state = json.loads((stage_folder(config, number) / "stage.json").read_text())["state"]
            assert state in ("running", "done")
        flags = ("--start-from", str(number), "--stop-at", str(number))
        result = subprocess.run(pipeline(path, *flags), cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert result.returncode == 0, f"stage {number}: {result.stderr[-3000:]}"
    print(f"interrupted stages: {interrupted}")
    assert {1, 2, 6} <= set(interrupted), "the long stages were not interrupted: the test proved nothing"
    assert content_hashes(config.run_folder) == reference
