"""What goes wrong around the evaluation, and what the log says of it afterwards: nothing lost, nothing twice."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from services.alerter.rules.rulebook import RuleBook
from services.alerter.streams.following import BreachBroadcast, LogFollower
from services.core.breaches import EventKind
from services.core.catalog.base import FixedCatalog, Market
from services.core.catalog.rule_source import FileRules
from services.core.catalog.rules_file import read_rules
from services.core.errors import StoreUnavailableError
from services.core.model import Measure
from services.core.rules import Missing, Ratio, Rule, Selector, Threshold
from services.core.telemetry import AlertStreamMetrics
from tests.support.live import FIRST, Live, Told, ids, replayed, series, standing, texts

AAA, BBB, CCC = series("SIM:AAA"), series("SIM:BBB"), series("OTHER:CCC")
SURGE = Rule("surge", Ratio(window=10, min_points=3, resolve_after=2))
MISSING = Rule("missing", Missing(3))


class Away:
    """A store that is out of reach while `away`, its log too."""

    def __init__(self, inner: object) -> None:
        self._inner = inner
        self.away = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            if self.away:
                raise StoreUnavailableError("memory:", "it is away")
            return found(*arguments, **named)

        return call


def told(live: Live) -> list[str]:
    """What stands in the log, as KIND RULE SUBJECT @SLOT."""
    return [text.rsplit(" ", 1)[0] for text in ids(live.events)]


def play(live: Live, values: dict[Any, list[float | None]], first: int = 0, last: int | None = None) -> None:
    """Let slots end and their points come, one by one."""
    length = max(len(column) for column in values.values())
    if not first:
        live.step()
    for slot in range(first, length if last is None else last):
        live.at(slot, 3)
        live.write(Told(each, slot, value) for each, column in values.items() if (value := column[slot]) is not None)
        live.run(slot, "SIM", "OTHER")
        live.step()


def test_a_store_away_for_ten_minutes_costs_nothing() -> None:
    """Health says so within three minutes; back again, evaluation catches up in order and the log lacks nothing."""
    live = Live([SURGE], [])
    reader, log = Away(live.store), Away(live.store.breach_log)
    live.reader.inner, live.log.inner = reader, log  # as if the network were cut
    healths: list[bool] = []
    follower = LogFollower(
        log,  # type: ignore[arg-type]  # has all its methods
        BreachBroadcast(lambda: None),
        clock=live.clock,
        metrics=AlertStreamMetrics(live.registry),
        on_health=healths.append,
    )
    values = [1.0, 1.0, 1.0, 1.0, 9.0, 1.0, 1.0, 1.0, 8.0, 1.0, 1.0, 1.0, 1.0, 9.5, 1.0, 1.0, 1.0]
    play(live, {AAA: values}, last=4)
    follower.step()
    reader.away = log.away = True
    for slot in range(4, 14):
        live.at(slot, 3)
        live.write([Told(AAA, slot, values[slot])])
        assert not live.engine.step()
        follower.step()
    during = list(healths)
    reader.away = log.away = False
    play(live, {AAA: values}, first=14)
    follower.step()

    assert during[0]
    assert during[:3] == [True] * 3, "within three minutes nobody need know"
    assert not any(during[3:])
    assert healths[-1]
    history = {(AAA, slot): value for slot, value in enumerate(values)}
    assert texts(replayed([SURGE], history, [], 16)) == texts(live.events)
    assert live.registry.get_sample_value("tickwatch_engine_failures_total") == 10
    assert live.engine.behind_seconds < 60


def test_silences_that_cannot_be_read_lose_no_event() -> None:
    """What was found before that failed is found again, and logged once it can be said whether it is silenced."""
    live = Live([SURGE], [])
    values = [1.0, 1.0, 1.0, 1.0, 9.0, 1.0, 1.0]
    play(live, {AAA: values}, last=4)

    def away(_event: object) -> bool:
        raise StoreUnavailableError("influxdb", "no answer within 10 s")

    live.silenced = away
    live.at(4, 3)
    live.write([Told(AAA, 4, values[4])])
    assert not live.engine.step()
    live.silenced = lambda _event: True
    play(live, {AAA: values}, first=5)

    assert told(live)[0] == "breach surge SIM:AAA volume_1m @4"
    assert live.events[0].silenced


def test_a_series_never_seen_is_missing_from_the_beginning() -> None:
    """What the catalog expects and nobody has ever written breaks the rule after its slots, of its own exchange."""
    live = Live([MISSING], [AAA, BBB])
    play(live, {AAA: [1.0] * 6})
    live.settle(5)

    assert told(live) == ["breach missing SIM:BBB volume_1m @2"]


def test_a_whole_exchange_missing_is_one_breach() -> None:
    """Of an exchange of which nothing comes one episode tells, until the first point; of others nothing is said."""
    live = Live([MISSING], [AAA, BBB, CCC])
    play(live, {AAA: [1.0, *[None] * 5, 1.0], BBB: [1.0, *[None] * 5, 1.0], CCC: [1.0] * 7})
    live.settle(6)

    assert told(live) == ["breach missing SIM @3", "resolved missing SIM @6"]


def test_points_from_the_future_wait_for_their_time() -> None:
    """A point of a minute that has not begun is refused and counted; once its minute has come it is evaluated."""
    live = Live([SURGE], [])
    play(live, {AAA: [1.0] * 5})
    live.write([Told(AAA, 6, 50.0)])
    live.step()
    early, refused = told(live), live.registry.get_sample_value("tickwatch_future_points_total")
    play(live, {AAA: [1.0] * 6 + [None] + [1.0] * 3}, first=5)

    assert (early, refused) == ([], 1)
    assert told(live) == ["breach surge SIM:AAA volume_1m @6", "resolved surge SIM:AAA volume_1m @8"]
    assert not any(event.late for event in live.events)


def test_a_refused_point_is_not_forgotten_over_a_restart() -> None:
    """Who starts while a point lies in the future takes it too when its time has come."""
    live = Live([SURGE], [])
    play(live, {AAA: [1.0] * 5})
    live.write([Told(AAA, 6, 50.0)])
    live.step()
    live.start()
    live.step()
    play(live, {AAA: [1.0] * 6 + [None] + [1.0] * 3}, first=5)

    assert told(live) == ["breach surge SIM:AAA volume_1m @6", "resolved surge SIM:AAA volume_1m @8"]


@pytest.mark.parametrize("minutes", [-30, 30, 3 * 1440])
def test_a_clock_that_was_wrong_leaves_no_trace_once_it_is_right(minutes: int) -> None:
    """Slots come from points, not from the clock: after a jump and back, what stands is what an even clock gives."""
    values: dict[Any, list[float | None]] = {
        AAA: [1.0, 1.0, 1.0, 1.0, 1.0, 9.0, 1.0, 1.0, 1.0, 9.0, 1.0, 1.0],
        BBB: [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, None, None, None, None],
    }
    live = Live([SURGE, MISSING], [AAA, BBB])
    play(live, values, last=6)
    right = live.clock.now()
    live.clock.set(right + minutes * 60)
    live.engine.step()
    live.clock.set(right)
    live.step()
    play(live, values, first=6)
    live.settle(11)

    points = {(each, slot): value for each, column in values.items() for slot, value in enumerate(column) if value}
    assert ids(replayed([SURGE, MISSING], points, [AAA, BBB], 11)) == ids(standing(live.events))
    assert not any(event.late for event in live.events if event.kind is EventKind.BREACH)


def test_a_changed_rule_goes_on_with_its_episodes() -> None:
    """A new version judges from the next slot on; what was open stays open under its opening, and resolves by it."""
    live = Live([SURGE], [])
    values: list[float | None] = [1.0, 1.0, 1.0, 1.0, 9.0, 4.0, 4.0, 1.0, 1.0, 1.0]
    play(live, {AAA: values}, last=5)
    live.rules.set([Rule("surge", Ratio(factor=2.5, window=10, min_points=3, resolve_after=2))], [])
    play(live, {AAA: values}, first=5)

    versions = [event.rule_version for event in live.events]
    assert [line for line in told(live) if "breach" not in line] == ["resolved surge SIM:AAA volume_1m @8"]
    assert {event.opened_slot - FIRST for event in live.events} == {4}
    assert versions[0] != versions[-1]


def test_a_removed_rule_ends_its_episodes() -> None:
    """So does a series that the catalog no longer has; nothing of them is evaluated any more."""
    live = Live([SURGE, MISSING], [AAA, BBB])
    values: dict[Any, list[float | None]] = {AAA: [1.0, 1.0, 1.0, 9.0, 9.0, 9.0], BBB: [None] * 6}
    play(live, values, last=4)
    live.settle(3)
    live.rules.set([MISSING], [AAA])
    play(live, values, first=4)
    live.settle(5)

    assert [(event.kind, event.rule, event.reason) for event in live.events if event.kind is EventKind.RESOLVED] == [
        (EventKind.RESOLVED, "missing", "removed"),
        (EventKind.RESOLVED, "surge", "removed"),
    ]
    assert live.state.episodes == ()


def test_a_rule_removed_while_nobody_evaluated_ends_too() -> None:
    """Whoever starts with other rules than the checkpoint was written under closes what is left."""
    live = Live([SURGE], [])
    play(live, {AAA: [1.0, 1.0, 1.0, 9.0]})
    live.rules.set([Rule("other", Threshold(above=100))], [])
    live.start()
    live.at(4, 3)
    live.step()

    assert told(live)[-1] == "resolved surge SIM:AAA volume_1m @4"


def test_a_bad_edit_keeps_the_last_good_rules_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Logged once, in the metrics, and in what ListRules answers from; the next good edit holds at once."""
    file = tmp_path / "rules.yaml"
    file.write_text("rules:\n  - {name: limit, threshold: {above: 5}}\n", encoding="utf-8")
    live = Live([], [])
    catalog = FixedCatalog(Market("SIM", ("AAAUSD",), (Measure.VOLUME_1M,)))
    live.rules = RuleBook(FileRules(file, read_rules), catalog, live.clock)  # type: ignore[assignment]  # one that reads
    live.start()
    loaded = lambda: live.registry.get_sample_value("tickwatch_rules_last_load_successful")  # noqa: E731
    each = series("SIM:AAAUSD")
    play(live, {each: [1.0, 6.0]})
    good = loaded()
    file.write_text("rules:\n  - {name: limit, threshold: {abov: 50}}\n", encoding="utf-8")
    with caplog.at_level(logging.ERROR):
        play(live, {each: [1.0, 6.0, 7.0, 8.0]}, first=2)
    bad, problem = loaded(), live.rules.current.error
    file.write_text("rules:\n  - {name: limit, threshold: {above: 7.5}}\n", encoding="utf-8")
    play(live, {each: [1.0, 6.0, 7.0, 8.0, 7.0, 9.0]}, first=4)

    assert (good, bad, loaded()) == (1, 0, 1)
    assert "line 2" in problem or ":2" in problem
    assert len([record for record in caplog.records if "stay as they were" in record.message]) == 1
    assert live.rules.current.error == ""
    assert [event.slot - FIRST for event in live.events if event.kind is EventKind.BREACH] == [1, 2, 3, 5]


def test_only_news_of_the_selected_are_late() -> None:
    """A point that comes again with the same value is no news; with another one it is judged anew, and marked late."""
    live = Live([Rule("limit", Threshold(above=5), Selector(metrics=("SIM:AAA",)))], [])
    play(live, {AAA: [1.0, 6.0, 1.0], BBB: [1.0, 1.0, 1.0]})
    live.write([Told(AAA, 1, 6.0), Told(BBB, 1, 9.0)])
    live.step()
    before, counted = told(live), live.registry.get_sample_value("tickwatch_late_points_total")
    live.write([Told(AAA, 1, 2.0), Told(AAA, 0, 7.0)])
    live.step()

    assert (before, counted) == (["breach limit SIM:AAA volume_1m @1"], 1)
    assert told(live)[1:] == ["withdrawn limit SIM:AAA volume_1m @1", "breach limit SIM:AAA volume_1m @0"]
    assert [event.late for event in live.events] == [False, True, True]


def test_a_late_point_changes_what_an_opening_has_frozen() -> None:
    """An episode that opened by an average which a late point makes another one ends by that other one."""
    rule = Rule("ratio", Ratio(window=6, min_points=2, resolve_after=2))
    live = Live([rule], [])
    play(live, {AAA: [1.0, 1.0, 1.0, None, 9.0, 2.5, 2.5]})
    live.write([Told(AAA, 3, 2.0)])
    live.step()
    play(live, {AAA: [1.0, 1.0, 1.0, None, 9.0, 2.5, 2.5, 1.0, 1.0]}, first=7)
    live.write([Told(AAA, 6, 2.4)])
    live.step()

    points = {(AAA, slot): value for slot, value in enumerate([1.0, 1.0, 1.0, 2.0, 9.0, 2.5, 2.4, 1.0, 1.0])}
    assert ids(replayed([rule], points, [], 8)) == ids(standing(live.events))
