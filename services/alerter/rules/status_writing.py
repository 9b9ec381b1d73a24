"""What the leader tells of each resource, for `kubectl get`: accepted or why not, last fired, breaches in 24 hours.

It knows no cluster: where a status goes is handed over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from services.alerter.rules.counting import BreachTally, ReadBefore
from services.core.catalog.resources import Object, alert_rule_status, market_status, name_of
from services.core.catalog.watched import WatchedCatalog, WatchedRules
from services.core.clock import Clock
from services.core.errors import ClusterError, ClusterRefusedError, CursorExpiredError, StoreError
from services.core.model import SLOT_SECONDS, last_complete_slot
from services.core.polling import Polling
from services.core.telemetry import ResourceMetrics

INTERVAL_SECONDS = 2.0
"""How often what there is to tell is looked at; only what has changed is written."""

_LONGEST_PAUSE_SECONDS = 60.0

_log = logging.getLogger(__name__)

PutStatus = Callable[[Object, Mapping[str, Any]], None]
"""Replaces an object's status; raises ClusterError."""


@dataclass(frozen=True, slots=True)
class Reported:
    """What there is to report on: resources that are watched, and where the status of each kind goes."""

    rules: WatchedRules | None = None
    put_rule: PutStatus | None = None
    catalog: WatchedCatalog | None = None
    put_market: PutStatus | None = None

    def count_refused(self, metrics: ResourceMetrics) -> None:
        """Have the metrics tell how many objects of each kind are refused, whenever they are asked."""
        if self.catalog is not None:
            metrics.refused.labels("Market").set_function(self.catalog.judged.refused_count)
        if self.rules is not None:
            metrics.refused.labels("AlertRule").set_function(self.rules.judged.refused_count)


class StatusWriter:
    """A thread that writes statuses. It may be started and stopped again, as this process leads or does not."""

    def __init__(
        self,
        reported: Reported,
        *,
        tally: BreachTally,
        read_before: ReadBefore,
        clock: Clock,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self._reported = reported
        self._tally = tally
        self._read_before = read_before
        self._clock = clock
        self._leads = leads
        self._failures = 0
        self._refused = False
        self._polling = Polling(
            "tickwatch-statuses",
            self.step,
            interval_seconds=INTERVAL_SECONDS,
            longest_pause_seconds=_LONGEST_PAUSE_SECONDS,
        )

    def start(self) -> None:
        """Begin in a thread of its own; does nothing while there is one."""
        self._polling.start()

    def stop(self) -> None:
        """End the thread; returns when it has ended, at most one call later."""
        self._polling.stop()

    def step(self) -> bool:
        """Write every status that is not what it should be; return whether that could be done."""
        try:
            self._write_markets()
            self._write_rules()
        except (ClusterError, StoreError, CursorExpiredError) as error:
            if not self._failures:
                _log.warning("the status of resources cannot be kept: %s", error)
            self._failures += 1
        except Exception:  # noqa: BLE001 - it is logged
            # A defect must not end the thread silently: it shows in the log.
            if not self._failures:
                _log.exception("keeping the status of resources failed")
            self._failures += 1
        else:
            self._failures = 0
        return not self._failures

    def _write_markets(self) -> None:
        catalog, put = self._reported.catalog, self._reported.put_market
        if catalog is None or put is None:
            return
        for each, verdict in catalog.judged.pairs():
            self._write(each, market_status(each, verdict, self._clock.now()), put)

    def _write_rules(self) -> None:
        rules, put = self._reported.rules, self._reported.put_rule
        if rules is None or put is None:
            return
        counts = self._tally.counts(self._read_before, last_complete_slot(self._clock.now()))
        for each, verdict in rules.judged.pairs():
            count = counts.get(name_of(each))
            status = alert_rule_status(
                each,
                verdict,
                self._clock.now(),
                last_fired=count.last_breach * SLOT_SECONDS if count else None,
                breaches_24h=count.day_count if count else 0,
            )
            self._write(each, status, put)

    def _write(self, each: Object, status: Mapping[str, Any], put: PutStatus) -> None:
        if status == each.get("status") or self._polling.stopping or not self._leads():
            return
        try:
            put(each, status)
        except ClusterRefusedError as error:
            # The others' statuses are still told.
            if not self._refused:
                _log.warning("the status of a resource cannot be kept: %s", error)
            self._refused = True
