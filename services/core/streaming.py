"""The course of one stream behind a broadcast: what comes, bookmarks where nothing does, an end before it is too old.

Pure of any wire format and of what streams carry: whoever composes it says how a batch becomes messages.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from services.core.broadcasting import Batch, Content, Place, Subscriber
from services.core.errors import SlowSubscriberError

Step: TypeAlias = tuple[Iterable[bytes], Place, Place]
"""Encoded messages, the mark before them all and the mark after the last; without messages it is a bookmark."""


@dataclass(frozen=True, slots=True)
class WatchTimes:
    """How long a stream may be silent, and how long it may live, in seconds."""

    bookmark_seconds: float = 15.0
    longest_seconds: float = 1800.0
    """Give or take a tenth, so that streams opened together do not end together."""


def follow(
    subscriber: Subscriber[Content, Place],
    cursor: Place,
    times: WatchTimes,
    messages: Callable[[Batch[Content, Place]], tuple[bytes, ...]],
    cursor_text: Callable[[Place], str],
) -> Iterator[Step[Place]]:
    """Yield the steps of a stream whose caller stands at `cursor`: whatever comes, and at last a bookmark.

    `messages` returns what of a batch the caller wants, encoded. Raises SlowSubscriberError, with `cursor_text` of the
    last mark, when the subscriber has overflowed, and what the broadcast ended with.
    """
    ends_at = time.monotonic() + times.longest_seconds * random.uniform(0.9, 1.1)  # noqa: S311 - jitter
    bookmark_at = time.monotonic() + times.bookmark_seconds
    while (now := time.monotonic()) < ends_at:
        taken = subscriber.take(min(bookmark_at, ends_at) - now)
        if subscriber.overflowed:
            raise SlowSubscriberError(cursor_text(cursor))
        if taken is None:
            break
        if isinstance(taken, Batch):
            before, cursor = cursor, taken.after
            if not (encoded := messages(taken)):
                continue
            yield encoded, before, cursor
        else:
            cursor = taken
            yield (), cursor, cursor
        bookmark_at = time.monotonic() + times.bookmark_seconds
    yield (), cursor, cursor
