"""A sign of life to a dead man's switch: it comes while rules are evaluated, and else it stays away.

Whoever receives it raises the alarm when it is missing, so that the alerter's own failure is noticed too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from services.alerter.notifying.webhooks import Outcome, Send, unsaid
from services.core.clock import Clock
from services.core.telemetry import NotifierMetrics

TIMEOUT_SECONDS = 10.0
REPEAT_SECONDS = 10.0
"""After one that failed the next follows sooner: a lost one need not become an alarm."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Switch:
    """Where signs of life go, and how often. The address does not show in its representation."""

    url: str = field(repr=False)
    interval_seconds: float = 60.0
    method: str = "POST"


class Heartbeat:
    """The signs of life to one switch; before each, `healthy` says whether all is well. It must not block."""

    def __init__(
        self, switch: Switch, send: Send, healthy: Callable[[], bool], *, clock: Clock, metrics: NotifierMetrics
    ) -> None:
        self._switch = switch
        self._send = send
        self._healthy = healthy
        self._clock = clock
        self._metrics = metrics
        self._due = 0.0
        self._pause = 0.0
        self._last = Outcome.DELIVERED
        self._well = True

    async def step(self) -> float:
        """Give a sign if one is due; return in how many seconds the next is. Raises only when cancelled."""
        began = self._clock.now()
        left = min(self._due - began, self._pause)
        if left > 0:
            return left
        self._pause = await self._beat()
        # From its begin on, so that a slow answer does not make the interval longer.
        self._due = began + self._pause
        return self._pause

    async def _beat(self) -> float:
        interval = self._switch.interval_seconds
        well = self._is_well()
        if well != self._well:
            _log.log(
                logging.INFO if well else logging.WARNING,
                "signs of life go out again" if well else "no signs of life go out: evaluation is behind",
            )
            self._well = well
        if not well:
            self._metrics.heartbeats.labels("withheld").inc()
            # Looked at more often, so that the alarm ends soon after all is well.
            return min(interval, REPEAT_SECONDS)
        answer = await self._send(self._switch.method, self._switch.url, {}, b"", min(TIMEOUT_SECONDS, interval))
        delivered = answer.outcome is Outcome.DELIVERED
        if not delivered and self._last is Outcome.DELIVERED:
            _log.warning("a sign of life did not arrive: %s", unsaid(answer.words, self._switch.url))
        self._last = answer.outcome
        self._metrics.heartbeats.labels("sent" if delivered else "failed").inc()
        return interval if delivered else min(interval, REPEAT_SECONDS)

    def _is_well(self) -> bool:
        try:
            return self._healthy()
        except Exception:  # noqa: BLE001 - it is logged, and shows in the switch
            _log.exception("asking for health failed")
            return False
