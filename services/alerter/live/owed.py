"""What late points ask for: which stretches are still to be evaluated again, and doing so a piece at a time.

How a stretch is evaluated again, and what that changes, says `reevaluation`; this reads what that needs to know.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np

from services.alerter.evaluation.columns_of import block_of
from services.alerter.evaluation.states import subject_of
from services.alerter.evaluation.steps import Block
from services.alerter.live.evaluator import Evaluator, Late, Watched
from services.alerter.live.logged import LoggedEvents
from services.alerter.live.pieces import Pieces
from services.alerter.live.reevaluation import evaluate_again, looked_back_on, starts_again
from services.core.breaches import Event
from services.core.clock import Clock
from services.core.model import Series, Slot, Window
from services.core.rules import Missing
from services.core.store.base import MetricReader

_PIECE_VALUES = 250_000
"""So many, of series and slots, are evaluated again at one go: what that finds is written in seconds."""
_AGAIN_SECONDS = 20.0
"""After this long new slots come before what is still to be evaluated again, so that a market's day that is filled in
holds no alert back."""


class Owed:
    """The stretches that are owed: by rule, and the slot from which on it is to be evaluated again, the series."""

    def __init__(self, evaluator: Evaluator, reader: MetricReader, clock: Clock, pieces: Pieces) -> None:
        self._evaluator = evaluator
        self._reader = reader
        self._clock = clock
        self._pieces = pieces
        self._stretches: dict[tuple[str, Slot], set[Series]] = {}

    def __bool__(self) -> bool:
        """Whether anything is owed."""
        return bool(self._stretches)

    def note(self, late: Late, oldest: Slot) -> None:
        """Note what late points touch; what lies before `oldest` stays as it is."""
        for series, slot in self._evaluator.first_late(late, oldest).items():
            for watched in self._evaluator.watching:
                if series in watched.places:
                    self._stretches.setdefault((watched.rule.name, slot), set()).add(series)

    def pay(self, logged: LoggedEvents, append: Callable[[Sequence[Event]], None]) -> None:
        """Evaluate again what is owed, and append what that changes; after a while new slots come first again."""
        evaluator = self._evaluator
        until = self._clock.elapsed() + _AGAIN_SECONDS
        while self._stretches and self._clock.elapsed() <= until:
            name, since = min(self._stretches)
            watched = evaluator.watched(name)
            left: Sequence[Series] = ()
            if watched is not None:  # else the rule has gone meanwhile
                together = _together(watched, self._stretches[name, since] & watched.places.keys())
                reached = evaluator.reached(watched, together).tolist()
                chosen = [each for each, slot in zip(together, reached, strict=True) if slot >= since]
                left = self._evaluate_again(watched, chosen, since, until, logged, append) if chosen else ()
            # Only now: where it cannot be read, it is still owed.
            del self._stretches[name, since]
            if left:
                self._stretches[name, since] = set(left)

    def _evaluate_again(  # noqa: PLR0917  # what `pay` has at hand
        self,
        watched: Watched,
        series: Sequence[Series],
        since: Slot,
        until: float,
        logged: LoggedEvents,
        append: Callable[[Sequence[Event]], None],
    ) -> Sequence[Series]:
        """Evaluate these series again under a rule, because points have come for slots since then; return those left.

        Each piece is in the log before the next begins, so that whoever takes over finds it there and goes on.
        """
        evaluator, rule = self._evaluator, watched.rule
        starts = starts_again(rule, series, since, logged=logged, began=evaluator.began)
        reached = evaluator.reached(watched, series)
        begin, end = int(starts.min()) - looked_back_on(rule), int(reached.max()) + 1
        block = self._block(series, Window(Slot(begin), Slot(end)))
        step = len(series) if isinstance(rule.condition, Missing) else max(1, _PIECE_VALUES // (end - begin))
        for first in range(0, len(series), step):
            if first and self._clock.elapsed() > until:
                return series[first:]
            self._pieces.go_on()
            piece = slice(first, first + step)
            correction = evaluate_again(
                rule,
                series[piece],
                since,
                starts[piece],
                reached[piece],
                block=Block(block.start, block.values[piece]),
                logged=logged,
                expected_from=evaluator.expected_from(series[piece]),
            )
            evaluator.reopen(watched, correction.subjects, correction.episodes)
            append(correction.events)
        return ()

    def _block(self, series: Sequence[Series], window: Window) -> Block:
        parts = [block_of(self._reader, series, part).values for part in self._pieces.of(window.start, window.end)]
        return Block(window.start, np.concatenate(parts, axis=1))


def _together(watched: Watched, touched: Collection[Series]) -> Sequence[Series]:
    """Return what has to be evaluated with these series: in missing rules all that is selected of their exchanges."""
    if not isinstance(watched.rule.condition, Missing):
        return sorted(touched)
    exchanges = {subject_of(each).exchange for each in touched}
    return sorted(each for each in watched.series if subject_of(each).exchange in exchanges)
