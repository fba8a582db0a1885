"""The library names settings, the tool has flags: what the library says, with the flags that the tool's user can type."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

PIPELINE = (
    (r"(?:\b(?:reconstruct|subjects)\.)?\b(?:import|capture)_(up|front)\b", r"--\1"),
    (r"(?:\b(?:reconstruct|subjects)\.)?\b(?:import|capture)_mm_per_unit\b", "--scale_mm"),
    (r"^up (.+) and front (.+) are parallel", r"--up \1 and --front \2 are parallel"),
    (r" \((?:reconstruct|subjects)\.\w+\)", ""),
)
"""Patterns of the pipeline's settings and the tool's flags; settings without a flag are left out"""
DEPTH = (
    (r"\b(?:scale, )?unit were given", "--scale_mm were given"),
    (r"\bvalues(?=[\w, -]* were given)", "--values"),
    (r"\bvalues='(\w+)' with a scale\b", r"--values \1 with --scale_mm"),
    (r"\bvalues='(\w+)'", r"--values \1"),
    (r"^depth values\b", "--values"),
    (r"^scale given\b", "--scale_mm given"),
    (r"\(scale\)", "(--scale_mm)"),
    (r"(?<![\w./-])(near|far|hfov|white_is_near|no_surface)(?![\w.])", r"--\1"),
)
"""Patterns of what :mod:`splathead.depth_files` takes, and the tool's flags"""


def with_flags(text: str, names: tuple[tuple[str, str], ...] = PIPELINE) -> str:
    """``text`` with the settings that ``names`` knows as flags."""
    for pattern, flag in names:
        text = re.sub(pattern, flag, text)
    return text


@contextlib.contextmanager
def errors_with_flags(path: Path, names: tuple[tuple[str, str], ...] = PIPELINE) -> Iterator[None]:
    """Errors of the library about the input ``path`` name flags; the path in front of them is left as it is."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        text, where = str(error), f"{path}: "
        said = where * text.startswith(where) + with_flags(text.removeprefix(where), names)
        if said == text:
            raise
        raise (FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError)(said) from error
