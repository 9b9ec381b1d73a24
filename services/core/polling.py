"""A thread that does one step after another until it is stopped, waiting longer while steps fail.

It knows nothing of what a step does; whoever composes it says how often there is something to look at.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

_MOST_DOUBLINGS = 10


class Polling:
    """Steps in a thread of its own, named `name`; it may be started and stopped again.

    `step()` returns whether it has succeeded, and never raises. After a success the next one follows in
    `interval_seconds`; each failure in a row doubles the pause, up to `longest_pause_seconds`.
    """

    def __init__(
        self, name: str, step: Callable[[], bool], *, interval_seconds: float, longest_pause_seconds: float
    ) -> None:
        self._name = name
        self._step = step
        self._interval = interval_seconds
        self._longest_pause = longest_pause_seconds
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def stopping(self) -> bool:
        """Whether `stop` has been called, and `start` not since then: for a step that may end early."""
        return self._stop.is_set()

    def start(self) -> None:
        """Begin with a step at once; does nothing while there is a thread."""
        if self._thread is not None:
            return
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; returns when it has ended, at most one step later. Called again it does nothing."""
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            failures = 0 if self._step() else failures + 1
            pause = self._interval * 2 ** min(failures, _MOST_DOUBLINGS)
            self._stop.wait(min(pause, max(self._longest_pause, self._interval)))
