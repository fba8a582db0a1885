"""Trainings side by side: the same weights as one after another, data loaded once, failures named, no process left behind."""

from __future__ import annotations

import csv
import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from splathead.config import Config, ModelConfig, PairsConfig, RenderConfig, SubjectsConfig, TrainConfig
from splathead.samples import list_samples, stage_folder
from splathead.synthetic import write_synthetic_run
from splathead.time_limit import DEADLINE, TimeLimitReached
from splathead.training import jobs as training_jobs
from splathead.training import loading as training_loading
from splathead.training import spread as training_spread
from splathead.training.data import Crop, PairSet
from splathead.training.jobs import TrainingJob, study_jobs, train_jobs
from splathead.training.loading import DataKey, pair_set, share_pairs
from splathead.training.pair_loading import load_pairs
from splathead.training.spread import gpu_slots, spread
from splathead.training.state import TrainingError

pytestmark = pytest.mark.usefixtures("single_thread")
CPU = torch.device("cpu")


@pytest.fixture
def config(tmp_path) -> Config:
    train = TrainConfig(
        model=ModelConfig(base_ch=4, base="bilinear", zero_init=True), steps=4, epochs=2, batch_size=2, grad_accum=1, crop=32,
        full_frame_share=0.5, learning_rate=5e-3, loss_scale="lsb",
    )  # fmt: skip
    made = Config(
        name="study", runs_dir=str(tmp_path), device="cpu", train=train, render=RenderConfig(lr_size=16),
        subjects=SubjectsConfig(map_size=64, map_yaws=[-15.0, 15.0]), pairs=PairsConfig(interior_px=2),
        trainings=[{"method": "unet"}, {"method": "unet", "target": "render"}, {"method": "unet", "seed": 1}],
    )  # fmt: skip
    write_synthetic_run(made, {"train": 2, "val": 1})
    return made


def jobs_of(config: Config) -> list[TrainingJob]:
    return study_jobs(config, stage_folder(config, 6))


def samples_of(config: Config) -> dict:
    return {split: list_samples(config, 5, splits=(split,)) for split in ("train", "val")}


def results(job: TrainingJob) -> dict:
    """What must be the same however a job was trained."""
    info = json.loads((job.folder / "model.json").read_text())
    with (job.folder / "log.csv").open() as file:
        log = [(row["step"], row["train_loss"], row["val_rmse_mm"]) for row in csv.DictReader(file)]
    same = {key: info[key] for key in ("sha256", "data_fingerprint", "complete", "steps_done", "val_rmse_mm")}
    return {**same, "log": log, "files": sorted(path.name for path in job.folder.iterdir())}


def test_the_same_weights_as_one_after_another_and_only_what_is_left_is_trained(config, monkeypatch, capsys):
    whole = replace(config, runs_dir=config.runs_dir + "/whole")
    write_synthetic_run(whole, {"train": 2, "val": 1})
    train_jobs(jobs_of(whole), "upstream", samples_of(whole))
    asked, real = [], training_jobs.spread

    def recorded(jobs, kinds, *rest):
        asked.append(([job.name for job in jobs], len(set(kinds))))
        return real(jobs, kinds, *rest)

    monkeypatch.setattr(training_jobs, "spread", recorded)
    monkeypatch.setattr(training_jobs, "gpu_slots", lambda jobs: [None, None])
    jobs = jobs_of(config)
    train_jobs(jobs[:1], "upstream", samples_of(config))  # a single one needs no other process
    before = (jobs[0].folder / "model.safetensors").stat().st_mtime_ns
    assert asked == []
    parts = train_jobs(jobs, "upstream", samples_of(config))
    assert asked == [(["unet-render", "unet-surface+seed1"], 2)]  # of two targets, so of two kinds of data
    assert [part.name for part in parts] == [job.name for job in jobs]
    assert (jobs[0].folder / "model.safetensors").stat().st_mtime_ns == before
    assert [results(job) for job in jobs] == [results(job) for job in jobs_of(whole)]
    printed = capsys.readouterr().out
    for name in ("unet-render", "unet-surface+seed1"):
        assert f"{name}: training\n" in printed
        assert re.search(re.escape(name) + r": ended after \d+ s \(\d of 2 trainings\)", printed)
    train_jobs(jobs, "upstream", samples_of(config))
    assert len(asked) == 1  # all are trained: nothing is loaded


def test_time_that_is_up_names_what_is_left_and_loads_nothing(config, monkeypatch):
    monkeypatch.setattr(training_jobs, "gpu_slots", lambda jobs: [None])
    monkeypatch.setattr(training_spread._Loader, "start", lambda *_: pytest.fail("loads"))
    monkeypatch.setattr(DEADLINE, "_end", time.time() - 1)
    with pytest.raises(TimeLimitReached, match=r"3 of 3 trainings left \(unet-surface, unet-render, unet-surface\+seed1\)"):
        train_jobs(jobs_of(config), "upstream", samples_of(config))


def test_what_was_trained_from_other_data_is_cleared_though_time_is_up(config, monkeypatch):
    jobs = jobs_of(config)
    train_jobs(jobs[:1], "upstream", samples_of(config))
    monkeypatch.setattr(training_jobs, "gpu_slots", lambda jobs: [None])
    monkeypatch.setattr(DEADLINE, "_end", time.time() - 1)
    with pytest.raises(TimeLimitReached, match="3 of 3 trainings left"):
        train_jobs(jobs, "another", samples_of(config))
    assert not (jobs[0].folder / "model.safetensors").exists()


def test_failures_are_a_training_error_that_names_them(config, monkeypatch):
    monkeypatch.setattr(training_jobs, "gpu_slots", lambda jobs: [None])
    monkeypatch.setattr(training_jobs, "spread", lambda *_: ["a: training diverged", "b: its process was killed by signal 9"])
    with pytest.raises(TrainingError, match=r"^a: training diverged; b: its process was killed by signal 9\. --finished_only"):
        train_jobs(jobs_of(config), "upstream", samples_of(config))


def test_shared_pairs_are_not_copied_nor_read_or_hashed_again(config, monkeypatch):
    monkeypatch.setattr(training_loading, "_shared", {})
    samples, key = samples_of(config), DataKey(config, ())
    share_pairs(key, samples)
    expected = PairSet(load_pairs(config, samples["train"]), CPU)
    monkeypatch.setattr(training_loading, "load_pairs", lambda *_, **__: pytest.fail("read again"))
    (shared, _), found = training_loading._shared.values(), pair_set(key, samples["train"], "train", CPU)
    assert found is not shared and found.pairs is shared.pairs
    assert found._lr[0].data_ptr() == shared._lr[0].data_ptr()
    assert found._maps[0]["code"].data_ptr() == shared._maps[0]["code"].data_ptr()
    assert found.__dict__["fingerprint"] == expected.fingerprint  # is there without asking
    crops = [Crop(0, 1, 2, True), Crop(3, 0, 0, False)]
    assert torch.equal(found.batch(crops, 32).target01, expected.batch(crops, 32).target01)
    assert pair_set(key, [], "val", CPU) is None
    other = DataKey(replace(config, train=replace(config.train, target="render")), ())
    for wrong, split, views in ((other, "train", "train"), (key, "train", "val"), (key, "val", "train")):
        with pytest.raises(RuntimeError, match=rf"pairs of {split} \(\d views\) are other ones"):
            pair_set(wrong, samples[views], split, CPU)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_trainings_share_a_gpu_and_the_data_of_a_process_without_one(config):
    torch.zeros(1, device="cuda")  # this process has used it
    jobs = jobs_of(replace(config, device="cuda"))
    train_jobs(jobs, "upstream", samples_of(config))
    assert {json.loads((job.folder / "model.json").read_text())["device"] for job in jobs} == {torch.cuda.get_device_name()}


@pytest.mark.parametrize("caps, per_gpu", [([8.0, 4.0], [2, 3]), ([0.0, 8.0], [1, 1]), ([100.0], [1, 1]), ([1.0], [3, 3])])
def test_as_many_trainings_share_a_gpu_as_fit(monkeypatch, caps, per_gpu):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    monkeypatch.setattr(training_spread, "gpu_count", lambda device: 2)
    memory = {0: 23.6, 1: 140.0}
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: SimpleNamespace(total_memory=memory[i] * 2**30))
    jobs = [TrainingJob("x", "x", Config(train=TrainConfig(max_gpu_memory_gb=cap)), Path()) for cap in caps]
    assert gpu_slots(jobs) == ["4"] * per_gpu[0] + ["6"] * per_gpu[1]
    monkeypatch.setattr(training_spread, "gpu_count", lambda device: 0)
    assert gpu_slots(jobs) == gpu_slots([]) == []


# The rest is about the processes: jobs of these names do what their names say. What they do is written down in files.


def note(job: TrainingJob, text: str) -> None:
    with (job.parent / "notes.txt").open("a") as file:
        file.write(text + "\n")


def toy_load(job: TrainingJob) -> None:
    note(job, f"load {job.name} {os.getpid()}")
    if "unreadable" in job.name:
        raise FileNotFoundError("no such map")
    if "loader_exits" in job.name:
        os._exit(3)


def toy_run(job: TrainingJob, seconds: float = 0.0) -> str:
    note(job, f"start {job.name} {os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES')} {DEADLINE.end}")
    if "diverges" in job.name:
        return f"{job.name}: training diverged"
    if "raises" in job.name:
        raise ValueError("no good")
    if "is_killed" in job.name:
        print("up to here", file=sys.stderr)
        os.kill(os.getpid(), signal.SIGKILL)
    if "kills_loader" in job.name:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    time.sleep(seconds)
    note(job, f"end {job.name} {os.getpid()}")
    return ""


def toy_jobs(folder: Path, *names: str) -> list[TrainingJob]:
    return [TrainingJob(name, name, Config(), folder) for name in names]


def notes(folder: Path, what: str) -> list[list[str]]:
    """What follows ``what`` in its lines, in the order in which they were written."""
    path = folder / "notes.txt"
    lines = [line.split() for line in path.read_text().splitlines()] if path.is_file() else []
    return [line[1:] for line in lines if line[0] == what]


def gone(pid: int) -> bool:
    """True when a process has ended, whether or not somebody took notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_until(condition, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def all_gone(folder: Path) -> bool:
    return all(gone(int(line[1])) for what in ("load", "start") for line in notes(folder, what))


def test_slots_are_filled_in_the_jobs_order_on_the_least_busy_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    jobs = toy_jobs(tmp_path, "a", "b", "c", "d", "e")
    assert spread(jobs, ["same"] * 5, toy_load, functools.partial(toy_run, seconds=0.5), ["4", "4", "6"]) == []
    assert [name for name, _ in notes(tmp_path, "load")] == ["a"]  # once for all
    started = {name: gpu for name, _, gpu, _ in notes(tmp_path, "start")}
    assert set(started) == set("abcde") and {started["a"], started["b"]} == {"4", "6"} and started["c"] == "4"
    running, most = [], {"4": 0, "6": 0}
    for line in (tmp_path / "notes.txt").read_text().splitlines()[1:]:
        what, name = line.split()[:2]
        running = [*running, name] if what == "start" else [other for other in running if other != name]
        most = {gpu: max(count, [started[other] for other in running].count(gpu)) for gpu, count in most.items()}
    assert most == {"4": 2, "6": 1}
    first_three = {name for name, *_ in notes(tmp_path, "start")[:3]}
    assert first_three == set("abc") and os.environ["CUDA_VISIBLE_DEVICES"] == "7" and all_gone(tmp_path)
    assert not list(tmp_path.glob("*.log"))  # they printed nothing


def test_kinds_of_data_make_room_for_one_another(tmp_path, monkeypatch):
    monkeypatch.setattr(training_spread, "KINDS_PER_GPU", 1)
    jobs = toy_jobs(tmp_path, "a0", "b0", "a1")
    assert spread(jobs, ["a", "b", "a"], load_alone, toy_run, [None, None]) == []
    assert [name for name, _ in notes(tmp_path, "load")] == ["a0", "b0"]
    assert [name for name, *_ in notes(tmp_path, "start")][2:] == ["b0"]  # first those whose data are loaded


def load_alone(job: TrainingJob) -> None:
    """Load, when no other kind of data is in memory."""
    assert all_gone(job.parent)
    toy_load(job)


def test_whatever_fails_stops_none_of_the_others(tmp_path):
    names = ("diverges", "raises", "is_killed", "fine", "unreadable", "unreadable_too", "loader_exits", "kills_loader", "late")
    kinds = ["good"] * 4 + ["bad"] * 2 + ["worse", "worst", "good"]
    failures = spread(toy_jobs(tmp_path, *names), kinds, toy_load, toy_run, [None, None])
    assert [failure.split(": ", 1)[1].replace(str(tmp_path), ".") for failure in failures] == [
        "training diverged",
        "ValueError: no good (traceback in ./raises.log)",
        "its process was killed by signal 9 (9: there may have been too little memory) before it was done; what it printed is "
        "in ./is_killed.log",
        "FileNotFoundError: no such map (while its data was loaded; traceback in ./unreadable.log)",
        "the process with its data has died (exit code 3)",
        "the process with its data has died (exit code -9)",
    ]
    assert [failure.split(": ")[0] for failure in failures] == [
        "diverges", "raises", "is_killed", "unreadable (and 1 more on the same data)", "loader_exits", "kills_loader",
    ]  # fmt: skip
    assert {name for name, _ in notes(tmp_path, "end")} == {"fine", "late"}
    for name, text in (("raises", "in toy_run"), ("is_killed", "up to here"), ("unreadable", "in toy_load")):
        assert text in (tmp_path / f"{name}.log").read_text()
    wait_until(functools.partial(all_gone, tmp_path))  # also the training whose loader was killed


def test_a_deadline_is_handed_on_and_starts_nothing_more(tmp_path, monkeypatch):
    class UpAtTheFirstStart:
        end = 2e9
        passed = property(lambda self: bool(notes(tmp_path, "start")))

    monkeypatch.setattr(training_spread, "DEADLINE", UpAtTheFirstStart())
    assert spread(toy_jobs(tmp_path, "a", "b", "c"), "xxx", toy_load, functools.partial(toy_run, seconds=0.5), [None]) == []
    ((name, _, _, end),) = notes(tmp_path, "start")
    assert float(end) == 2e9 and [ended for ended, _ in notes(tmp_path, "end")] == [name]  # what runs may finish
    assert all_gone(tmp_path)


@pytest.mark.parametrize(
    "load, reached, end",
    [
        ("toy_load", ("start", 2), lambda master: master.kill()),
        ("toy_load", ("start", 2), lambda master: os.killpg(master.pid, signal.SIGINT)),  # as Ctrl-C does
        ("slow_load", ("load", 1), lambda master: master.kill()),
    ],
    ids=["killed", "interrupted", "killed while loading"],
)
def test_nothing_is_left_of_a_master_that_ends(tmp_path, load, reached, end):
    code = f"import sys, test_training_spread as t; t.endless_master(sys.argv[1], t.{load})"
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    master = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], env={**os.environ, "PYTHONPATH": path}, start_new_session=True,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until(lambda: len(notes(tmp_path, reached[0])) == reached[1])
        end(master)
        master.wait(20)
        wait_until(functools.partial(all_gone, tmp_path), 5)
        assert not notes(tmp_path, "end")
    finally:
        master.kill()
        master.wait()


def slow_load(job: TrainingJob) -> None:
    toy_load(job)
    time.sleep(120)


def endless_master(folder: str, load) -> None:
    jobs = toy_jobs(Path(folder), "a", "b")
    spread(jobs, ["same", "same"], load, functools.partial(toy_run, seconds=120.0), [None, None])
