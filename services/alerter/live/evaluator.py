"""All rules in force over all series: who has been evaluated up to where, and what that found.

It holds the states between steps and knows which slots are closed; it reads no store, writes no log and asks no clock.
A series is evaluated as soon as its point is there; once a slot is *closed* for an exchange, everybody of that exchange
who has no point in it is evaluated as missing it. One thread uses it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.alerter.evaluation.events import event_order, merged, removal_event, to_events
from services.alerter.evaluation.states import STALE_SLOTS
from services.alerter.evaluation.steps import Block, State, history, open_episodes, restore, step
from services.alerter.live.recent import Recent
from services.core.breach_documents import AlertState, OpenEpisode
from services.core.breaches import Event, Subject
from services.core.model import DAY_SLOTS, Indices, Points, Series, Slot, Slots, WindowColumns
from services.core.rules import Missing, Rule

Rows = NDArray[np.intp]

_NEVER = 2**62

_SPARE_SLOTS = 180
"""How many slots more than rules look back on are kept, so that a short outage needs no reading anew."""


@dataclass(frozen=True, slots=True, eq=False)
class Late:
    """Points that came after their slots were evaluated, as columns: a day of a whole market may be late at once."""

    rows: Indices
    slots: Slots

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(slots=True)
class Watched:
    """A rule, the series that it selects, and where they stand."""

    rule: Rule
    series: tuple[Series, ...]
    rows: Rows
    state: State
    places: Mapping[Series, int]


def slots_kept(rules: Iterable[Rule]) -> int:
    """Return how many slots of the past `Recent` must have for these rules."""
    return max((history(rule) for rule in rules), default=0) + _SPARE_SLOTS


class Evaluator:
    """Evaluates rules over recent values, from where an `AlertState` says it was."""

    def __init__(self, recent: Recent, state: AlertState) -> None:
        self._recent = recent
        self.began = state.began
        self._live_from = state.live_from
        self._blank = state.blank
        self._evaluated = state.evaluated
        self._ahead = dict(state.ahead)
        self._closed: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._reached: Slots = np.empty(0, np.int64)
        self._newest: Slots = np.empty(0, np.int64)
        self._first: Slots = np.empty(0, np.int64)
        """The first slot of the history with a point, or _NEVER."""
        self._since: Slots = np.empty(0, np.int64)
        """From when on a series that came in without a point is expected; 0: from the opening; -1: it had points."""
        self._awaited = dict(state.awaited)
        self._exchanges: list[str] = []
        self._exchange_of: Rows = np.empty(0, np.intp)
        """Of each row, as a place in `_exchanges`."""
        self._watched: dict[str, Watched] = {}
        self._known_rows = 0
        self._expected: tuple[Series, ...] = ()
        self._orphans: dict[str, list[OpenEpisode]] = {rule: [] for rule in state.rules} | _by_rule(state.episodes)

    # Rules and series.

    def adopt(self, rules: Sequence[Rule], expected: Sequence[Series]) -> list[Event]:
        """Take over the rules in force and the expected series; return the ends of episodes that nothing watches now.

        A rule whose version has changed goes on with its open episodes; a new one begins with the next slot.
        """
        self._recent.add(expected)
        self._note_rows()
        self._await(expected)
        same = tuple(expected) == self._expected and self._known_rows == len(self._recent.series)
        self._expected, self._known_rows = tuple(expected), len(self._recent.series)
        ended: list[Event] = []
        wanted = {rule.name: rule for rule in rules}
        for name in [*self._watched, *self._orphans]:
            if name not in wanted:
                ended += [removal_event(episode, self._evaluated + 1) for episode in self._forget(name)]
        for rule in rules:
            watched = self._watched.get(rule.name)
            if same and watched is not None and watched.rule.version == rule.version:
                continue
            ended += self._watch(rule, self._forget(rule.name))
        return sorted(ended, key=event_order)

    def _await(self, expected: Sequence[Series]) -> None:
        """Expect the series that come in here from the next slot on, where they have no point yet.

        A pair that is added to the catalog has its first point a minute later, and was not missing before.
        """
        gone = set(self._expected).difference(expected)
        self._since[self._rows_of(gone)] = -1
        rows = self._rows_of(set(expected).difference(self._expected))
        rows = rows[(self._newest[rows] < 0) & (self._since[rows] < 0)]
        following = self._of_exchanges(self._done, rows) + 1
        self._since[rows] = np.where(following > self._live_from, following, 0)

    def _rows_of(self, series: Iterable[Series]) -> Rows:
        return self._recent.add(sorted(series)).astype(np.intp)

    def _forget(self, name: str) -> list[OpenEpisode]:
        """Stop watching a rule; return its open episodes."""
        watched = self._watched.pop(name, None)
        orphans = self._orphans.pop(name, [])
        return list(open_episodes(watched.state, watched.rule)) if watched else orphans

    def _watch(self, rule: Rule, episodes: Sequence[OpenEpisode]) -> list[Event]:
        """Watch a rule from its open episodes on; return the ends of those whose subject it no longer selects."""
        missing = isinstance(rule.condition, Missing)
        series = tuple(
            each for each in (self._expected if missing else self._recent.series) if rule.selector.selects(each)
        )
        rows = self._recent.add(series).astype(np.intp)
        subjects = {Subject(each.metric.partition(":")[0], each.metric, each.measure) for each in series}
        if missing:
            subjects |= {Subject(each.exchange) for each in subjects}
        going_on = [episode for episode in episodes if episode.opening.subject in subjects]
        evaluated = self._of_exchanges(self._done, rows) if missing else self._reached[rows]
        block = Block(self._recent.start, self._recent.values, rows)
        expected_from = self._expected_from(rows)
        state = restore(rule, series, evaluated, block, expected_from=expected_from, episodes=going_on)
        self._watched[rule.name] = Watched(
            rule, series, rows, state, {each: place for place, each in enumerate(series)}
        )
        return [
            removal_event(episode, self._evaluated + 1)
            for episode in episodes
            if episode.opening.subject not in subjects
        ]

    def _note_rows(self) -> None:
        """Give rows that are new where they stand: at their exchange's last closed slot."""
        known = len(self._exchange_of)
        news = self._recent.series[known:]
        if not news:
            return
        places = {exchange: place for place, exchange in enumerate(self._exchanges)}
        exchange_of, reached, newest, since, first = ([] for _ in range(5))
        for row, series in enumerate(news, known):
            exchange = series.metric.partition(":")[0]
            if exchange not in places:
                places[exchange] = len(self._exchanges)
                self._exchanges.append(exchange)
                self._done[exchange] = self._ahead.pop(Subject(exchange).key, self._evaluated)
                self._closed[exchange] = self._done[exchange]
            exchange_of.append(places[exchange])
            subject = Subject(exchange, series.metric, series.measure)
            reached.append(self._ahead.pop(subject.key, self._done[exchange]))
            # What was there before evaluation began, or went on elsewhere, need not wait for its slot to be closed.
            present = np.flatnonzero(~np.isnan(self._recent.values[row]))
            newest.append(self._recent.start + int(present[-1]) if len(present) else -1)
            since.append(self._awaited.pop(subject.key, -1))
            past = present[present >= self.began - self._recent.start]
            first.append(self._recent.start + int(past[0]) if len(past) else _NEVER)
        self._exchange_of = np.append(self._exchange_of, exchange_of)
        self._reached = np.append(self._reached, reached)
        self._newest = np.append(self._newest, newest)
        self._since = np.append(self._since, since)
        self._first = np.append(self._first, first)

    # Points and slots.

    @property
    def evaluated(self) -> Slot:
        """The last slot that has been evaluated for every series."""
        return Slot(min(self._done.values(), default=self._evaluated))

    def take(self, points: Points) -> Late:
        """Put points in; return those that come late: evaluated already, and new or different.

        What lies before the first slot ever evaluated is late where a rule looks back on it from there.
        """
        if not len(points):
            return _NONE_LATE
        self.begin_history(points.slots)
        self._recent.advance(int(points.slots.max()) + 1)
        rows, slots, before = self._recent.apply(points)
        self._note_rows()
        np.maximum.at(self._newest, rows, slots)
        past = (slots >= self.began) & (slots < self._live_from)
        np.minimum.at(self._first, rows[past], slots[past])
        late = (slots <= self._reached[rows]) & (slots >= self._seen_from) & (before != points.values)
        return Late(rows[late], slots[late])

    def begin_history(self, slots: Slots) -> None:
        """Let the first points that ever come say where the history begins, at most a day before the opening."""
        if self._blank and len(slots):
            self.began = Slot(max(self._live_from - DAY_SLOTS, min(self.began, int(slots.min()))))
            self._blank = False

    def recall(self, columns: WindowColumns) -> None:
        """Learn from what a store has of the history who has had a point in it, and when at first."""
        rows = self._recent.add(columns.series)
        self._note_rows()
        slots = np.arange(columns.window.start, columns.window.end)
        present = ~np.isnan(columns.values) & (slots >= self.began)
        seen = present.any(axis=1)
        first = slots[present.argmax(axis=1)]
        np.minimum.at(self._first, rows[seen], first[seen])

    def close(self, complete: int, waited: int, runs: Mapping[str, Slot]) -> None:
        """Close slots up to `complete`, the last that has ended.

        A slot is closed for an exchange once it lies at or before `waited`, or once a run has reported it (`runs`: the
        newest slot of each exchange's runs) and every series that was alive just before it has its point.
        """
        self._recent.advance(complete + 1)
        if not self._closed:
            self._evaluated = Slot(max(self._evaluated, waited))
        for place, exchange in enumerate(self._exchanges):
            rows, closed = np.flatnonzero(self._exchange_of == place), self._closed[exchange]
            slot = closed + 1
            while slot <= complete and (slot <= waited or self._is_whole(rows, slot, runs.get(exchange, Slot(-1)))):
                slot += 1
            self._closed[exchange] = slot - 1

    def _is_whole(self, rows: Rows, slot: int, run: int) -> bool:
        if run < slot:
            return False
        at = slot - self._recent.start
        if at < STALE_SLOTS:
            return False
        values = self._recent.values[rows, at - STALE_SLOTS : at + 1]
        present = ~np.isnan(values)
        alive = present[:, :-1].any(axis=1)
        return bool(present[alive, -1].all())

    def _of_exchanges(self, slots: Mapping[str, int], rows: Rows | None = None) -> Slots:
        """Return for each of these rows, or of all, what holds for its exchange."""
        of_each = np.array([slots[exchange] for exchange in self._exchanges], np.int64)
        return of_each[self._exchange_of if rows is None else self._exchange_of[rows]]

    # Evaluation.

    def advance(self, most_slots: int = 240) -> list[Event]:
        """Evaluate what is there, at most so many slots at once; return the events in order."""
        limit = min(self.evaluated, int(self._reached.min(initial=self.evaluated))) + most_slots
        closed = np.minimum(self._of_exchanges(self._closed), limit)
        through = np.maximum(np.minimum(np.maximum(closed, self._newest), limit), self._reached)
        self._recent.advance(int(max(through.max(initial=-1), closed.max(initial=-1))) + 1)
        by_rule: list[list[Event]] = []
        for watched in self._watched.values():
            missing = isinstance(watched.rule.condition, Missing)
            block = Block(self._recent.start, self._recent.values, watched.rows)
            reach = (closed if missing else through)[watched.rows]
            watched.state, found = step(watched.state, block, reach, watched.rule)
            by_rule.append(to_events(found, watched.state, watched.rule))
        self._reached = through
        self._done = {exchange: min(slot, limit) for exchange, slot in self._closed.items()}
        self._evaluated = max(self._evaluated, self.evaluated)
        return merged(by_rule)

    @property
    def finished(self) -> bool:
        """Whether everything that is there has been evaluated."""
        return self._done == self._closed and bool((self._reached >= self._newest).all())

    # What late points ask for.

    def first_late(self, late: Late, oldest: Slot) -> dict[Series, Slot]:
        """Return from which slot on each series is to be evaluated again; what lies before `oldest` stays as it is."""
        first = np.full(len(self._recent.series), _NEVER, np.int64)
        recent = late.slots >= oldest
        np.minimum.at(first, late.rows[recent], np.maximum(late.slots[recent], self.began))
        return {self._recent.series[row]: Slot(int(first[row])) for row in np.flatnonzero(first < _NEVER).tolist()}

    @property
    def watching(self) -> list[Watched]:
        """The rules that are in force."""
        return list(self._watched.values())

    def watched(self, name: str) -> Watched | None:
        """Return a rule that is in force, None where none of that name is."""
        return self._watched.get(name)

    def evaluated_of(self, points: Points) -> Late:
        """Return those points whose slots have been evaluated, or looked back on, rather than being still to come."""
        places = [self._recent.place(each) for each in points.series]
        rows = np.array([-1 if place is None else place for place in places], np.int32)[points.series_index]
        known = rows >= 0
        rows, slots = rows[known], points.slots[known]
        evaluated = (self._seen_from <= slots) & (slots <= self._reached[rows])
        return Late(rows[evaluated], slots[evaluated])

    @property
    def _seen_from(self) -> int:
        """The first slot that any rule has looked at."""
        return self.began - max((history(watched.rule) for watched in self._watched.values()), default=0)

    def reached(self, watched: Watched, series: Iterable[Series]) -> Slots:
        """Return the last slot evaluated of each of these series under a rule."""
        return watched.state.evaluated[[watched.places[each] for each in series]]

    def expected_from(self, series: Iterable[Series]) -> Slots:
        """Return from when on slots without a point count as missing, of each of these series."""
        return self._expected_from(self._recent.add(series))

    def _expected_from(self, rows: Rows | Indices) -> Slots:
        expected: Slots = np.maximum(np.minimum(self._first[rows] + 1, self._live_from), self.began)
        return np.maximum(expected, self._since[rows])

    def reopen(self, watched: Watched, subjects: Collection[Subject], episodes: Sequence[OpenEpisode]) -> None:
        """Replace the open episodes of these subjects under a rule, after they were evaluated anew elsewhere."""
        others = [each for each in open_episodes(watched.state, watched.rule) if each.opening.subject not in subjects]
        block = Block(self._recent.start, self._recent.values, watched.rows)
        watched.state = restore(
            watched.rule,
            watched.series,
            watched.state.evaluated[: len(watched.series)],
            block,
            expected_from=self._expected_from(watched.rows),
            episodes=[*others, *episodes],
        )

    # What a checkpoint must say.

    def state(self, mark: str) -> AlertState:
        """Return what evaluation can go on from, together with the points."""
        evaluated = self.evaluated
        ahead = {Subject(exchange).key: Slot(slot) for exchange, slot in self._done.items() if slot > evaluated}
        for row in np.flatnonzero(self._reached > self._of_exchanges(self._done)).tolist():
            ahead[self._subject(row).key] = Slot(int(self._reached[row]))
        episodes = [
            episode for watched in self._watched.values() for episode in open_episodes(watched.state, watched.rule)
        ]
        rules = {name: watched.rule.version for name, watched in sorted(self._watched.items())}
        awaited = {
            self._subject(row).key: Slot(int(self._since[row]))
            for row in np.flatnonzero((self._since >= 0) & (self._newest < 0)).tolist()
        }
        return AlertState(
            evaluated,
            self.began,
            rules,
            tuple(episodes),
            ahead,
            mark,
            live_from=self._live_from,
            blank=self._blank,
            awaited=awaited,
        )

    def _subject(self, row: int) -> Subject:
        series = self._recent.series[row]
        return Subject(self._exchanges[self._exchange_of[row]], series.metric, series.measure)


_NONE_LATE = Late(np.empty(0, np.int32), np.empty(0, np.int64))


def _by_rule(episodes: Iterable[OpenEpisode]) -> dict[str, list[OpenEpisode]]:
    found: dict[str, list[OpenEpisode]] = {}
    for episode in episodes:
        found.setdefault(episode.opening.rule, []).append(episode)
    return found
