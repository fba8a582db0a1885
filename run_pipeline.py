"""Run a configuration's stages in order; finished work is skipped, interrupted work resumes.

    python run_pipeline.py                                   the embedded heads, on a CPU, in minutes
    python run_pipeline.py --config configs/capture.yaml     a posed capture
    python run_pipeline.py --list                            the stages and their state
    python run_pipeline.py --start-from 4 --stop-at 7        a range of stages
    python run_pipeline.py --only 6 --force                  one stage, made again
    python run_pipeline.py --finished-only                   results of the trainings that are finished, none is begun
    python run_pipeline.py --dry-run                         print the commands only
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent


def build_parser() -> argparse.ArgumentParser:
    """Command line of the pipeline; hyphens and underscores are alike."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def flag(name: str, **options: object) -> None:
        parser.add_argument(*dict.fromkeys((f"--{name}", f"--{name.replace('-', '_')}")), **options)

    flag("config", default="configs/quick.yaml", help="YAML configuration (default configs/quick.yaml)")
    flag("list", action="store_true", help="list the stages and their state, run nothing")
    flag("start-from", type=int, default=0, metavar="N", help="first stage to run")
    flag("stop-at", type=int, default=99, metavar="N", help="last stage to run")
    flag("only", type=int, nargs="+", metavar="N", help="run these stages only")
    flag("skip", type=int, nargs="+", default=[], metavar="N", help="leave these stages out")
    flag("force", action="store_true", help="make the selected stages again")
    flag("dry-run", action="store_true", help="print the commands, run nothing")
    flag("jobs", type=int, default=0, help="subjects in parallel (default: one per core)")
    flag("max-subjects", type=int, default=0, help="use the first N subjects only")
    parser.add_argument("--max-images", "--max_images", dest="max_subjects", type=int, help=argparse.SUPPRESS)
    flag("seed", type=int, default=None, help="random seed (default: the configuration's)")
    flag("device", default=None, help="auto | cpu | cuda")
    flag("finished-only", action="store_true", help="train nothing, go on with the trainings that are finished")
    flag("time-limit", type=float, default=0.0, metavar="SECONDS", help="end cleanly after SECONDS; run again to resume")
    return parser


def select_stages(configured: list[int], options: argparse.Namespace) -> list[int]:
    """The configured stages that the flags leave, in order; unknown numbers are errors."""
    from splathead.samples import STAGE_NAMES

    for number in [*(options.only or []), *options.skip, *configured]:
        if number not in STAGE_NAMES:
            raise ValueError(f"stage {number}, expected one of {', '.join(map(str, STAGE_NAMES))}")
    wanted = options.only or configured
    return [n for n in sorted(wanted) if options.start_from <= n <= options.stop_at and n not in options.skip]


def stage_command(name: str, options: argparse.Namespace, seconds_left: float | None = None) -> list[str]:
    """Command line of one stage's script, which may take ``seconds_left``."""
    command = [sys.executable, str(ROOT / "scripts" / f"{name}.py"), "--config", options.config]
    for flag, value in (("--jobs", options.jobs), ("--max_subjects", options.max_subjects), ("--device", options.device)):
        command += [flag, str(value)] if value else []
    if options.seed is not None:
        command += ["--seed", str(options.seed)]
    if seconds_left is not None:
        command += ["--time_limit", f"{max(seconds_left, 1.0):.0f}"]
    command += ["--finished_only"] if options.finished_only else []
    return command + (["--force"] if options.force else [])


def stage_state(folder: Path) -> str:
    """One word and the seconds: what ``stage.json`` says of a stage."""
    record = folder / "stage.json"
    if not record.is_file():
        return "not run"
    data = json.loads(record.read_text())
    return f"{data['state']} ({data['seconds']:.1f} s, peak {data['peak_memory_mib']:.0f} MiB)"


def run(options: argparse.Namespace) -> int:
    """Run, list or print the selected stages; returns the exit code."""
    from splathead.config import load_config
    from splathead.preflight import check_inputs
    from splathead.samples import STAGE_NAMES, stage_folder
    from splathead.time_limit import TIME_LIMIT_EXIT

    config = load_config(Path(options.config))
    stages = select_stages(config.stages, options)
    if options.list:
        print(f"{options.config}: {config.description}\nresults in {config.run_folder}")
        for number in config.stages:
            print(f"  {STAGE_NAMES[number]:28s} {stage_state(stage_folder(config, number))}")
        return 0
    if not stages:
        raise ValueError(f"no stage of {options.config} is left by these flags, it has {', '.join(map(str, config.stages))}")
    check_inputs(config, stages)
    started = time.perf_counter()
    for number in stages:
        left = options.time_limit - (time.perf_counter() - started) if options.time_limit else None
        command = stage_command(STAGE_NAMES[number], options, left)
        print(("" if options.dry_run else "\n== ") + " ".join(command), flush=True)
        if options.dry_run:
            continue
        stage_started = time.perf_counter()
        code = subprocess.run(command, check=False, env={**os.environ, "PYTHONUNBUFFERED": "1"}).returncode
        if code == TIME_LIMIT_EXIT:
            print(f"time limit reached in stage {STAGE_NAMES[number]}; run again to resume there", file=sys.stderr)
            return code
        if code != 0:
            print(f"stage {STAGE_NAMES[number]} failed with exit code {code}; run again to resume there", file=sys.stderr)
            return code if code > 0 else 128 - code
        print(f"== {STAGE_NAMES[number]}: {time.perf_counter() - stage_started:.1f} s", flush=True)
    if not options.dry_run:
        print(f"\n{len(stages)} stages in {time.perf_counter() - started:.0f} s; results in {config.run_folder}")
        report = stage_folder(config, 12) / "report.html"
        if report.is_file() and 12 in stages:
            print(f"open {report} in a browser")
    return 0


if __name__ == "__main__":
    from splathead import cli

    cli.main(lambda: sys.exit(run(build_parser().parse_args())))
