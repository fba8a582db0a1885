"""A real headless browser for tests of pages; they are skipped where there is none."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

LIMIT_S = 240.0
"""wall clock for one page, the browser's start included; a busy machine needs a large part of a minute"""
SETTLED = "new Promise((done) => requestAnimationFrame(() => setTimeout(() => done(document.title), 500)))"
REPLACED = re.compile("context|navigated")
"""In the errors of a page that is being replaced by the next, as about:blank is at first; not in those of one that crashed"""
# the browser's end of the DevTools pipe must be its descriptors 3 and 4
LAUNCH = ["sh", "-c", 'exec "$0" "$@" 3<&0 4>&1 </dev/null >&2']
FLAGS = [
    "--headless", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-first-run", "--disable-quic",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1200,900",
    "--enable-logging=stderr", "--remote-debugging-pipe",
]  # fmt: skip


def browse(address: str, folder: Path) -> str:
    """The title that the page at ``address`` gives itself, which must start with DONE or ERROR.

    The page runs in real time. Chromium's virtual time (``--virtual-time-budget``) waits for requests but not for frames: while
    one is drawn it runs through all of the budget, however large, and the page is taken before its requestAnimationFrame.
    """
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium or google-chrome on this machine")
    seen = ""
    with tempfile.TemporaryFile() as printed:
        try:
            with _started([browser, *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"], printed) as tools:
                page = tools.open_page(address)
                while not seen.startswith(("DONE", "ERROR")):
                    time.sleep(0.1)
                    seen = tools.evaluate(page, "document.title") or seen
                return tools.evaluate(page, SETTLED) or seen  # an error right after DONE still counts
        except (EOFError, RuntimeError) as error:
            printed.seek(0)
            text = printed.read().decode(errors="replace")[-6000:]
            pytest.fail(f"{address}: {error}; its last title, expected DONE or ERROR: {seen!r}; the browser printed:\n{text}")


@contextlib.contextmanager
def _started(command: list[str], printed: IO[bytes]) -> Iterator[_DevTools]:
    process = subprocess.Popen(
        [*LAUNCH, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=printed, bufsize=0, start_new_session=True
    )

    def kill() -> None:  # with all its helpers; the group exists at least until wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    watch = threading.Timer(LIMIT_S, kill)  # then the pipe ends, and with it whatever waits for an answer
    watch.start()
    try:
        yield _DevTools(process)
    finally:
        watch.cancel()
        watch.join()
        kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


class _DevTools:
    """The DevTools protocol over a pipe: JSON messages, each ended by a zero byte."""

    def __init__(self, process: subprocess.Popen) -> None:
        self.process, self.start = process, time.monotonic()
        self.numbers, self.received = itertools.count(1), bytearray()

    def open_page(self, address: str) -> str:
        """Open a page in front; its session."""
        target = self.ask("Target.createTarget", {"url": address})["targetId"]
        return self.ask("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]

    def evaluate(self, page: str, expression: str) -> str | None:
        """What a JavaScript expression, or the promise that it is, comes to; None while the page is being replaced."""
        try:
            answer = self.ask("Runtime.evaluate", {"expression": expression, "awaitPromise": True}, sessionId=page)
        except RuntimeError as error:
            if REPLACED.search(str(error)):
                return None
            raise
        return answer["result"].get("value")

    def ask(self, method: str, parameters: dict, **session: str) -> dict:
        """The result of one request. RuntimeError where there is none, EOFError where the browser has ended."""
        number = next(self.numbers)
        try:
            self.process.stdin.write(
                json.dumps({"id": number, "method": method, "params": parameters, **session}).encode() + b"\0"
            )
        except BrokenPipeError:
            self._ended()
        while (message := self._receive()).get("id") != number:
            pass  # an event
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']}")
        return message["result"]

    def _receive(self) -> dict:
        while (end := self.received.find(b"\0")) < 0:
            chunk = self.process.stdout.read(1 << 20)
            if not chunk:
                self._ended()
            self.received += chunk
        message = json.loads(self.received[:end])
        del self.received[: end + 1]
        return message

    def _ended(self) -> None:
        seconds = time.monotonic() - self.start
        raise EOFError(f"stopped after {seconds:.0f} s" if seconds >= LIMIT_S else f"browser ended after {seconds:.0f} s")
