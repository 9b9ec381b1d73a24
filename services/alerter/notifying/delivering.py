"""One receiver's deliveries: its events in the log's order, each until it is taken or given up, at least once.

How far it has got is a document beside the log, so that a restarted process, or another replica that notifies now, goes
on there. A receiver that is new is told first what is open; what else of a log's past is told says `news`.

It knows no HTTP: `send` does. The store, which blocks, is asked in other threads, so that receivers do not wait for
each other.
"""

from __future__ import annotations

import asyncio
import collections
import json
import logging
from collections.abc import Callable, Sequence

from services.alerter.notifying.dead_letters import DeadLetter, DeadLetters
from services.alerter.notifying.news import News
from services.alerter.notifying.webhooks import Answer, Outcome, Receiver, Send, pause_seconds
from services.core.breaches import Event, LogEntry, Position
from services.core.clock import Clock
from services.core.errors import CursorExpiredError, StoreError
from services.core.model import SLOT_SECONDS, Slot, slot_at
from services.core.store.base import BreachLog
from services.core.telemetry import NotifierMetrics

CURSOR_KIND = "webhook-cursor"
"""Of the documents: key: the receiver's name, text: JSON with `slot` and `ordinal` of the position it has got to."""

PAGE_ENTRIES = 200
RESEND_TRIES = 5
"""How often a letter that was sent anew is tried, in between events that are new, before it goes back."""

_IDLE_SLOTS = 1440
"""A cursor of a log without news is moved on before the log forgets the place."""

_LONGEST_STORE_PAUSE_SECONDS = 60.0
_LONGEST_ASKED_SECONDS = 3600.0

_log = logging.getLogger(__name__)


class Deliverer:
    """What is owed to one receiver. Belongs to one loop; only `stop` and `lag_seconds` may be used from elsewhere."""

    def __init__(
        self,
        receiver: Receiver,
        log: BreachLog,
        letters: DeadLetters,
        send: Send,
        *,
        clock: Clock,
        metrics: NotifierMetrics,
        poll_interval_seconds: float,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        """`leads` is asked before each request: the right to notify may have gone since the last one."""
        self.receiver = receiver
        self._log = log
        self._news = News(log, receiver.name)
        self._letters = letters
        self._send = send
        self._clock = clock
        self._metrics = metrics
        self._interval = poll_interval_seconds
        self._leads = leads
        self._position: Position | None = None
        self._saved: Position | None = None
        self._entries: collections.deque[LogEntry] = collections.deque()
        self._resends: collections.deque[DeadLetter] = collections.deque()
        self._attempts = 0
        """Of the event or the letter that is next."""
        self._failures = 0
        """Of the receiver, in a row."""
        self._failing_since: float | None = None
        self._pause = 0.0
        self._pause_until = 0.0
        self._store_failures = 0
        self._waiting_since: float | None = None
        self._stopping = False

    @property
    def lag_seconds(self) -> float:
        """Time since the end of the slot in which the oldest event that is still owed was found; 0 without one."""
        since = self._waiting_since
        return 0.0 if since is None else max(0.0, self._clock.now() - since)

    def stop(self) -> None:
        """Have `step` return after the request that is under way."""
        self._stopping = True

    async def step(self) -> float:
        """Do all that is due; return in how many seconds something may be due again. Raises only when cancelled."""
        try:
            seconds = await self._deliver()
        except StoreError as error:
            if not self._store_failures:
                _log.warning("notifying %s: %s", self.receiver.name, error)
        except Exception:  # noqa: BLE001 - it is logged
            # A defect must not end the notifications of this receiver for good; it shows in the lag.
            _log.exception("notifying %s failed", self.receiver.name)
        else:
            self._store_failures = 0
            return seconds
        self._store_failures += 1
        return min(self._interval * 2.0 ** min(self._store_failures - 1, 10), _LONGEST_STORE_PAUSE_SECONDS)

    async def _deliver(self) -> float:
        self._news.look_again()  # much may be over since the receiver failed
        while not self._stopping and self._leads():
            if (left := self._pause_left()) > 0:
                return left
            await self._save()
            if entry := await self._next_entry():
                await self._try_entry(entry)
            elif letter := await self._next_letter():
                await self._try_letter(letter)
            else:
                break
        return self._interval

    def _pause_left(self) -> float:
        """Return how much longer the receiver is left alone; a clock that is set back makes that no longer."""
        left = min(self._pause_until - self._clock.now(), self._pause)
        self._pause_until = self._clock.now() + left
        return left

    # The log.

    async def _next_entry(self) -> LogEntry | None:
        """Return the next event that the receiver wants; None where there is none yet."""
        while True:
            while self._entries:
                entry = self._entries[0]
                if self.receiver.wants(entry.event) and await self._news.is_news(entry.event):
                    self._waiting_since = _found_at(entry)
                    return entry
                self._done(entry)
            self._waiting_since = None
            await self._save()
            page = await self._read()
            if not page:
                return None
            self._entries.extend(page)
            self._news.look_again()

    def _done(self, entry: LogEntry) -> None:
        self._entries.popleft()
        # The openings that a new receiver is told of at first share one place, which is reached with the last of them.
        if not self._entries or self._entries[0].after != entry.after:
            self._position = entry.after
        self._attempts = 0

    async def _read(self) -> Sequence[LogEntry]:
        if self._position is None:
            openings = await self._begin()
            if openings or self._position is None:
                return openings
        if not await self._news.has_begun():
            return ()
        position = self._position
        end: Position | None = None
        if slot_at(self._clock.now()) - position.slot > _IDLE_SLOTS:
            # Asked before the entries: nothing that is appended in between may be passed over.
            checkpoint = await asyncio.to_thread(self._log.checkpoint)
            end = checkpoint.end if checkpoint else None
        try:
            page = await asyncio.to_thread(self._log.read_after, position, PAGE_ENTRIES)
        except CursorExpiredError:
            self._position = await asyncio.to_thread(self._log.earliest)
            _log.warning(
                "notifying %s: the log of breaches has forgotten what came after %s; going on from %s",
                self.receiver.name,
                _text(position),
                _text(self._position),
            )
            return await asyncio.to_thread(self._log.read_after, self._position, PAGE_ENTRIES)
        if not page and end is not None and end > position:
            self._position = end
        return page

    async def _begin(self) -> Sequence[LogEntry]:
        """Take the place that an earlier process has got to.

        A receiver that is new begins at the log's present end, once the log is open, and is told first what is open
        then: those openings are returned. In a log that is empty it begins with whatever comes.
        """
        text = (await asyncio.to_thread(self._log.documents, CURSOR_KIND)).get(self.receiver.name)
        if text is not None:
            document = json.loads(text)
            self._position = self._saved = Position(Slot(document["slot"]), document["ordinal"])
            return ()
        found = await self._news.checkpoint()
        if found is None:
            if await asyncio.to_thread(self._log.checkpoint) is None:
                self._position = await asyncio.to_thread(self._log.earliest)
                await self._save()
            return ()
        end, state = found
        openings = [episode.opening for episode in state.episodes]
        before_end = end._replace(ordinal=end.ordinal - 1)
        entries = [LogEntry(before_end, opening) for opening in openings if self.receiver.wants(opening)]
        if not entries:
            self._position = end
            await self._save()
        return entries

    async def _save(self) -> None:
        """Note how far it has got, where that has changed."""
        if (position := self._position) != self._saved and position is not None:
            await asyncio.to_thread(self._log.put_document, CURSOR_KIND, self.receiver.name, _text(position))
            self._saved = position

    async def _try_entry(self, entry: LogEntry) -> None:
        answer = await self._attempt(entry.event)
        if answer.outcome is not Outcome.DELIVERED:
            if answer.outcome is Outcome.LATER and not self._is_given_up(_found_at(entry)):
                self._wait(answer)
                return
            await asyncio.to_thread(self._letters.add, self.receiver.name, entry.event, self._attempts, answer.words)
            self._gave_up(entry.event, answer)
        self._done(entry)
        await self._save()

    # What somebody has asked to send anew.

    async def _next_letter(self) -> DeadLetter | None:
        if not self._resends:
            self._resends.extend(await asyncio.to_thread(self._letters.queued, self.receiver.name))
        return self._resends[0] if self._resends else None

    async def _try_letter(self, letter: DeadLetter) -> None:
        answer = await self._attempt(letter.event)
        if answer.outcome is Outcome.LATER and self._attempts < RESEND_TRIES:
            self._wait(answer)
            return
        if answer.outcome is Outcome.DELIVERED:
            await asyncio.to_thread(self._letters.settle, letter)
        else:
            await asyncio.to_thread(self._letters.give_back, letter, self._attempts, answer.words)
            self._gave_up(letter.event, answer)
        self._resends.popleft()
        self._attempts = 0

    # The receiver.

    async def _attempt(self, event: Event) -> Answer:
        receiver = self.receiver
        headers, body = receiver.request(event, self._clock.now())
        answer = await self._send("POST", receiver.url, headers, body, receiver.timeout_seconds)
        answer = Answer(answer.outcome, receiver.unsaid(answer.words), answer.retry_after_seconds)
        self._attempts += 1
        if answer.outcome is Outcome.LATER:
            self._failures += 1
            if self._failing_since is None:
                self._failing_since = self._clock.now()
                _log.warning("receiver %s does not take event %s: %s", receiver.name, event.id, answer.words)
        else:
            if self._failing_since is not None:
                _log.info("receiver %s answers again after %d failed requests", receiver.name, self._failures)
            self._failures, self._failing_since = 0, None
        if answer.outcome is Outcome.DELIVERED:
            self._metrics.delivered.labels(receiver.name).inc()
        return answer

    def _is_given_up(self, found_at: float) -> bool:
        """Whether both the receiver has been failing, and the event has been waiting, for as long as is tried."""
        longest, now = self.receiver.retry_seconds, self._clock.now()
        failing = now - (now if self._failing_since is None else self._failing_since)
        return min(failing, now - found_at) >= longest

    def _wait(self, answer: Answer) -> None:
        self._metrics.retried.labels(self.receiver.name).inc()
        self._pause = pause_seconds(self._failures, answer, _LONGEST_ASKED_SECONDS)
        self._pause_until = self._clock.now() + self._pause

    def _gave_up(self, event: Event, answer: Answer) -> None:
        self._metrics.dead.labels(self.receiver.name).inc()
        _log.warning(
            "event %s is a dead letter after %d attempt%s: receiver %s: %s",
            event.id,
            self._attempts,
            "" if self._attempts == 1 else "s",
            self.receiver.name,
            answer.words,
        )


def _found_at(entry: LogEntry) -> float:
    """Return when an event was found, to the minute: the end of the slot that was being evaluated."""
    return float((entry.position.slot + 1) * SLOT_SECONDS)


def _text(position: Position) -> str:
    return json.dumps({"slot": position.slot, "ordinal": position.ordinal})
