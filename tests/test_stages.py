import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from splathead.stages import Stage, fingerprint, fingerprint_path, safe_name


def write_item(item: str, out_dir: Path) -> None:
    (out_dir / "value.txt").write_text(item)


def make(runs: Path, name: str = "01_a", settings: object = 1, **options) -> Stage:
    stage = Stage.open(runs, name, settings, **options)
    stage.run_items(write_item, ["x", "deep/y"])
    stage.close()
    return stage


def test_items_are_written_recorded_and_skipped(tmp_path):
    make(tmp_path)
    record = json.loads((tmp_path / "01_a" / "stage.json").read_text())
    assert record["state"] == "done" and record["peak_memory_mib"] > 0 and record["versions"]["numpy"]
    before = (tmp_path / "01_a" / "deep" / "y" / "value.txt").stat().st_mtime_ns
    again = Stage.open(tmp_path, "01_a", 1)
    assert again.finished and again.item_done("deep/y")
    again.run_items(write_item, ["x", "deep/y"])
    assert (tmp_path / "01_a" / "deep" / "y" / "value.txt").stat().st_mtime_ns == before


def test_changed_settings_seed_upstream_or_force_make_it_again(tmp_path):
    make(tmp_path)
    make(tmp_path, "02_b", inputs=["01_a"])
    assert Stage.open(tmp_path, "02_b", 1, inputs=["01_a"]).finished
    assert not Stage.open(tmp_path, "02_b", 2, inputs=["01_a"]).finished
    make(tmp_path, "02_b", inputs=["01_a"])
    make(tmp_path, "01_a", settings="other")
    stage = Stage.open(tmp_path, "02_b", 1, inputs=["01_a"])
    assert not stage.finished and not stage.item_done("x")
    assert not Stage.open(tmp_path, "01_a", "other", force=True).item_done("x")
    make(tmp_path)
    assert not Stage.open(tmp_path, "01_a", 1, seed=5).finished


def test_unfinished_upstream_is_an_error_that_names_the_script(tmp_path):
    with pytest.raises(RuntimeError, match=r"stage 01_a has not finished; run scripts/01_a\.py"):
        Stage.open(tmp_path, "02_b", 1, inputs=["01_a"])
    Stage.open(tmp_path, "01_a", 1)
    with pytest.raises(RuntimeError, match="has not finished"):
        Stage.open(tmp_path, "02_b", 1, inputs=["01_a"])


def fail_on_b(item: str, out_dir: Path) -> None:
    write_item(item, out_dir)
    if item == "b":
        raise OSError(28, "No space left on device")


def test_a_failing_item_leaves_no_trace_and_keeps_the_others(tmp_path):
    stage = Stage.open(tmp_path, "01_a", 1)
    with pytest.raises(OSError, match="No space left"):
        stage.run_items(fail_on_b, ["a", "b", "c"])
    assert stage.item_done("a") and not stage.item_done("b")
    assert not list((tmp_path / "01_a").glob(".tmp*"))
    assert json.loads((tmp_path / "01_a" / "stage.json").read_text())["state"] == "running"


def test_parallel_jobs_give_the_same_items(tmp_path):
    stage = Stage.open(tmp_path, "01_a", 1)
    stage.run_items(write_item, [f"s{i}" for i in range(6)], jobs=2)
    assert sorted(p.name for p in stage.folder.iterdir() if p.is_dir()) == [f"s{i}" for i in range(6)]


def test_read_only_output_is_an_error(tmp_path):
    if os.geteuid() == 0:
        target = Path("/proc/splathead-cannot-write-here")
    else:
        target = tmp_path / "locked"
        target.mkdir(mode=0o500)
    with pytest.raises(OSError):
        Stage.open(target, "01_a", 1)


def test_sigkill_in_the_middle_resumes_with_equal_results(tmp_path):
    script = tmp_path / "work.py"
    script.write_text(
        textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from splathead.stages import Stage

        def slow(item, out_dir):
            (out_dir / "half.txt").write_text(item)
            time.sleep(float(sys.argv[2]))
            (out_dir / "value.txt").write_text(item * 2)

        stage = Stage.open(Path(sys.argv[1]), "01_a", 1)
        stage.run_items(slow, ["a", "b", "c", "d"])
        stage.close()
        """)
    )
    runs = tmp_path / "runs"
    process = subprocess.Popen([sys.executable, str(script), str(runs), "0.3"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (runs / "01_a" / ".tmp-b" / "half.txt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (runs / "01_a" / "a").is_dir() and not (runs / "01_a" / "b").exists()
    before = (runs / "01_a" / "a" / "value.txt").stat().st_mtime_ns
    subprocess.run([sys.executable, str(script), str(runs), "0"], check=True, stderr=subprocess.DEVNULL)
    assert (runs / "01_a" / "a" / "value.txt").stat().st_mtime_ns == before
    assert {p.name: (p / "value.txt").read_text() for p in (runs / "01_a").iterdir() if p.is_dir()} == {
        name: name * 2 for name in "abcd"
    }
    assert not list((runs / "01_a").rglob(".tmp*"))


def test_fingerprints(tmp_path):
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1}) != fingerprint({"a": 1, "b": [3]})
    (tmp_path / "x").write_text("1")
    first = fingerprint_path(tmp_path)
    (tmp_path / "x").write_text("2")
    assert fingerprint_path(tmp_path) != first
    with pytest.raises(FileNotFoundError, match="gone: no such file"):
        fingerprint_path(tmp_path / "gone")


@pytest.mark.parametrize("name", ["../x", ".hidden", "a b", "", "a/b"])
def test_unsafe_names_are_refused(name):
    with pytest.raises(ValueError, match="expected letters"):
        safe_name(name)
