"""Tests of rules as YAML files that people write.

    rules: rules.yaml                # beside this file; left out: the rules that come with the product
    tests:
      - name: a burst of trading
        rule: three-times-the-hour
        series:
          SIM:BTCUSD volume_1m: 100x60 301 100x5
        events:
          - {minute: 60, kind: breach, opening: true, value: 301, baseline: 100}
          - {minute: 65, kind: resolved, reason: calm}

How values are written says `series_text`. Beyond that a test may have `start`, the time of its first value, and
`delivery: episodes`, which leaves out breaches within an episode. An event needs `series` where the test has several.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from services.alerter.evaluation.states import subject_of
from services.alerter.trial.rule_tests import FIELDS, KINDS, REASONS, Expected, RuleTest
from services.alerter.trial.series_text import series_values
from services.core.breaches import Subject
from services.core.catalog.rules_file import RulesReading, read_rules
from services.core.documents import Node, load_document
from services.core.errors import InvalidInputError, InvalidSettingError
from services.core.model import SLOT_SECONDS, Floats, Measure, Metric, Series, Slot, slot_at
from services.core.rules import DEFAULT_RULES, Rule
from services.core.suggesting import nearest

_START = slot_at(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
_DELIVERIES = {"every_breach": False, "episodes": True}


def read_rule_tests(path: Path) -> tuple[RuleTest, ...]:
    """Return a file's tests, in their order; raise one InvalidSettingError that lists every problem with its line."""
    document = load_document(path)
    if document is None:
        raise InvalidSettingError(str(path), "there are no tests", "give them under the key 'tests'")
    reading = _TestsReading()
    keys = reading.mapping(document, {"rules", "tests"})
    rules: tuple[Rule, ...] = DEFAULT_RULES
    if "rules" in keys and (name := reading.text(keys["rules"], "a file's name")):
        reading.finish(path)
        rules = read_rules(path.parent / name)
    tests = reading.tests(keys["tests"], {rule.name: rule for rule in rules}) if "tests" in keys else ()
    if not tests and not reading.problems:
        reading.say(document.where, "there are no tests", "give them under the key 'tests'")
    reading.finish(path)
    return tests


class _TestsReading(RulesReading):
    """One reading of a file of tests."""

    def tests(self, node: Node, rules: Mapping[str, Rule]) -> tuple[RuleTest, ...]:
        found: dict[str, tuple[RuleTest | None, str]] = {}
        for item in self.items(node):
            keys = self.mapping(item, {"name", "rule", "series", "events", "start", "delivery"})
            for missing in sorted({"name", "rule", "series", "events"} - keys.keys()) if keys else []:
                self.say(item.where, f"a test needs the key {missing!r}")
            name = self.text(keys["name"], "a test's name") if "name" in keys else ""
            test = self._test(name, item, keys, rules)
            if name in found:
                self.say(item.where, f"the test {name!r} is given twice", f"first at {found[name][1]}")
            elif name:
                found[name] = (test, item.where)
        return tuple(test for test, _ in found.values() if test is not None)

    def _test(self, name: str, node: Node, keys: Mapping[str, Node], rules: Mapping[str, Rule]) -> RuleTest | None:
        rule = self._rule_named(keys["rule"], rules) if "rule" in keys else None
        series = self._series(keys["series"]) if "series" in keys else {}
        events = self._events(keys["events"], series) if "events" in keys else ()
        start = self._start(keys["start"]) if "start" in keys else _START
        episodes_only = self.choice(keys["delivery"], _DELIVERIES) if "delivery" in keys else False
        if rule is None:
            return None
        return RuleTest(name, node.where, rule, series, events, start, episodes_only=bool(episodes_only))

    def _rule_named(self, node: Node, rules: Mapping[str, Rule]) -> Rule | None:
        name = self.text(node, "a rule's name")
        if name and name not in rules:
            self.say(node.where, f"there is no rule {name!r}", nearest(name, rules) if rules else "the file has none")
        return rules.get(name)

    def _series(self, node: Node) -> dict[Series, Floats]:
        found: dict[Series, Floats] = {}
        for name, child in self.mapping(node).items():
            series = self._series_named(name, child.where)
            value = self.scalar(child)
            text = "" if value is None or isinstance(value, bool) else str(value)
            if not text:
                self.say(child.where, f"{name} has no values", "as in 100x60 301 _x3")
            elif series is not None:
                try:
                    found[series] = series_values(text)
                except InvalidInputError as error:
                    self.say(child.where, error.problem, error.hint)
        if not found and not self.problems:
            self.say(node.where, "there are no series", "as in SIM:BTCUSD volume_1m: 100x60 301")
        return found

    def _series_named(self, name: str, where: str) -> Series | None:
        metric, _, measure = name.partition(" ")
        try:
            Metric.parse(metric)
            return Series(metric, Measure(measure))
        except InvalidInputError as error:
            self.say(where, error.problem, error.hint)
        except ValueError:
            self.say(
                where,
                f"{name!r} is not a series",
                f"METRIC MEASURE; {nearest(measure, [each.value for each in Measure])}",
            )
        return None

    def _events(self, node: Node, series: Mapping[Series, Floats]) -> tuple[Expected, ...]:
        found: dict[tuple[int, str, str], tuple[Expected, str]] = {}
        for item in self.items(node):
            keys = self.mapping(item, {"minute", "kind", "series", *FIELDS})
            for missing in sorted({"minute", "kind"} - keys.keys()) if keys else []:
                self.say(item.where, f"an event needs the key {missing!r}")
            minute = self.whole(keys["minute"]) if "minute" in keys else None
            kind = self.choice(keys["kind"], KINDS) if "kind" in keys else None
            subject = self._subject(item, keys, series)
            fields = {
                key: value
                for key, read in _FIELDS.items()
                if key in keys and (value := read(self, keys[key])) is not None
            }
            if minute is None or kind is None or subject is None:
                continue
            event = Expected(minute, kind, subject, fields)
            if event.key in found:
                self.say(item.where, "this event is given twice", f"first at {found[event.key][1]}")
            found[event.key] = (event, item.where)
        return tuple(event for event, _ in found.values())

    def _subject(self, node: Node, keys: Mapping[str, Node], series: Mapping[Series, Floats]) -> Subject | None:
        """Return the series of an event, the only one of the test where none is given, or a whole exchange."""
        subjects = {f"{each.metric} {each.measure.value}": subject_of(each) for each in series}
        if "series" not in keys:
            if len(subjects) > 1:
                self.say(node.where, "an event of a test with several series needs the key 'series'")
            return next(iter(subjects.values()), None)
        name = self.text(keys["series"], "a series")
        exchanges = {subject.exchange: Subject(subject.exchange) for subject in subjects.values()}
        if name and name not in subjects and name not in exchanges:
            self.say(keys["series"].where, f"{name!r} is not in this test", nearest(name, [*subjects, *exchanges]))
        return subjects.get(name) or exchanges.get(name)

    def _start(self, node: Node) -> Slot:
        text = str(self.scalar(node))
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            self.say(node.where, f"{text!r} is not a time", "ISO 8601, as in 2026-11-24T12:00Z")
            return _START
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        if moment.timestamp() % SLOT_SECONDS:
            self.say(node.where, f"{text!r} is not on a whole minute", "seconds must be zero")
        return slot_at(moment.timestamp())

    def flag(self, node: Node) -> bool | None:
        """Return yes or no."""
        return self.choice(node, {"True": True, "False": False})


_FIELDS: dict[str, Any] = {
    "opening": _TestsReading.flag,
    "opened": _TestsReading.whole,
    "value": _TestsReading.number,
    "baseline": _TestsReading.number,
    "ratio": _TestsReading.number,
    "threshold": _TestsReading.number,
    "points": _TestsReading.whole,
    "reason": partial(_TestsReading.choice, choices=REASONS),
    "message": partial(_TestsReading.text, what="a message"),
}
