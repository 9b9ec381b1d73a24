"""Who evaluates and notifies: one process of all that serve streams from one log.

The seam between the alerter and whatever chooses among replicas. Where there is one process, it is always that one; a
cluster has a lease. Nothing breaks where two lead for a moment: the log takes an append from one of them at a time, and
both find the same events under the same ids.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

_log = logging.getLogger(__name__)


class Leadership(Protocol):
    """Decides whether this process leads, and tells whoever has started it.

    `take_up` and `lay_down` are called in turn, never two at once, from any thread; each returns once it is done, which
    takes seconds. A leader that hears nothing from where leadership is decided has to call
    `lay_down` before another may lead.
    """

    def start(self, take_up: Callable[[], None], lay_down: Callable[[], None]) -> None:
        """Begin to stand for leadership; returns at once."""

    def holds(self) -> bool:
        """Whether this process leads at this very moment. Never blocks; what is to be done only once asks right before.

        It turns false before another may lead, also while `lay_down` waits for a step to end.
        """

    def stop(self) -> None:
        """Stand down: `lay_down` if this process leads, then let another lead. Called again it does nothing."""


class AlwaysLeads:
    """The leadership of a process that is alone."""

    def __init__(self) -> None:
        self._lay_down: Callable[[], None] | None = None

    def start(self, take_up: Callable[[], None], lay_down: Callable[[], None]) -> None:
        """Lead at once."""
        self._lay_down = lay_down
        take_up()

    def holds(self) -> bool:
        """Say yes from `start` to `stop`."""
        return self._lay_down is not None

    def stop(self) -> None:
        """Lead no more."""
        if self._lay_down is not None:
            self._lay_down()
        self._lay_down = None


class Duty(Protocol):
    """Something that the leader alone does, in a thread of its own; it may be started and stopped again."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """End; returns once nothing of it is under way."""


class Duties:
    """What the leader does: evaluate, notify receivers of what is found, and whatever else only one may."""

    def __init__(self, *duties: Duty) -> None:
        self._duties = duties

    def take_up(self) -> None:
        """Begin them all."""
        _log.info("this process evaluates and notifies")
        for duty in self._duties:
            duty.start()

    def lay_down(self) -> None:
        """End them all at the same time, so that none goes on while another ends; returns once nothing is under way."""
        with ThreadPoolExecutor(len(self._duties), thread_name_prefix="tickwatch-ending") as pool:
            for ending in [pool.submit(duty.stop) for duty in self._duties]:
                ending.result()
        _log.info("this process no longer evaluates and notifies")
