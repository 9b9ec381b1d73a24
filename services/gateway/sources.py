"""What can be streamed, and how each item of the client becomes an event.

Equal sources are one stream of the service behind: that is what they are compared for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import tickwatch

from services.gateway.encoding import bookmark_document, points_document, snapshot_document, to_json
from services.gateway.events import Frame, frame
from services.gateway.refusals import refusal_of
from services.gateway.upstream import Upstream

Item = tickwatch.PointBatch | tickwatch.Snapshot | tickwatch.Event | tickwatch.Bookmark
OnRetry = Callable[[tickwatch.Error, float], object]


class Source(ABC):
    """A stream of a service, with its filters and the credentials it is asked for with. Hashable."""

    begins_with_snapshot: ClassVar[bool]
    """Whether a reader without a cursor is first told how things stand."""

    @abstractmethod
    def open(self, upstream: Upstream, cursor: str | None, on_retry: OnRetry) -> AsyncGenerator[Any, None]:
        """Follow it from the cursor on, or from now on; raises tickwatch.Error."""

    @abstractmethod
    def frame(self, item: Item) -> Frame:
        """Return an item as an event."""


@dataclass(frozen=True, slots=True)
class PointSource(Source):
    """New points, a batch per slot."""

    metrics: tuple[str, ...]
    measures: tuple[str, ...]
    authorization: str = ""

    begins_with_snapshot: ClassVar[bool] = False

    def open(
        self, upstream: Upstream, cursor: str | None, on_retry: OnRetry
    ) -> AsyncGenerator[tickwatch.PointBatch, None]:
        return upstream.asked_with(self.authorization).query.watch_points(
            self.metrics, self.measures, cursor=cursor, bookmarks=True, on_retry=on_retry
        )

    def frame(self, item: Item) -> Frame:
        assert isinstance(item, tickwatch.PointBatch)  # noqa: S101  # what `open` yields
        if len(item) == 0:
            return frame("bookmark", b"{}", item.cursor)
        return frame("points", to_json(points_document(item)), item.cursor)


@dataclass(frozen=True, slots=True)
class BreachSource(Source):
    """What breaks a rule, behind a snapshot of the open episodes."""

    rules: tuple[str, ...]
    metrics: tuple[str, ...]
    min_severity: str | None
    delivery: str | None
    include_late: bool
    authorization: str = ""

    begins_with_snapshot: ClassVar[bool] = True

    def open(
        self, upstream: Upstream, cursor: str | None, on_retry: OnRetry
    ) -> AsyncGenerator[tickwatch.Snapshot | tickwatch.Event | tickwatch.Bookmark, None]:
        return upstream.asked_with(self.authorization).alerts.watch_breaches(
            self.rules,
            self.metrics,
            min_severity=self.min_severity,
            delivery=self.delivery,
            include_late=self.include_late,
            cursor=cursor,
            bookmarks=True,
            on_retry=on_retry,
        )

    def frame(self, item: Item) -> Frame:
        match item:
            case tickwatch.Snapshot():
                return frame("snapshot", to_json(snapshot_document(item)), item.cursor)
            case tickwatch.Event():
                return frame(item.kind, to_json(item.to_document()), item.cursor)
            case _:
                assert isinstance(item, tickwatch.Bookmark)  # noqa: S101  # the last of what `open` yields
                return frame("bookmark", to_json(bookmark_document(item)), item.cursor)


def told(kind: str, error: BaseException) -> Frame:
    """Return an event that tells an error, as a refused request would have."""
    # An empty id takes the reader's Last-Event-ID away: what is told in a `reset` is that it resumes nothing.
    return frame(kind, refusal_of(error).body, "" if kind == "reset" else None)
