"""ListRules, TestRule, ExplainSeries: what rules say of a store whose every value is known."""

from __future__ import annotations

import datetime as dt

import pytest
import tickwatch
from tickwatch.v1 import alert_pb2 as wire

from services.core.catalog.base import Market
from services.core.catalog.rule_source import FileRules
from services.core.catalog.rules_file import read_rules
from services.core.model import Measure, Points, Quality, Series, slot_time
from services.core.rules import Missing, Ratio, Rule, Selector
from tests.support.alerter import LogWriter, breach, resolved, serve, withdrawn
from tests.support.query import LAST, make_store

SPIKE = LAST - 400
HOUR = Rule("hour", Ratio(), Selector(measures=("volume_1m",)))
GONE = Rule("gone", Missing(3))
RULES = (HOUR, GONE)
MARKETS = [Market("SIM", ("AAA", "BBB"), (Measure.VOLUME_1M,))]


@pytest.fixture
def store():
    """A day of AAA at 100 with one minute of 350; a day of CCC, which nobody expects; BBB has never been seen."""
    store = make_store()
    rows = []
    for slot in range(LAST - 1499, LAST + 1):
        value = 350.0 if slot == SPIKE else 100.0
        rows += [(Series(name, Measure.VOLUME_1M), slot, value, Quality.OBSERVED) for name in ("SIM:AAA", "SIM:CCC")]
    store.write(Points.of(rows))
    return store


async def test_rules_are_listed_with_how_they_fare(store):
    """Defaults filled in, the series they select, what is open, when and how often they fired, what is silenced."""
    writer = LogWriter(store.breach_log)
    old, opening, further = breach(slot=LAST - 1500), breach(slot=LAST - 9), breach(slot=LAST - 8, opened=LAST - 9)
    events = [resolved(old, LAST - 1490), opening, further, breach("SIM:BBB", LAST - 5)]
    events += [withdrawn(events[-1]), breach("SIM:AAA", LAST - 2, rule="no-longer-there")]
    writer.append(*(event if event.rule != "three-times-the-hour" else _of(event, "hour") for event in [old, *events]))
    async with (
        serve(store, rules=RULES, markets=MARKETS) as service,
        tickwatch.AlertClient(service.server.address) as client,
    ):
        silence = await client.create_silence(dt.timedelta(hours=2), rules=["h*"])
        listed = await client.list_rules()
        await client.expire_silence(silence.id)
        after = await client.list_rules()

    gone, hour = listed.rules
    assert (gone.rule.name, gone.rule.condition, gone.series_count) == ("gone", tickwatch.Missing(3), 2)
    assert (gone.open_count, gone.last_breach_time, gone.breach_count_24h, gone.silence_ids) == (0, None, 0, ())
    assert hour.rule.version == HOUR.version
    assert (hour.series_count, hour.open_count, hour.breach_count_24h) == (3, 1, 2)
    assert hour.last_breach_time == slot_time(LAST - 8)
    assert hour.silence_ids == (silence.id,)
    assert listed.silences == (silence,)
    assert (listed.loaded_time.timestamp(), listed.load_error) == (service.clock.now(), "")
    assert (after.silences, after.rules[1].silence_ids) == ((), ())


async def test_a_rules_file_is_read_again_and_a_wrong_one_changes_nothing(store, tmp_path):
    """The list says every problem with its line until the file is right again; the rules in force stay."""
    file = tmp_path / "rules.yaml"
    file.write_text("rules: [{name: first, missing: {}}]")
    LogWriter(store.breach_log)
    async with (
        serve(store, rules=FileRules(file, read_rules), markets=MARKETS) as service,
        tickwatch.AlertClient(service.server.address) as client,
    ):
        before = await client.list_rules()
        service.clock.advance(60)
        file.write_text("rules:\n- name: second\n  ratio: {factor: 0,\n    windw: 1h}")
        wrong = await client.list_rules()
        file.write_text("rules: [{name: second, missing: {}}]")
        after = await client.list_rules()

    assert [[status.rule.name for status in each.rules] for each in (before, wrong, after)] == [
        ["first"],
        ["first"],
        ["second"],
    ]
    assert (before.load_error, after.load_error) == ("", "")
    assert wrong.load_error.splitlines() == [
        f"{file}:3: ratio.factor: 0 is not usable (a finite number above 0)",
        f"{file}:4: unknown key 'windw' (did you mean 'window'?)",
    ]
    assert wrong.loaded_time == before.loaded_time < after.loaded_time


def _of(event, rule):
    """Return the event as of another rule."""
    fields = {name: getattr(event, name) for name in event.__dataclass_fields__}
    if event.withdrawn_id:
        fields["withdrawn_id"] = _of(breach("SIM:BBB", LAST - 5), rule).id
    return type(event)(**{**fields, "rule": rule})


async def test_a_rule_is_tried_on_history(store):
    """By the name of one in force, or whole; by default over the last 24 hours of complete slots."""
    LogWriter(store.breach_log)
    twice = tickwatch.Rule("twice", tickwatch.Ratio(factor=2.0), tickwatch.Selector(metrics=("*:AAA",)))
    async with (
        serve(store, rules=RULES, markets=MARKETS) as service,
        tickwatch.AlertClient(service.server.address) as client,
    ):
        found = await client.test_rule("hour")
        tried = await client.test_rule(twice, start=slot_time(SPIKE - 100), end=slot_time(SPIKE + 3))
        quiet = await client.test_rule("hour", start=slot_time(SPIKE + 1))
        gone = await client.test_rule("gone")

    assert [(event.metric, event.kind, event.time) for event in found.events] == [
        ("SIM:AAA", "breach", slot_time(SPIKE)),
        ("SIM:CCC", "breach", slot_time(SPIKE)),
        ("SIM:AAA", "resolved", slot_time(SPIKE + 5)),
        ("SIM:CCC", "resolved", slot_time(SPIKE + 5)),
    ]
    assert (found.events[0].value, found.events[0].baseline, found.events[0].point_count) == (350, 100, 60)
    assert (found.breach_count, found.episode_count, found.breaches_per_day, found.episodes_per_day) == (2, 2, 2, 2)
    assert (found.point_count, found.series_count) == (2880, 3)
    assert (found.window.start, found.window.end) == (slot_time(LAST - 1439), slot_time(LAST + 1))
    assert [(event.rule, event.kind) for event in tried.events] == [("twice", "breach")]
    assert (tried.point_count, tried.episodes_per_day) == (103, pytest.approx(1440 / 103))
    assert quiet.events == ()
    assert [(event.metric, event.time) for event in gone.events] == [("SIM:BBB", slot_time(LAST - 1437))]


async def test_all_is_counted_but_only_so_many_events_come(store):
    """The first of them; what a test finds is in no log and opens no episode."""
    LogWriter(store.breach_log)
    often = wire.Rule(name="often", threshold=wire.ThresholdCondition(above=99))
    async with serve(store, rules=RULES, markets=MARKETS) as service:
        found = await service.stub.TestRule(wire.TestRuleRequest(rule=often, max_events=5))
        default = await service.stub.TestRule(wire.TestRuleRequest(rule=often))
        listed = await service.stub.ListBreaches(wire.ListBreachesRequest())

    assert (len(found.events), found.breach_count, found.episode_count) == (5, 2880, 2)
    assert len(default.events) == 1000
    assert default.events[:5] == found.events
    assert not listed.events


async def test_a_series_is_explained_at_any_slot(store):
    """Before, at and after a breach, with the numbers that decided; by default at the last slot evaluated."""
    LogWriter(store.breach_log)
    async with (
        serve(store, rules=RULES, markets=MARKETS) as service,
        tickwatch.AlertClient(service.server.address) as client,
    ):

        async def explain(rule, metric, slot=None):
            return await client.explain(rule, metric, "volume_1m", None if slot is None else slot_time(slot))

        before, at, after, last = [
            await explain("hour", "SIM:AAA", slot) for slot in (SPIKE - 1, SPIKE, SPIKE + 1, None)
        ]
        tested = await client.test_rule("hour")
        unexpected = await explain("gone", "SIM:CCC")
        other = await client.explain("hour", "SIM:AAA", "price")

    assert (before.state, before.breached, before.baseline, before.threshold) == ("ok", False, 100, 300)
    assert (at.state_before, at.state, at.breached, at.value, at.ratio) == ("ok", "open", True, 350, 3.5)
    assert (at.point_count, at.rule_version) == (60, HOUR.version)
    assert at.episode_id == after.episode_id == tested.events[0].episode_id
    assert (after.state_before, after.state, after.breached) == ("open", "open", False)
    assert (last.time, last.state, last.episode_id) == (slot_time(LAST), "ok", "")
    assert at.explanation == (
        f"fired at {slot_time(SPIKE):%Y-%m-%dT%H:%MZ}: SIM:AAA volume_1m is 3.5 times its average of the last 1h: "
        "350 against 100 (60 points)"
    )
    assert (unexpected.state, unexpected.explanation) == (
        "not_selected",
        "not selected: SIM:CCC volume_1m is not in the catalog, and gone is about what is expected there",
    )
    assert (other.state, other.explanation) == (
        "not_selected",
        "not selected: the selector of hour does not fit SIM:AAA price",
    )
