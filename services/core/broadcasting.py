"""Hands what a follower reads to every open stream, without ever waiting for one of them.

A subscriber has a bounded queue of batches. Batches are shared and immutable: choosing and sending is done by the
stream's own thread, so the follower's work is one append a stream. A subscriber whose queue is full is dropped: what it
has is discarded, and its stream ends with the last mark it has sent. It knows neither what batches hold nor what marks
are made of, and no wire format.

Threads. One lock of the broadcast guards marks and the set of subscribers; each subscriber has a condition of its own.
"""

from __future__ import annotations

import collections
import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Sized
from typing import Any, Generic, TypeVar

from services.core.errors import NotReadyError, TickwatchError

QUEUE_BATCHES = 64
"""A batch a poll: about a minute's worth when something is written every second, an hour's in ordinary times."""

SLOW_GRACE_SECONDS = 15.0
"""How long the stream of a dropped subscriber may still be stuck in a send before its call is cancelled."""

_AWAKE = 4
"""How many subscribers are woken at a time: one alone may have to wait for its turn."""

Content = TypeVar("Content", bound=Sized)
"""What a batch holds."""

Place = TypeVar("Place")
"""What resumes a stream: a place in what the follower reads."""


class Batch(Generic[Content, Place]):
    """What one poll brought: `content` lies between the marks `before`, which resumes ahead of all of it, and `after`.

    The same batch goes to every subscriber.
    """

    def __init__(self, content: Content, before: Place, after: Place) -> None:
        self.content = content
        self.before = before
        self.after = after
        self._making = threading.Lock()
        self._encoded: tuple[bytes, ...] | None = None

    def encoded(self, encode: Callable[[Content], tuple[bytes, ...]]) -> tuple[bytes, ...]:
        """Return the whole content encoded, made by the first stream that asks and kept for as long as the batch is."""
        with self._making:
            if self._encoded is None:
                self._encoded = encode(self.content)
            return self._encoded


class Relay:
    """Wakes waiting subscribers a few at a time: whoever wakes wakes the next, before he does anything else.

    Woken all at once, their threads would fight for the interpreter, each asking for it every few milliseconds, and
    with a thousand of them that takes longer than all the sending.
    """

    def __init__(self, subscribers: Iterable[Subscriber[Any, Any]]) -> None:
        self._subscribers = collections.deque(subscribers)

    def pass_on(self) -> None:
        """Wake the next who waits."""
        with contextlib.suppress(IndexError):
            while not self._subscribers.popleft().wake(self):
                pass


class Subscriber(Generic[Content, Place]):
    """One stream's end of the broadcast."""

    def __init__(self, mark: Place, capacity: int) -> None:
        self.start = mark
        """Everything after this mark is delivered."""
        self._mark = mark
        self._capacity = capacity
        self._condition = threading.Condition()
        self._batches: collections.deque[Batch[Content, Place]] = collections.deque()
        self._waiting = False
        self._relay: Relay | None = None
        self._ended = False
        self._error: TickwatchError | None = None
        self.overflowed_at: float | None = None

    def take(self, timeout_seconds: float) -> Batch[Content, Place] | Place | None:
        """Wait for the next batch; after the timeout return the mark reached, or None when the stream is to end.

        Raises the error that the broadcast ended with, if it was one.
        """
        relay = self._wait(max(0.0, timeout_seconds))
        if relay is not None:
            relay.pass_on()
        with self._condition:
            if self._error is not None:
                raise self._error
            if self._batches:
                return self._batches.popleft()
            return None if self._ended else self._mark

    def _wait(self, timeout_seconds: float) -> Relay | None:
        """Wait until there is a batch or an end; return the relay whose turn the wait was ended by, if any."""
        with self._condition:
            self._waiting = True
            if not self._batches:
                self._condition.wait_for(lambda: self._relay or self._ended, timeout_seconds)
            self._waiting = False
            relay, self._relay = self._relay, None
            return relay

    def wake(self, relay: Relay) -> bool:
        """End the wait for a batch; False where nobody waits for one, and who reads has something else to do first."""
        with self._condition:
            if not self._waiting or not self._batches or self._relay is not None:
                return False
            self._relay = relay
            self._condition.notify_all()
            return True

    @property
    def mark(self) -> Place:
        """Where a reader of everything taken so far stands, if nothing is queued."""
        with self._condition:
            return self._batches[0].before if self._batches else self._mark

    @property
    def overflowed(self) -> bool:
        """Whether it was too slow."""
        return self.overflowed_at is not None

    def offer(self, batch: Batch[Content, Place], now: float) -> bool:
        """Queue a batch; False when that made it overflow."""
        with self._condition:
            if self._ended:
                return True
            if len(self._batches) >= self._capacity:
                self._batches.clear()
                self._ended, self.overflowed_at = True, now
                self._condition.notify_all()
                return False
            self._batches.append(batch)
            self._mark = batch.after
            return True

    def pass_by(self, mark: Place) -> None:
        """Move on over something that had no content."""
        with self._condition:
            self._mark = mark

    def end(self, error: TickwatchError | None = None) -> None:
        """Let the stream deliver what is queued and end; with an error, end at once."""
        with self._condition:
            self._ended = True
            self._error = error
            self._condition.notify_all()


class Broadcast(Generic[Content, Place]):
    """All subscribers, and the mark up to which everything has been handed to them."""

    def __init__(self, on_drop: Callable[[], None] = lambda: None, capacity: int = QUEUE_BATCHES) -> None:
        self._lock = threading.Lock()
        self._subscribers: dict[Subscriber[Content, Place], Callable[[], object]] = {}
        self._mark: Place | None = None
        self._closed = False
        self._on_drop = on_drop
        self._capacity = capacity

    def __len__(self) -> int:
        return len(self._subscribers)

    def subscribe(self, cancel: Callable[[], object]) -> Subscriber[Content, Place]:
        """Add a subscriber from the present mark on; `cancel` breaks its call off.

        Raises NotReadyError before the first mark and after `close`.
        """
        with self._lock:
            if self._closed or self._mark is None:
                raise NotReadyError("the server is stopping" if self._closed else "the server is still loading")
            subscriber: Subscriber[Content, Place] = Subscriber(self._mark, self._capacity)
            self._subscribers[subscriber] = cancel
            return subscriber

    def unsubscribe(self, subscriber: Subscriber[Content, Place]) -> None:
        """Forget a subscriber; doing it twice is fine."""
        with self._lock:
            self._subscribers.pop(subscriber, None)

    def restart(self, mark: Place, error: TickwatchError | None = None) -> None:
        """Go on from a new mark; streams that cannot know what lies between end with the error."""
        with self._lock:
            subscribers, self._mark = list(self._subscribers), mark
        for subscriber in subscribers:
            subscriber.end(error)

    def publish(self, content: Content, mark: Place) -> None:
        """Hand on what was written up to `mark`."""
        now = time.monotonic()
        with self._lock:
            assert self._mark is not None, "publish comes after restart"  # noqa: S101 - the follower's own order
            batch = Batch(content, self._mark, mark)
            self._mark = mark
            for subscriber in self._subscribers:
                if not len(content):
                    subscriber.pass_by(mark)
                elif not subscriber.offer(batch, now):
                    self._on_drop()
            relay = Relay(self._subscribers if len(content) else ())
        for _ in range(_AWAKE):
            relay.pass_on()

    def reap(self) -> None:
        """Cancel the calls of dropped subscribers that are still stuck in a send after the grace."""
        limit = time.monotonic() - SLOW_GRACE_SECONDS
        with self._lock:
            stuck = [
                cancel
                for subscriber, cancel in self._subscribers.items()
                if subscriber.overflowed_at is not None and subscriber.overflowed_at < limit
            ]
        for cancel in stuck:
            cancel()

    def close(self) -> None:
        """End all streams after what they have queued, and take no more."""
        with self._lock:
            self._closed = True
            subscribers = list(self._subscribers)
        for subscriber in subscribers:
            subscriber.end()
