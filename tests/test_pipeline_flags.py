import importlib.util
import subprocess
import sys

import pytest
from conftest import REPOSITORY

spec = importlib.util.spec_from_file_location("run_pipeline", REPOSITORY / "run_pipeline.py")
run_pipeline = importlib.util.module_from_spec(spec)
spec.loader.exec_module(run_pipeline)

ALL = [1, 2, 3, 4, 5, 6, 7, 8, 11, 12]


def select(*flags: str) -> list[int]:
    return run_pipeline.select_stages(ALL, run_pipeline.build_parser().parse_args(flags))


def test_selection():
    assert select() == ALL
    assert select("--start-from", "4", "--stop_at", "7") == [4, 5, 6, 7]
    assert select("--only", "6") == [6]
    assert select("--skip", "9", "12") == ALL[:-1]
    assert select("--only", "9", "2", "--skip", "2") == [9]
    with pytest.raises(ValueError, match="stage 13, expected one of 1, 2"):
        select("--only", "13")


def test_hyphen_and_underscore_are_alike():
    parse = run_pipeline.build_parser().parse_args
    assert parse(["--max-subjects", "3"]).max_subjects == parse(["--max_subjects", "3"]).max_subjects == 3
    assert parse(["--max-images", "3"]).max_subjects == 3
    assert parse(["--dry-run"]).dry_run and parse(["--dry_run"]).dry_run


def pipeline(*flags: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "run_pipeline.py", *flags]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def test_dry_run_prints_one_command_per_stage_that_exists():
    result = pipeline("--dry-run", "--jobs", "2", "--max-subjects", "3", "--force")
    lines = result.stdout.split("\n")[:-1]
    assert result.returncode == 0 and len(lines) == len(ALL)
    for line in lines:
        script = line.split()[1]
        assert line.endswith("--config configs/quick.yaml --jobs 2 --max_subjects 3 --force")
        assert (REPOSITORY / script).is_file(), f"{script} does not exist"


def test_every_stage_is_told_to_go_on_with_what_is_finished():
    result = pipeline("--dry-run", "--finished-only", "--only", "6", "9")
    lines = result.stdout.split("\n")[:-1]
    assert len(lines) == 2 and all(line.endswith("--finished_only") for line in lines)


def test_list_and_errors():
    shown = pipeline("--list")
    assert shown.returncode == 0 and "06_train_depth_sr" in shown.stdout
    missing = pipeline("--config", "configs/none.yaml")
    assert missing.returncode == 1 and "no such configuration file" in missing.stderr and "Traceback" not in missing.stderr
