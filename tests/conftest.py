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


@pytest.fixture
def single_thread():
    """One torch thread: with tiny tensors on a busy machine, threads only wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
