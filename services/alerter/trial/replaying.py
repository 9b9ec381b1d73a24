"""A rule run over history, as if it had been in force: what it would have fired, and how often.

The same steps as live evaluation, on what a store has now; it writes nothing and notifies nobody. Pure: values come by
`read`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from services.alerter.evaluation.events import to_events
from services.alerter.evaluation.steps import Block, EventColumns, history, lookback, restore, step
from services.core.breach_documents import NO_HISTORY
from services.core.breaches import Event
from services.core.model import DAY_SLOTS, Floats, Series, Slot, Window
from services.core.rules import Missing, Rule

_VALUES_AT_ONCE = 4_000_000
"""How many values are held at a time, 32 MB of them, however long the history."""

Read = Callable[[Window], Block]
"""Returns the values of the series in a window; may raise StoreError."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What a rule would have fired in a window."""

    events: tuple[Event, ...]
    """In the order in which they would have been found; the first of them, where there are very many."""
    breach_count: int
    """How many points would have broken it."""
    episode_count: int
    """How many episodes would have opened."""
    point_count: int
    """How many points were evaluated."""
    series_count: int
    window: Window

    @property
    def days(self) -> float:
        """How long the window is."""
        return len(self.window) / DAY_SLOTS


def selected(rule: Rule, expected: Sequence[Series], stored: Iterable[Series]) -> tuple[Series, ...]:
    """Return the series that a rule evaluates, in ascending order.

    A missing rule is about the expected ones alone, the others about every series that is expected or stored.
    """
    known = expected if isinstance(rule.condition, Missing) else sorted({*expected, *stored})
    return tuple(each for each in known if rule.selector.selects(each))


def replay(
    rule: Rule,
    series: Sequence[Series],
    window: Window,
    read: Read,
    *,
    most_events: int,
    live_from: Slot = NO_HISTORY,
) -> Replay:
    """Run a rule over a window; no episode is open as it begins, and what lies before it serves only as the past.

    Before `live_from`, the opening of the log, a series is missing only once it has had a point in the window.
    Nothing is returned of the events beyond the first `most_events`; they are counted all the same.
    """
    slots = max(_VALUES_AT_ONCE // max(1, len(series)), 2 * lookback(rule), 1)
    state, here = None, window.start
    kept: list[EventColumns] = []
    room, breaches, episodes, points = most_events, 0, 0, 0
    while here < window.end and series:
        end = Slot(min(here + slots, window.end))
        back = history(rule) if state is None else lookback(rule)
        block = read(Window(Slot(here - back), end))
        if state is None:
            state = restore(rule, series, here - 1, block, expected_from=max(window.start, live_from))
        state, found = step(state, block, end - 1, rule)
        points += _count(block.values[:, here - block.start :])
        breaches += found.breach_count
        episodes += found.opening_count
        if room:
            kept.append(found.ordered(state.ranks, room))
            room -= len(kept[-1])
        here = end
    events = () if state is None else to_events(EventColumns.joined(kept), state, rule)
    return Replay(tuple(events), breaches, episodes, points, len(series), window)


def _count(values: Floats) -> int:
    """Return how many points there are; most series have one in every slot, which their least value tells."""
    gaps = values[np.isnan(values.min(axis=1))]
    return values.size - int(np.count_nonzero(np.isnan(gaps)))
