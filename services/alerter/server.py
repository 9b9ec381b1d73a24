"""The alerter put together: rules evaluated, receivers notified, the log of breaches followed and served.

`open_alert_server` serves one log to gRPC callers from the moment it is entered; until evaluation has caught up, by
whichever replica, it is NOT_SERVING and says NOT_READY. It evaluates nothing: whoever does, in this process or in
another, appends to the log, and here may say so with `poke`. `open_alerter` is the whole: a server, and beside it
evaluation and notification for as long as this process leads.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from prometheus_client import CollectorRegistry

from services.alerter.leadership.leading import AlwaysLeads, Duties, Leadership
from services.alerter.live.engine import GRACE_SECONDS, Engine
from services.alerter.notifying.dead_letters import DeadLetters
from services.alerter.notifying.heartbeat import Switch
from services.alerter.notifying.notifier import Notifier
from services.alerter.notifying.silences import Silences
from services.alerter.notifying.webhooks import Receiver
from services.alerter.rules.counting import BreachTally
from services.alerter.rules.evidence import Evidence
from services.alerter.rules.rulebook import RuleBook
from services.alerter.rules.status_writing import Reported, StatusWriter
from services.alerter.servicer import SERVICE, AlertServicer
from services.alerter.servicer_notifying import NotifyingMethods
from services.alerter.servicer_rules import RuleMethods
from services.alerter.streams.following import BEHIND_SECONDS, BreachBroadcast, LogFollower
from services.core.clock import Clock, SystemClock
from services.core.rpc.running import RunningRole
from services.core.rpc.server import RpcServer
from services.core.rpc.serving import Serving
from services.core.store.base import MetricStore
from services.core.store.gate import StoreGate
from services.core.telemetry import AlertStreamMetrics, EvaluationMetrics, NotifierMetrics, ResourceMetrics


class AlertServer(RunningRole):
    """A running AlertService; it is ready once evaluation has caught up."""

    def __init__(self, rpc: RpcServer, follower: LogFollower, broadcast: BreachBroadcast, tally: BreachTally) -> None:
        super().__init__(rpc, follower.caught_up, broadcast.close)
        self._follower = follower
        self.broadcast = broadcast
        self.tally = tally

    def poke(self) -> None:
        """Have the log read at once, because it has just been appended to; from any thread."""
        self._follower.poke()


@asynccontextmanager
async def open_alert_server(
    serving: Serving,
    *,
    store: MetricStore,
    rules: RuleBook,
    silences: Silences | None = None,
    clock: Clock | None = None,
    registry: CollectorRegistry | None = None,
    poll_interval_seconds: float = 1.0,
    behind_seconds: float = BEHIND_SECONDS,
) -> AsyncIterator[AlertServer]:
    """Serve a store's log of breaches; on exit drain, unless that was done before.

    `rules` are those that are told of and tried out; whoever evaluates should have the same. `silences` may be given
    where somebody in this process asks them too. `poll_interval_seconds` is how often the log is asked for what others
    have appended. The health turns when evaluation, or the reading of the log, is more than `behind_seconds` behind
    the clock.

    Raises InvalidSettingError for an address that cannot be listened on. The store stays the caller's to close.
    """
    clock = clock or SystemClock()
    registry = registry or CollectorRegistry()
    metrics = AlertStreamMetrics(registry)
    log = store.breach_log
    silences = silences or Silences(log, clock)
    gate = StoreGate(store.url, permits=serving.store_permits)
    broadcast = BreachBroadcast(metrics.dropped_subscribers.inc, capacity=serving.queue_batches)
    async with AsyncExitStack() as stack:
        rpc = RpcServer(serving, services=(SERVICE,), registry=registry, clock=clock)
        tally = BreachTally()
        follower = LogFollower(
            log,
            broadcast,
            clock=clock,
            metrics=metrics,
            on_health=rpc.health.set,
            on_begin=tally.restart,
            on_entries=tally.add,
            poll_interval_seconds=poll_interval_seconds,
            behind_seconds=behind_seconds,
        )
        tokens = serving.page_tokens()
        evidence = Evidence(reader=store, log=log, gate=gate, rules=rules, silences=silences, tally=tally, clock=clock)
        servicer = AlertServicer(
            log=log,
            follower=follower,
            broadcast=broadcast,
            gate=gate,
            times=serving.watch_times,
            tokens=tokens,
            rules=RuleMethods(evidence, follower),
            notifying=NotifyingMethods(silences, DeadLetters(log, clock), gate, tokens),
        )
        rpc.add_service(SERVICE, servicer.handlers(rpc, serving.stream_limit()))
        metrics.behind_seconds.set_function(lambda: follower.behind_seconds)
        metrics.follower_lag_seconds.set_function(lambda: follower.lag_seconds)
        server = AlertServer(rpc, follower, broadcast, tally)
        stack.push_async_callback(asyncio.to_thread, follower.stop)
        stack.push_async_callback(server.drain)
        rpc.start()
        follower.start()
        yield server


@asynccontextmanager
async def open_alerter(
    serving: Serving,
    *,
    store: MetricStore,
    rules: RuleBook,
    receivers: Sequence[Receiver] = (),
    switch: Switch | None = None,
    leadership: Leadership | None = None,
    reported: Reported | None = None,
    clock: Clock | None = None,
    registry: CollectorRegistry | None = None,
    poll_interval_seconds: float = 1.0,
    missing_grace_seconds: float = GRACE_SECONDS,
) -> AsyncIterator[AlertServer]:
    """Serve a store's log of breaches, and evaluate `rules` and notify for as long as this process leads.

    `receivers` get events by webhook, `switch` a sign of life while evaluation keeps up. `leadership` decides who
    leads, None: always this process. `reported` are resources whose status the leader keeps. `poll_interval_seconds`
    is how often the store is asked for points, and the log for what others have appended; `missing_grace_seconds` how
    long after a slot's end its points may come before they count as missing.

    On exit another may lead at once, while the streams here are still ending. Raises what `open_alert_server` raises.
    """
    clock = clock or SystemClock()
    registry = registry or CollectorRegistry()
    leadership = leadership or AlwaysLeads()
    log = store.breach_log
    silences = Silences(log, clock)
    opened = open_alert_server(
        serving,
        store=store,
        rules=rules,
        silences=silences,
        clock=clock,
        registry=registry,
        poll_interval_seconds=poll_interval_seconds,
    )
    async with opened as server:
        notifier = Notifier(
            log,
            receivers,
            clock=clock,
            metrics=NotifierMetrics(registry),
            switch=switch,
            healthy=lambda: server.serving,
            leads=leadership.holds,
        )

        def appended() -> None:
            server.poke()
            notifier.poke()

        evaluation = EvaluationMetrics(registry)
        evaluation.leads.set_function(leadership.holds)
        engine = Engine(
            reader=store,
            log=log,
            rules=rules,
            clock=clock,
            metrics=evaluation,
            silenced=silences.silenced,
            on_append=appended,
            leads=leadership.holds,
            poll_interval_seconds=poll_interval_seconds,
            grace_seconds=missing_grace_seconds,
        )
        statuses = StatusWriter(
            reported or Reported(),
            tally=server.tally,
            read_before=log.read_before,
            clock=clock,
            leads=leadership.holds,
        )
        if reported is not None:
            reported.count_refused(ResourceMetrics(registry))
        duties = Duties(engine, notifier, *([statuses] if reported else []))
        leadership.start(duties.take_up, duties.lay_down)
        try:
            yield server
        finally:
            await asyncio.gather(server.drain(), asyncio.to_thread(leadership.stop))
