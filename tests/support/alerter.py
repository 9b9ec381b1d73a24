"""An alert service on a store whose log of breaches the test appends to, as an alerter does."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeAlias

import grpc
from tickwatch.v1 import alert_pb2 as wire
from tickwatch.v1 import alert_pb2_grpc

from services.alerter.rules.rulebook import RuleBook
from services.alerter.server import AlertServer, open_alert_server
from services.alerter.streams.filtering import ends_episode
from services.core.breach_documents import AlertState, OpenEpisode, state_from_text, state_text
from services.core.breaches import (
    Checkpoint,
    Event,
    EventKind,
    LogEntry,
    Position,
    ResolvedReason,
    Severity,
    Subject,
)
from services.core.catalog.base import FixedCatalog
from services.core.catalog.rule_source import FixedRules, RuleSource
from services.core.clock import ManualClock
from services.core.model import Measure, Slot
from services.core.rules import DEFAULT_RULES
from services.core.store.base import BreachLog, MetricStore
from tests.support.query import LAST, NOW, apart

Stream: TypeAlias = "grpc.aio.UnaryStreamCall[wire.WatchBreachesRequest, wire.WatchBreachesResponse]"

RULE = "three-times-the-hour"


def subject(metric: str = "SIM:AAA", measure: Measure = Measure.PRICE) -> Subject:
    """Return a series as a subject."""
    return Subject(metric.partition(":")[0], metric, measure)


def breach(metric: str = "SIM:AAA", slot: int = LAST, opened: int | None = None, **fields: Any) -> Event:
    """Return a breach with evidence; it opens its episode unless `opened` says otherwise."""
    given: dict[str, Any] = {
        "kind": EventKind.BREACH,
        "rule": RULE,
        "rule_version": "0123456789ab",
        "severity": Severity.WARNING,
        "subject": subject(metric),
        "slot": Slot(slot),
        "opened_slot": Slot(slot if opened is None else opened),
        "value": 400.0,
        "baseline": 100.0,
        "ratio": 4.0,
        "threshold": 300.0,
        "point_count": 60,
        "message": f"{metric} price is 4.0 times its average",
        **fields,
    }
    return Event(**given)


def resolved(opening: Event, slot: int, reason: ResolvedReason = ResolvedReason.CALM, **fields: Any) -> Event:
    """Return the end of the episode that this event belongs to."""
    return dataclasses.replace(opening, kind=EventKind.RESOLVED, slot=Slot(slot), reason=reason, **fields)


def stale(opening: Event, slot: int, **fields: Any) -> Event:
    """Return the going stale of the episode that this event belongs to."""
    return dataclasses.replace(opening, kind=EventKind.STALE, slot=Slot(slot), **fields)


def withdrawn(event: Event) -> Event:
    """Return the event that takes this one back."""
    return dataclasses.replace(event, kind=EventKind.WITHDRAWN, withdrawn_id=event.id, late=True)


def episodes_after(episodes: Iterable[OpenEpisode], events: Iterable[Event]) -> tuple[OpenEpisode, ...]:
    """Return what is open after these events."""
    still_open = {episode.opening.episode_id: episode for episode in episodes}
    for event in events:
        known = still_open.get(event.episode_id)
        if event.opening:
            still_open[event.episode_id] = OpenEpisode(event, stale=False, breach_count=1, last_breach_slot=event.slot)
        elif ends_episode(event):
            still_open.pop(event.episode_id, None)
        elif known and event.kind is EventKind.STALE:
            still_open[event.episode_id] = dataclasses.replace(known, stale=True)
        elif known and event.kind is EventKind.BREACH:
            still_open[event.episode_id] = dataclasses.replace(
                known, stale=False, breach_count=known.breach_count + 1, last_breach_slot=event.slot
            )
    return tuple(still_open.values())


class LogWriter:
    """The one who appends to a log: everything up to `LAST` is evaluated at once, with nothing in it."""

    def __init__(self, log: BreachLog, evaluated: int = LAST, *, live_from: int = 0) -> None:
        self.log = log
        checkpoint = log.checkpoint()
        if checkpoint is None:
            self.state = AlertState(Slot(evaluated), Slot(evaluated), {RULE: "0123456789ab"}, live_from=Slot(live_from))
            self.end = Position(Slot(evaluated), 0)
            log.append(None, (), Checkpoint(self.end, state_text(self.state)))
        else:
            self.state, self.end = state_from_text(checkpoint.state), checkpoint.end

    def append(self, *events: Event, evaluated: int | None = None) -> list[LogEntry]:
        """Append events in this order, and move evaluation on to `evaluated` where it is given."""
        slot = Slot(max(self.end.slot, self.state.evaluated if evaluated is None else evaluated))
        first = self.end.ordinal if slot == self.end.slot else 0
        entries = [LogEntry(Position(slot, first + place), event) for place, event in enumerate(events)]
        self.state = dataclasses.replace(
            self.state,
            evaluated=Slot(self.state.evaluated if evaluated is None else evaluated),
            episodes=episodes_after(self.state.episodes, events),
        )
        end = Position(slot, first + len(events))
        self.log.append(self.end, entries, Checkpoint(end, state_text(self.state)))
        self.end = end
        return entries


def many(count: int, start: int = LAST) -> list[Event]:
    """Return so many breaches, each of an episode of its own."""
    return [breach(f"SIM:P{number:05d}", start) for number in range(count)]


class AlertService(NamedTuple):
    """A running alert service and a raw stub on it."""

    server: AlertServer
    stub: alert_pb2_grpc.AlertServiceAsyncStub
    channel: grpc.aio.Channel
    clock: ManualClock

    def watch(self, **request: Any) -> Stream:
        """Open a stream."""
        call: Stream = self.stub.WatchBreaches(wire.WatchBreachesRequest(**request))
        return call


@asynccontextmanager
async def serve(store: MetricStore, **options: Any) -> AsyncIterator[AlertService]:
    """Serve a store's log on a free port until the context ends, following it every 10 ms; `wait` until caught up.

    `rules` are told to be in force, the series of `markets` to be expected.
    """
    clock = options.pop("clock", None) or ManualClock(NOW)
    wait = options.pop("wait", True)
    source = options.pop("rules", DEFAULT_RULES)
    source = source if isinstance(source, RuleSource) else FixedRules(source)
    rules = RuleBook(source, FixedCatalog(*options.pop("markets", ())), clock)
    serving, settings = apart(options)
    async with open_alert_server(serving, store=store, rules=rules, clock=clock, **settings) as server:
        if wait:
            async with asyncio.timeout(20):
                await server.ready()
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub: alert_pb2_grpc.AlertServiceAsyncStub = alert_pb2_grpc.AlertServiceStub(channel)
            yield AlertService(server, stub, channel, clock)


async def read(stream: Stream, kind: str = "") -> wire.WatchBreachesResponse:
    """Return the next message, or the next of a kind: snapshot, event or bookmark."""
    async with asyncio.timeout(20):
        while True:
            message = await stream.read()
            assert isinstance(message, wire.WatchBreachesResponse), "the stream has ended"
            if not kind or message.WhichOneof("content") == kind:
                return message


async def read_events(stream: Stream, count: int) -> list[wire.WatchBreachesResponse]:
    """Return the next so many events' messages."""
    return [await read(stream, "event") for _ in range(count)]


async def read_on(stream: Stream) -> list[wire.WatchBreachesResponse]:
    """Return all further messages of a stream that ends; raise what it ends with unless that is OK."""
    messages = []
    async with asyncio.timeout(20):
        while isinstance(message := await stream.read(), wire.WatchBreachesResponse):
            messages.append(message)
    return messages


def ids(messages: Iterable[wire.WatchBreachesResponse]) -> list[str]:
    """Return the ids of the events among messages, in order."""
    return [message.event.id for message in messages if message.WhichOneof("content") == "event"]
