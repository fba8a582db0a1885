"""Shared fixtures."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real heads, captures and weights; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("SPLATHEAD_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no real data at {folder} (set SPLATHEAD_SHARED to a folder with data/ and weights/)")
    return folder
