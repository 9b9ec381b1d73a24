"""The client of the alert service: what moves out of line, why it did, and whether a rule would have fired.

A client of its own beside `Client`, because the two services have an address, a load and a readiness each: who only
listens for alerts needs no query service, and an error is always about the one address that was given.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING

from tickwatch import alert_messages as messages
from tickwatch import channels, watching
from tickwatch.alert_results import (
    Bookmark,
    BreachPage,
    DeadLetter,
    Event,
    Explanation,
    Rule,
    Rules,
    RuleTest,
    Selector,
    Silence,
    Snapshot,
)
from tickwatch.channels import Options
from tickwatch.connection import Connection
from tickwatch.credentials import Credentials
from tickwatch.messages import choice, duration, texts, timestamp
from tickwatch.v1 import alert_pb2 as wire
from tickwatch.v1 import alert_pb2_grpc, query_pb2

if TYPE_CHECKING:
    from tickwatch.messages import Time

_PAGE_SIZE = 1000


class AlertClient(Connection):
    """A connection to the alert service; its arguments are those of `Client`.

    Use it as an async context manager, or `close` it. Every method raises `tickwatch.Error`.
    """

    def __init__(
        self,
        target: str = "127.0.0.1:50052",
        *,
        timeout_seconds: float = 5.0,
        credentials: Credentials | None = None,
        options: Options = (),
    ) -> None:
        super().__init__(channels.ALERT, target, timeout_seconds, credentials, options)

    async def watch_breaches(
        self,
        rules: Iterable[str] = (),
        metrics: Iterable[str] = (),
        *,
        min_severity: str | None = None,
        delivery: str | None = None,
        include_late: bool = False,
        cursor: str | None = None,
        bookmarks: bool = False,
        on_retry: watching.OnRetry | None = None,
    ) -> AsyncGenerator[Snapshot | Event | Bookmark, None]:
        """Yield a snapshot of the open episodes, then events as they are found, for ever.

        A broken stream is opened again where it stopped. `rules` and `metrics` narrow it, by name, metrics by glob too;
        so does `min_severity` (info, warning or critical). `delivery` is every_breach, the default, or episodes: only
        what changes an episode. With `include_late`, what late points changed comes too. `cursor`, had earlier, resumes
        after its event. With `bookmarks`, a sign of life comes at least every 15 s, which says how far rules have been
        evaluated. `on_retry(error, pause_seconds)` is told of every break. Delivery is at least once; a repeated event
        has the same id.

        Raises CursorExpiredError when the service cannot resume without a gap, and UnavailableError when nobody has
        answered within the client's timeout since the beginning. To end a watch early without leaving its call to the
        garbage collector, use it within `contextlib.aclosing`.
        """
        request = wire.WatchBreachesRequest(
            cursor=cursor or "",
            rules=texts("rules", rules),
            metrics=texts("metrics", metrics),
            min_severity=choice("min_severity", min_severity, wire.Severity),
            delivery=choice("delivery", delivery, wire.Delivery),
            include_late=include_late,
        )
        stream = watching.watch(
            lambda request: self._open_stream(self._stub(streaming=True).WatchBreaches, request),
            request,
            wanted=lambda message: bookmarks or not message.HasField("bookmark"),
            patience_seconds=self._timeout_seconds,
            on_retry=on_retry,
        )
        began = False
        async with aclosing(stream) as answers:
            async for answer in answers:
                content = messages.content_of(answer)
                if isinstance(content, Snapshot) and began:
                    # The watch goes on where it was: whoever keeps the open episodes has all that changes them.
                    content = Bookmark(content.cursor, content.evaluated_time) if bookmarks else None
                if content is not None:
                    began = True
                    yield content

    async def list_breaches(
        self,
        rules: Iterable[str] = (),
        metrics: Iterable[str] = (),
        *,
        min_severity: str | None = None,
        delivery: str | None = None,
        start: Time | None = None,
        end: Time | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Yield the events of slots in [start, end), the newest first, late ones included; else all that are kept.

        Filters are those of `watch_breaches`. Times are whole minutes, aware or numpy's (UTC).
        """
        request = _list_request(rules, metrics, min_severity=min_severity, delivery=delivery, start=start, end=end)
        request.page_size = _PAGE_SIZE
        while True:
            page = await self._call(self._stub().ListBreaches, request)
            for event in page.events:
                yield messages.event_of(event)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def list_breaches_page(
        self,
        rules: Iterable[str] = (),
        metrics: Iterable[str] = (),
        *,
        min_severity: str | None = None,
        delivery: str | None = None,
        start: Time | None = None,
        end: Time | None = None,
        page_size: int | None = None,
        page_token: str = "",
    ) -> BreachPage:
        """Return one page of what `list_breaches` yields, for whoever hands pages on.

        `page_size` is how many events at most, 100 if it is left out and never more than 1000. `page_token` is the
        previous page's `next_page_token`; the filters must be as they were for that page.
        """
        request = _list_request(rules, metrics, min_severity=min_severity, delivery=delivery, start=start, end=end)
        request.page_size, request.page_token = page_size or 0, page_token
        page = await self._call(self._stub().ListBreaches, request)
        return BreachPage(tuple(map(messages.event_of, page.events)), page.next_page_token)

    async def list_rules(self) -> Rules:
        """Return the rules in force, how each fares, and the silences."""
        return messages.rules_of(await self._call(self._stub().ListRules, wire.ListRulesRequest()))

    async def test_rule(
        self,
        rule: Rule | str,
        *,
        start: Time | None = None,
        end: Time | None = None,
        max_events: int | None = None,
    ) -> RuleTest:
        """Run a rule, or the one in force of this name, over stored history, and return what it would have fired.

        The range is [start, end), at most 31 days; without times it is the last 24 hours. All breaches are counted, but
        only the first `max_events` (1000) returned. Nothing is changed and nobody notified.
        """
        request = wire.TestRuleRequest(
            start_time=timestamp("start_time", start), end_time=timestamp("end_time", end), max_events=max_events or 0
        )
        if isinstance(rule, str):
            request.rule_name = rule
        else:
            request.rule.CopyFrom(messages.rule_message(rule))
        return messages.rule_test_of(await self._call(self._stub().TestRule, request))

    async def explain(self, rule: str, metric: str, measure: str, time: Time | None = None) -> Explanation:
        """Say why a rule in force did or did not fire on a series at a slot, the last that was evaluated by default."""
        request = wire.ExplainSeriesRequest(
            rule=rule,
            metric=metric,
            measure=choice("measure", measure, query_pb2.Measure),
            time=timestamp("time", time),
        )
        return messages.explanation_of(await self._call(self._stub().ExplainSeries, request))

    async def create_silence(
        self,
        length: dt.timedelta,
        *,
        rules: Iterable[str] = (),
        selector: Selector | None = None,
        comment: str = "",
    ) -> Silence:
        """Keep a selection of breaches from being notified, from now on for this length of time: 1 minute to 30 days.

        `rules` are names or globs; without them it is all rules, without a selector all series. Streams and the log
        still have the breaches, marked.
        """
        request = wire.CreateSilenceRequest(
            rules=texts("rules", rules),
            selector=None if selector is None else messages.selector_message(selector),
            duration=duration("length", length),
            comment=comment,
        )
        return messages.silence_of((await self._call(self._stub().CreateSilence, request)).silence)

    async def expire_silence(self, silence_id: str) -> None:
        """End a silence at once; raises NotFoundError where none of this id holds."""
        await self._call(self._stub().ExpireSilence, wire.ExpireSilenceRequest(id=silence_id))

    async def list_dead_letters(self) -> AsyncGenerator[DeadLetter, None]:
        """Yield the notifications that were given up, the newest first; those queued for sending anew left out."""
        request = wire.ListDeadLettersRequest(page_size=_PAGE_SIZE)
        while True:
            page = await self._call(self._stub().ListDeadLetters, request)
            for letter in page.dead_letters:
                yield messages.dead_letter_of(letter)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def resend_dead_letters(self, ids: Iterable[str] = ()) -> int:
        """Queue dead letters for sending anew, all where no ids are given; return how many.

        Raises NotFoundError, and queues nothing, where one of them does not exist.
        """
        request = wire.ResendDeadLettersRequest(ids=texts("ids", ids))
        return (await self._call(self._stub().ResendDeadLetters, request)).queued_count

    def _stub(self, *, streaming: bool = False) -> alert_pb2_grpc.AlertServiceAsyncStub:
        return self._stub_of(alert_pb2_grpc.AlertServiceStub, streaming=streaming)


def _list_request(
    rules: Iterable[str],
    metrics: Iterable[str],
    *,
    min_severity: str | None,
    delivery: str | None,
    start: Time | None,
    end: Time | None,
) -> wire.ListBreachesRequest:
    return wire.ListBreachesRequest(
        rules=texts("rules", rules),
        metrics=texts("metrics", metrics),
        min_severity=choice("min_severity", min_severity, wire.Severity),
        delivery=choice("delivery", delivery, wire.Delivery),
        start_time=timestamp("start_time", start),
        end_time=timestamp("end_time", end),
    )
