"""The log of breaches as its writer has it: where it ends, what it says of the last day, and how it is appended to.

Events and the checkpoint that follows from them are written together, and nothing is written that is no news. It knows
no points and no rules.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from services.alerter.live.logged import LoggedEvents
from services.alerter.live.pieces import Pieces
from services.core.breach_documents import AlertState, state_from_text, state_text
from services.core.breaches import Checkpoint, Event, LogEntry, Position
from services.core.model import DAY_SLOTS, Slot
from services.core.store.base import BreachLog
from services.core.telemetry import EvaluationMetrics

_REMEMBERED_SLOTS = DAY_SLOTS + 120
_PAGE_ENTRIES = 1000


class Journal:
    """One writer's side of a log. `silenced`, `on_append` and `may_write` are as the engine's."""

    def __init__(
        self,
        log: BreachLog,
        *,
        metrics: EvaluationMetrics,
        silenced: Callable[[Event], bool],
        on_append: Callable[[], None],
        may_write: Callable[[], bool],
    ) -> None:
        self._log = log
        self._metrics = metrics
        self._silenced = silenced
        self._on_append = on_append
        self._may_write = may_write
        self._end: Position | None = None
        self.logged = LoggedEvents()
        """What the log says of the last day, and of what is open from before."""
        self.written: AlertState | None = None
        """The checkpoint's state that this writer has written last."""

    def open(self) -> AlertState | None:
        """Return what the log's checkpoint says, None in a log that is empty; appending goes on there."""
        checkpoint = self._log.checkpoint()
        self._end = checkpoint.end if checkpoint else None
        return state_from_text(checkpoint.state) if checkpoint else None

    def read_back(self, state: AlertState, complete: int, pieces: Pieces) -> None:
        """Remember anew what the log says; `complete` is the last slot that has ended."""
        self.logged = LoggedEvents()
        self.logged.add(episode.opening for episode in state.episodes)
        position = max(Position(Slot(complete - _REMEMBERED_SLOTS), 0), self._log.earliest())
        while entries := self._log.read_after(position, _PAGE_ENTRIES):
            self.logged.add(entry.event for entry in entries)
            position = entries[-1].after
            pieces.go_on()

    def forget(self, complete: int) -> None:
        """Drop what is too long ago for late points to change it."""
        self.logged.forget_before(complete - _REMEMBERED_SLOTS)

    def append(self, events: Sequence[Event], state: AlertState) -> None:
        """Write events and checkpoint, if either is new, and then say so.

        Raises as `BreachLog.append` does; then nobody knows what has been written, and the log has to be opened anew.
        """
        if not events and self._end is not None and not self._is_news(state):
            return
        entries: list[LogEntry] = []
        end = self._end or Position(state.evaluated, 0)
        for event in events:
            if event.slot > end.slot:
                end = Position(event.slot, 0)
            entries.append(LogEntry(end, dataclasses.replace(event, silenced=self._silenced(event))))
            end = entries[-1].after
        if state.evaluated > end.slot:
            end = Position(state.evaluated, 0)
        self._log.append(self._end, entries, Checkpoint(end, state_text(state)), self._may_write)
        self._end, self.written = end, state
        self.logged.add(entry.event for entry in entries)
        for entry in entries:
            self._metrics.events.labels(entry.event.rule, entry.event.kind.value).inc()
        self._on_append()

    def _is_news(self, state: AlertState) -> bool:
        """Whether a checkpoint would say anything that the last one did not, but for the mark."""
        return self.written is None or dataclasses.replace(state, mark=self.written.mark) != self.written
