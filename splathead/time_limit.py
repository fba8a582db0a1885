"""``--time_limit``: when a process stops starting new work, so that what is made stays and the next run resumes."""

from __future__ import annotations

import time

TIME_LIMIT_EXIT = 75
"""Exit code of a script that its time limit ended (EX_TEMPFAIL): run it again to resume"""


class TimeLimitReached(RuntimeError):
    """A stage's time limit is up and work is left; what was made stays."""


class Deadline:
    """When this process stops starting new work: never, until :meth:`set`."""

    def __init__(self) -> None:
        self._end: float | None = None

    def set(self, seconds: float) -> None:
        """End in ``seconds`` from now; 0 = never."""
        self._end = time.time() + seconds if seconds else None

    @property
    def end(self) -> float | None:
        """Time of day (``time.time()``) at which it ends, to be told to other processes; None = never."""
        return self._end

    @end.setter
    def end(self, end: float | None) -> None:
        self._end = end

    @property
    def is_set(self) -> bool:
        """True when there is a limit."""
        return self._end is not None

    @property
    def passed(self) -> bool:
        """True when the time is up."""
        return self._end is not None and time.time() >= self._end


DEADLINE = Deadline()
"""The process's own, set from ``--time_limit``"""
