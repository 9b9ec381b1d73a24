"""AlertService on the wire: parses a request, asks, encodes the answer.

Streams and lists of breaches are served here; beside it, `servicer_rules` answers about rules, and `servicer_notifying`
about silences and dead letters.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence

from tickwatch.v1 import alert_pb2 as wire

from services.alerter.servicer_notifying import NotifyingMethods
from services.alerter.servicer_rules import RuleMethods
from services.alerter.streams.filtering import EventFilter
from services.alerter.streams.following import BreachBroadcast, LogFollower
from services.alerter.streams.listing import ListQuery, list_breaches
from services.alerter.streams.streaming import BreachQuery, BreachStreams
from services.core import names
from services.core.breach_documents import OpenEpisode
from services.core.breaches import LogEntry, Position
from services.core.errors import InvalidInputError, InvalidPageTokenError
from services.core.model import Metric, Slot
from services.core.rpc import convert_alerts, interceptors
from services.core.rpc.convert import from_wire_message, from_wire_time, to_wire_time
from services.core.rpc.interceptors import Context, Handler, Meter, StreamLimit
from services.core.rpc.paging import PageTokens, page_size
from services.core.rpc.server import RpcServer
from services.core.rpc.subscribing import subscribed
from services.core.rules import check_name
from services.core.store.base import BreachLog
from services.core.store.gate import StoreGate
from services.core.streaming import WatchTimes

SERVICE = "tickwatch.v1.AlertService"

MOST_FILTERED = 1000
LARGEST_PAGE = 1000

_POSITION = struct.Struct(">qI")

_METRIC_GLOB = re.compile(names.METRIC_GLOB)


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
        tokens: PageTokens,
        rules: RuleMethods,
        notifying: NotifyingMethods,
    ) -> None:
        self._log = log
        self._gate = gate
        self._tokens = tokens
        self._follower = follower
        self._broadcast = broadcast
        self._methods = {"ListBreaches": self.list_breaches, **rules.methods, **notifying.methods}
        self._streams = BreachStreams(log, follower, gate, times, _Encoder())

    def handlers(self, server: RpcServer, limit: StreamLimit) -> dict[str, Handler]:
        """Return the service's methods for a server."""
        handlers = {
            name: interceptors.unary(self._ready(method), Meter(server.metrics, SERVICE, name))
            for name, method in self._methods.items()
        }
        meter = Meter(server.metrics, SERVICE, "WatchBreaches", interceptors.SERVER_STREAM)
        handlers["WatchBreaches"] = interceptors.stream(self.watch_breaches, meter, limit, server.threads)
        return handlers

    def _ready(self, method: interceptors.UnaryBehavior) -> interceptors.UnaryBehavior:
        """Return the method, refused while evaluation has not caught up or the caller's time is over."""

        def answer(request: bytes, context: Context) -> bytes:
            interceptors.require_time(context)
            self._follower.require_state()
            return method(request, context)

        return answer

    def watch_breaches(self, request: bytes, context: Context) -> Iterator[bytes]:
        """WatchBreaches: subscribed first, then the snapshot, what the cursor has missed, and what comes."""
        asked = from_wire_message(wire.WatchBreachesRequest, request)
        query = BreachQuery(_from_wire_filter(asked, late=asked.include_late), asked.cursor)
        self._follower.require_state()
        with subscribed(self._broadcast, context) as subscriber:
            yield from self._streams.follow(query, subscriber, context.time_remaining)

    def list_breaches(self, request: bytes, context: Context) -> bytes:
        """ListBreaches."""
        asked = from_wire_message(wire.ListBreachesRequest, request)
        size = page_size(asked.page_size, largest=LARGEST_PAGE)
        start = from_wire_time(asked.start_time, "start_time") if asked.HasField("start_time") else None
        end = from_wire_time(asked.end_time, "end_time") if asked.HasField("end_time") else None
        token, arguments = asked.page_token, _arguments(asked)
        before = _from_position_payload(self._tokens.open("ListBreaches", arguments, token)) if token else None
        query = ListQuery(_from_wire_filter(asked, late=True), start, end, before)
        page = list_breaches(self._log, self._gate, query, size, context.time_remaining)
        response = wire.ListBreachesResponse(events=map(convert_alerts.to_wire_event, page.events))
        if page.before is not None:
            response.next_page_token = self._tokens.issue("ListBreaches", arguments, _POSITION.pack(*page.before))
        return response.SerializeToString()


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
    for field, given in (("rules", asked.rules), ("metrics", asked.metrics)):
        if len(given) > MOST_FILTERED:
            raise InvalidInputError(field, f"{len(given)} names", f"at most {MOST_FILTERED}, or none for all")
    for place, name in enumerate(asked.rules):
        check_name(name, f"rules[{place}]")
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


def _arguments(asked: wire.ListBreachesRequest) -> bytes:
    """Return what has to stay the same from page to page."""
    same = wire.ListBreachesRequest()
    same.CopyFrom(asked)
    same.ClearField("page_size")
    same.ClearField("page_token")
    return same.SerializeToString(deterministic=True)


def _from_position_payload(payload: bytes) -> Position:
    try:
        slot, ordinal = _POSITION.unpack(payload)
    except struct.error as error:  # a key shared with another version, which wrote another payload
        raise InvalidPageTokenError("was issued by another version of this service") from error
    return Position(Slot(slot), ordinal)


def _check_metric(name: str, field: str) -> None:
    try:
        Metric.parse(name)
    except InvalidInputError:
        raise InvalidInputError(
            field, f"{name!r} is neither a metric's name nor a glob", "KRAKEN:BTCUSD, or KRAKEN:* for a whole exchange"
        ) from None
