"""What of a log of breaches is news to a receiver.

What lies before the log's opening is its history (docs/adr/013-first-day.md): of that a receiver is told only what is
still open and, of what it was told, whatever comes late. Which episodes those are is a document beside the log, so that
it holds after a restart, and for another replica that notifies now. It knows nothing of how anybody is told.
"""

from __future__ import annotations

import asyncio
import json

from services.core.breach_documents import AlertState, state_from_text
from services.core.breaches import Event, Position
from services.core.model import Slot
from services.core.store.base import BreachLog

TOLD_KIND = "webhook-told"
"""Of the documents: key: the receiver's name, text: JSON, ids of the history's episodes that it may have heard of."""


class News:
    """Judges the events of a log for one receiver, in the log's order. What reads the store may raise StoreError."""

    def __init__(self, log: BreachLog, receiver: str) -> None:
        self._log = log
        self._receiver = receiver
        self._live_from: Slot | None = None
        """The log's opening; None until evaluation has come that far."""
        self._open: frozenset[str] | None = None
        """The openings of what is open, by id; None until one needs it."""
        self._told: frozenset[str] | None = None
        """The history's episodes that the receiver may have heard of, by id; None until one needs it."""

    def look_again(self) -> None:
        """Forget what is open: before events that were appended since, or after a while."""
        self._open = None

    async def has_begun(self) -> bool:
        """Whether all of the history has been evaluated, so that events can be judged."""
        return self._live_from is not None or await self.checkpoint() is not None

    async def checkpoint(self) -> tuple[Position, AlertState] | None:
        """Return the newest checkpoint's end and state, once all of the history has been evaluated."""
        checkpoint = await asyncio.to_thread(self._log.checkpoint)
        if checkpoint is None:
            return None
        state = state_from_text(checkpoint.state)
        if state.evaluated + 1 < state.live_from:
            return None
        self._live_from = state.live_from
        return checkpoint.end, state

    async def is_news(self, event: Event) -> bool:
        """Whether the receiver is to be told of an event, which is then done next.

        That it is told of an episode of the history is noted at once: a request that fails may have been taken, and
        whoever goes on after it tells the episode's end.
        """
        if self._live_from is not None and event.slot >= self._live_from:
            return True
        if self._open is None:
            found = await self.checkpoint()
            if found is None:
                return False
            _, state = found
            self._open = frozenset(episode.opening.id for episode in state.episodes)
            if event.slot >= state.live_from:
                return True
        if self._told is None:
            text = (await asyncio.to_thread(self._log.documents, TOLD_KIND)).get(self._receiver, "[]")
            self._told = frozenset(json.loads(text))
        if event.id in self._open:
            await self._note(self._told | {event.episode_id})
            return True
        return event.late and event.episode_id in self._told

    async def _note(self, told: frozenset[str]) -> None:
        if told != self._told:
            await asyncio.to_thread(self._log.put_document, TOLD_KIND, self._receiver, json.dumps(sorted(told)))
            self._told = told
