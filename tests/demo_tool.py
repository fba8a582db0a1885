"""Stands in for ``splathead.enhance`` in tests of the demo, in processes of their own: what it does is told by the upload."""

from __future__ import annotations

import os
import time
from pathlib import Path


def enhance(path: Path, out: Path, options: dict) -> None:
    """Write a real small result, or fail as a tool can fail."""
    text = Path(path).read_bytes()
    if text.startswith(b"broken"):
        raise ValueError(f"{path}: no Gaussians in it")
    if text.startswith(b"slow"):
        time.sleep(60)
    if text.startswith(b"dies"):
        os._exit(9)
    from result_folders import make_result

    make_result(out, size=96, name=path.name, understood=tuple(f"{key} = {value}" for key, value in options.items()))
