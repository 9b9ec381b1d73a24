"""AlertService on the wire: parses a request, asks, encodes the answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tickwatch.v1 import alert_pb2 as wire

from services.alerter.filtering import EventFilter
from services.alerter.following import BreachBroadcast, LogFollower
from services.alerter.streaming import BreachQuery, BreachStreams
from services.core.breach_documents import OpenEpisode
from services.core.breaches import LogEntry
from services.core.errors import InvalidInputError
from services.core.model import Metric, Slot
from services.core.rpc import convert_alerts, interceptors
from services.core.rpc.convert import from_wire_message, to_wire_time
from services.core.rpc.interceptors import Context, Handler, Meter, StreamLimit
from services.core.rpc.server import RpcServer
from services.core.rpc.subscribing import subscribed
from services.core.store.base import BreachLog
from services.core.store.gate import StoreGate
from services.core.streaming import WatchTimes

SERVICE = "tickwatch.v1.AlertService"

MOST_FILTERED = 1000

_RULE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_METRIC_GLOB = re.compile(r"[A-Z0-9_.:*?-]{0,64}[*?][A-Z0-9_.:*?-]{0,64}")


class AlertServicer:
    """The methods, each from bytes to bytes."""

    def __init__(
        self,
        *,
        log: BreachLog,
        follower: LogFollower,
        broadcast: BreachBroadcast,
        gate: StoreGate,
        times: WatchTimes,
    ) -> None:
        self._follower = follower
        self._broadcast = broadcast
        self._streams = BreachStreams(log, follower, gate, times, _Encoder())

    def handlers(self, server: RpcServer, limit: StreamLimit) -> dict[str, Handler]:
        """Return the service's methods for a server."""
        meter = Meter(server.metrics, SERVICE, "WatchBreaches", interceptors.SERVER_STREAM)
        return {"WatchBreaches": interceptors.stream(self.watch_breaches, meter, limit, server.threads)}

    def watch_breaches(self, request: bytes, context: Context) -> Iterator[bytes]:
        """WatchBreaches: subscribed first, then the snapshot, what the cursor has missed, and what comes."""
        asked = from_wire_message(wire.WatchBreachesRequest, request)
        query = BreachQuery(_from_wire_filter(asked, late=asked.include_late), asked.cursor)
        self._follower.require_state()
        with subscribed(self._broadcast, context) as subscriber:
            yield from self._streams.follow(query, subscriber, context.time_remaining)


class _Encoder:
    """Messages of WatchBreaches."""

    def snapshot(self, episodes: Sequence[OpenEpisode], evaluated: Slot, cursor: str) -> bytes:
        snapshot = wire.Snapshot(
            episodes=map(convert_alerts.to_wire_episode, episodes), evaluated_time=to_wire_time(evaluated)
        )
        return wire.WatchBreachesResponse(cursor=cursor, snapshot=snapshot).SerializeToString()

    def event(self, entry: LogEntry, cursor: str) -> bytes:
        event = convert_alerts.to_wire_event(entry.event)
        return wire.WatchBreachesResponse(cursor=cursor, event=event).SerializeToString()

    def bookmark(self, evaluated: Slot, cursor: str) -> bytes:
        bookmark = wire.Bookmark(evaluated_time=to_wire_time(evaluated))
        return wire.WatchBreachesResponse(cursor=cursor, bookmark=bookmark).SerializeToString()


def _from_wire_filter(asked: wire.WatchBreachesRequest | wire.ListBreachesRequest, *, late: bool) -> EventFilter:
    for field, names in (("rules", asked.rules), ("metrics", asked.metrics)):
        if len(names) > MOST_FILTERED:
            raise InvalidInputError(field, f"{len(names)} names", f"at most {MOST_FILTERED}, or none for all")
    for place, name in enumerate(asked.rules):
        if not _RULE_NAME.fullmatch(name):
            raise InvalidInputError(
                f"rules[{place}]", f"{name!r} is not a rule's name", "letters, digits, - and _, at most 64"
            )
    for place, name in enumerate(asked.metrics):
        if not _METRIC_GLOB.fullmatch(name):
            _check_metric(name, f"metrics[{place}]")
    return EventFilter(
        rules=frozenset(asked.rules),
        metrics=frozenset(asked.metrics),
        min_severity=convert_alerts.from_wire_min_severity(asked.min_severity),
        episodes_only=convert_alerts.from_wire_delivery(asked.delivery),
        late=late,
    )


def _check_metric(name: str, field: str) -> None:
    try:
        Metric.parse(name)
    except InvalidInputError:
        raise InvalidInputError(
            field, f"{name!r} is neither a metric's name nor a glob", "KRAKEN:BTCUSD, or KRAKEN:* for a whole exchange"
        ) from None
