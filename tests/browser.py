"""A real headless browser for tests of pages; they are skipped where there is none."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest


def browse(address: str, folder: Path, *, attempts: int = 6) -> str:
    """The title that the page at ``address`` gives itself, which must start with DONE or ERROR."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium or google-chrome on this machine")
    command = [
        browser, "--headless", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-first-run",
        "--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--window-size=1200,900", "--dump-dom",
    ]  # fmt: skip
    title = ""
    for attempt in range(1, attempts + 1):  # virtual time may run out before a busy machine draws a frame
        flags = [f"--virtual-time-budget={15000 * attempt}", f"--user-data-dir={folder / f'profile{attempt}'}"]
        dom = subprocess.run([*command, *flags, address], capture_output=True, text=True, check=False, timeout=120).stdout
        title = re.search(r"<title>(.*?)</title>", dom, flags=re.S)[1]
        if title.startswith(("DONE", "ERROR")):
            break
    return title
