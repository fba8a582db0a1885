"""Command lines of the numbered scripts: one YAML plus flags that override the script's own section.

Every field of the section is a flag (``--batch_size 4`` or ``--batch-size 4``; booleans ``--amp`` and
``--no-amp``; nested fields ``--model.base_ch 16``); their help is the dataclass's own documentation.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

from splathead.config import Config, ConfigError, load_config, validate
from splathead.time_limit import DEADLINE, TIME_LIMIT_EXIT, TimeLimitReached

DEFAULT_CONFIG = "configs/quick.yaml"


@dataclasses.dataclass
class ScriptRun:
    """What a script gets: the configuration with flags applied, and how to run."""

    config: Config
    force: bool
    jobs: int
    max_subjects: int


NEGATIVE_AXES = ("-x", "-y", "-z")
INTERRUPTED_EXIT, TERMINATED_EXIT = 130, 143
"""What shells report for Ctrl-C and SIGTERM"""
# flags of the published study's scripts that name a nested field of ours
ALIASES = {"--model": "--model.name", "--base_ch": "--model.base_ch", "--lr": "--learning_rate"}


def _shared_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", default=DEFAULT_CONFIG, help=f"YAML configuration (default {DEFAULT_CONFIG})")
    parser.add_argument("--force", action="store_true", help="make everything of this stage again")
    parser.add_argument("--jobs", type=int, default=None, help="subjects in parallel (default: one per core)")
    limit = ("--max_subjects", "--max-subjects", "--limit")
    parser.add_argument(*limit, type=int, default=0, help="use only the first N subjects")
    parser.add_argument("--seed", type=int, default=None, help="random seed (default: the configuration's)")
    parser.add_argument("--device", default=None, help="auto | cpu | cuda (default: the configuration's)")
    parser.add_argument("--time_limit", "--time-limit", type=float, default=None, metavar="SECONDS",
                        help="stop starting new work after SECONDS and exit with 75; run again to resume")  # fmt: skip
    parser.add_argument("--finished_only", "--finished-only", action="store_true",
                        help="stages 06, 09, 10: train nothing, go on with the trainings that are finished")  # fmt: skip
    parser.add_argument("--dask", default="", metavar="ADDRESS", help="run subjects on a dask scheduler at ADDRESS")
    return parser


def core_count() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def quick_imports() -> Iterator[None]:
    """For imports of many modules: Python's collector of unused objects does not look through theirs, which stay."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def parse(
    description: str, section: str, examples: Sequence[str], argv: Sequence[str] | None = None, also: Sequence[str] = ()
) -> ScriptRun:
    """Parse a stage script's command line: shared flags, then flags of ``config.<section>`` through tyro.

    ``also`` names further sections of the configuration, whose flags begin with their name (``--photos.blur 0.9``).
    """
    argv = join_negative_axes(sys.argv[1:] if argv is None else argv)
    shared = _shared_parser()
    epilog = "examples:\n" + "\n".join(f"  {line}" for line in examples)
    if any(flag in argv for flag in ("-h", "--help")):
        print(f"{description}\n\n{epilog}\n\nshared flags:")
        print(shared.format_help().split("\n\n", 1)[1])
    options, rest = shared.parse_known_args(argv)
    rest = [_canonical_flag(flag) for flag in rest]
    config = load_config(Path(options.config))
    node: object = config
    for part in section.split("."):
        parent, leaf, node = node, part, getattr(node, part)
    parsed, further = _parse_sections(node, {name: getattr(config, name) for name in also}, rest, section)
    setattr(parent, leaf, parsed)
    for name, value in further.items():
        setattr(config, name, value)
    config.seed = config.seed if options.seed is None else options.seed
    config.device = options.device or config.device
    config.time_limit = config.time_limit if options.time_limit is None else options.time_limit
    config.finished_only |= options.finished_only
    validate(config, "command line")
    DEADLINE.set(config.time_limit)
    jobs = options.jobs or config.jobs or core_count()
    if options.dask:
        use_dask(options.dask)
    return ScriptRun(config, options.force, jobs, options.max_subjects)


def _parse_sections(node: object, also: dict[str, object], args: list[str], section: str) -> tuple[object, dict[str, object]]:
    """``node`` and the sections ``also`` with the flags of ``args`` applied."""
    import tyro

    own = {field.name: getattr(node, field.name) for field in dataclasses.fields(node)}
    nested = [(name, type(value), dataclasses.field(default_factory=lambda value=value: value)) for name, value in also.items()]
    flags = dataclasses.make_dataclass("Flags", nested, bases=(type(node),)) if also else type(node)
    program, about = Path(sys.argv[0]).name, f"flags of `{section}`:"
    result = tyro.cli(flags, default=flags(**own), args=args, prog=program, description=about)
    return type(node)(**{name: getattr(result, name) for name in own}), {name: getattr(result, name) for name in also}


def join_negative_axes(argv: Sequence[str]) -> list[str]:
    """``--up -z`` as ``--up=-z``: parsers take a negative axis for a flag."""
    joined: list[str] = []
    for argument in argv:
        before = joined[-1] if joined else ""
        if argument in NEGATIVE_AXES and before.startswith("--") and "=" not in before and before != "--":
            joined[-1] = f"{before}={argument}"
        else:
            joined.append(argument)
    return joined


def _canonical_flag(argument: str) -> str:
    name, equals, value = argument.partition("=")
    if not name.startswith("--"):
        return argument
    name = ALIASES.get(name.replace("-", "_").replace("__", "--", 1), name)
    return name + equals + value


def use_dask(address: str) -> None:
    """Send joblib's parallel calls to a dask scheduler (needs the package ``distributed``)."""
    try:
        from distributed import Client
    except ImportError as error:
        raise RuntimeError("--dask needs the package 'distributed': pip install distributed") from error
    import joblib

    Client(address)
    joblib.parallel_config(backend="dask")


def exit_on_termination() -> None:
    """Let SIGTERM end this program as an exit does, so that temporary folders are removed and other processes are stopped."""

    def leave(number: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code.co_name == "__del__":  # what is raised there is ignored
                threading.Timer(0.05, signal.raise_signal, (number,)).start()
                return
            frame = frame.f_back
        signal.signal(number, signal.SIG_IGN)  # a second one must not end the tidying up
        sys.exit(TERMINATED_EXIT)

    signal.signal(signal.SIGTERM, leave)


def main(function: Callable[[], None]) -> None:
    """Run a script's body: errors a user can mend become one clear line and exit code 1, Ctrl-C a line and exit code 130."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        function()
    except TimeLimitReached as reached:
        print(reached, file=sys.stderr)
        sys.exit(TIME_LIMIT_EXIT)
    except KeyboardInterrupt:
        logging.disable()  # libraries that say what they did when the program ends
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED_EXIT)
    except (ConfigError, ValueError, OSError, RuntimeError, ImportError, KeyError) as error:
        if os.environ.get("SPLATHEAD_TRACEBACK"):
            raise
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"error: {message}\n(set SPLATHEAD_TRACEBACK=1 for the full trace)", file=sys.stderr)
        sys.exit(1)
