"""A thread that polls: it steps at once and again, waits longer after failures, and ends when it is told to."""

from __future__ import annotations

import threading

from services.core.polling import Polling

PATIENCE_SECONDS = 60


def test_it_may_be_started_and_stopped_again():
    """Each start begins with a step, a second start changes nothing, and once stopped nothing steps any more."""
    steps: list[str] = []
    stepped = threading.Semaphore(0)

    def step() -> bool:
        steps.append(threading.current_thread().name)
        stepped.release()
        return True

    polling = Polling("tickwatch-polling", step, interval_seconds=3600, longest_pause_seconds=3600)
    for _ in range(2):
        polling.start()
        polling.start()
        assert stepped.acquire(timeout=PATIENCE_SECONDS)
        assert not polling.stopping
        polling.stop()
        polling.stop()
        assert polling.stopping

    assert steps == ["tickwatch-polling"] * 2


def test_failures_are_followed_by_longer_pauses(monkeypatch):
    """Each failure in a row doubles the pause up to the longest; a success brings the interval back."""
    outcomes = iter([True, False, False, False, True, True])
    pauses: list[float] = []
    ended = threading.Event()

    class Clock(threading.Event):
        def wait(self, timeout=None):
            pauses.append(timeout)
            if len(pauses) == 6:
                self.set()
                ended.set()
            return True

    polling = Polling("tickwatch-polling", lambda: next(outcomes), interval_seconds=2, longest_pause_seconds=9)
    monkeypatch.setattr(polling, "_stop", Clock())
    polling.start()
    assert ended.wait(PATIENCE_SECONDS)
    polling.stop()

    assert pauses == [2, 4, 8, 9, 2, 2]
