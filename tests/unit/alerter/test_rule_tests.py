"""Tests of rules: what passes, what fails and how that is told, and every mistake with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.alerter.trial.rule_test_file import read_rule_tests
from services.alerter.trial.rule_tests import run
from services.core.errors import InvalidSettingError
from services.core.model import slot_time

RULES = """
rules:
  - {name: spike, ratio: {window: 4m, min_points: 2}, message: "{metric} at {time}"}
  - {name: gone, missing: {slots: 2}}
"""


def read(tmp_path: Path, text: str):
    """Read tests of this text, of the rules above."""
    (tmp_path / "rules.yaml").write_text(RULES)
    path = tmp_path / "tests.yaml"
    path.write_text(text)
    return read_rule_tests(path)


def outcome(tmp_path: Path, body: str) -> list[str]:
    """Return what one test of this body says."""
    (test,) = read(tmp_path, f"rules: rules.yaml\ntests:\n- name: a test\n{body}")
    return run(test)


SPIKE = "  rule: spike\n  series: {SIM:AAA price: 1x4 9 1x3}\n"


def test_only_what_is_given_is_compared(tmp_path):
    """Minute and kind at the least; numbers to nine digits."""
    long = "  rule: spike\n  series: {SIM:AAA price: 1x4 10 1x5}\n"
    assert outcome(tmp_path, f"{long}  events: [{{minute: 4, kind: breach}}, {{minute: 8, kind: resolved}}]") == []
    every = (
        "{minute: 4, kind: breach, series: SIM:AAA price, opening: yes, opened: 4, value: 10, baseline: 1, ratio: 10,"
        " threshold: 3, points: 4, message: 'SIM:AAA at 2026-11-24T12:04Z'}"
    )
    end = "{minute: 8, kind: resolved, reason: rebased, value: 1, baseline: 3.25, ratio: 0.307692307692}"
    assert outcome(tmp_path, f"{long}  start: 2026-11-24T12:00Z\n  events: [{every}, {end}]") == []


def test_each_difference_is_told(tmp_path):
    """What is missing, what was not expected, and where an event is another one than expected."""
    lines = outcome(
        tmp_path,
        f"{SPIKE}  events: [{{minute: 3, kind: breach, value: 9}}, {{minute: 4, kind: breach, value: 8, points: 4}}]",
    )
    assert lines == [
        "missing:    minute 3: breach of SIM:AAA price: value 9",
        "expected:   minute 4: breach of SIM:AAA price: value 8, points 4",
        "got:        minute 4: breach of SIM:AAA price: value 9",
    ]
    assert outcome(tmp_path, f"{SPIKE}  events: []") == [
        (
            "unexpected: minute 4: breach of SIM:AAA price: opening yes, opened 4, value 9, baseline 1, ratio 9, "
            "threshold 3, points 4, message 'SIM:AAA at 2026-01-01T00:04Z'"
        )
    ]


def test_missing_points_and_several_series(tmp_path):
    """A whole exchange is named alone; a series that is shorter than the others ends with missing slots."""
    body = "  rule: gone\n  series:\n    SIM:AAA price: 1 _ _ 1 1\n    SIM:BBB price: 1\n"
    whole, own, end = (
        "{minute: 2, kind: breach, series: SIM, points: 2}",
        "{minute: 3, kind: breach, series: SIM:BBB price}",
        "{minute: 3, kind: resolved, series: SIM, reason: data_returned}",
    )
    assert outcome(tmp_path, f"{body}  events: [{whole}, {own}, {end}]") == []
    assert outcome(tmp_path, f"{body}  events: [{whole}, {end}]") == [
        (
            "unexpected: minute 3: breach of SIM:BBB price: opening yes, opened 3, points 2, "
            "message 'SIM:BBB price has had no point for 2 minutes'"
        )
    ]


def test_breaches_within_an_episode_may_be_left_out(tmp_path):
    """As streams leave them out."""
    body = "  rule: spike\n  series: {SIM:AAA price: 1x4 9 99}\n  events: [{minute: 4, kind: breach}]\n"
    assert outcome(tmp_path, f"{body}  delivery: episodes") == []
    assert len(outcome(tmp_path, body)) == 1


def test_without_a_file_the_rules_are_those_that_come_with_the_product(tmp_path):
    """And a test begins in 2026 unless it says when."""
    text = (
        "tests: [{name: a, rule: missing, series: {SIM:A price: _x3}, events: [{minute: 2, kind: breach}]},"
        " {name: b, rule: three-times-the-hour, series: {SIM:A volume: 1x60 9}, events: [], start: 2026-11-24 12:00}]"
    )
    missing, hour = read(tmp_path, text)
    assert (run(missing), run(hour)) == ([], []), "the rule does not select volume"
    assert f"{slot_time(missing.start)} {slot_time(hour.start)}".count("2026-") == 2


ONE = "rules: rules.yaml\ntests:\n- name: a\n  rule: gone\n"
SERIES = "  series: {SIM:A price: 1}\n"

MISTAKES = [
    ("", None, "there are no tests"),
    ("tests: []", 1, "there are no tests"),
    ("test: []", 1, "unknown key 'test' (did you mean 'tests'?)"),
    ("rules: [a]\ntests: []", 1, "a plain value was expected, not a list"),
    ("tests:\n- name: a", 2, "a test needs the key 'events'"),
    (
        "rules: rules.yaml\ntests: [{rule: gon, name: a, series: {A:B price: 1}, events: []}]",
        2,
        "did you mean 'gone'?",
    ),
    (f"{ONE}  series: {{SIM:A prise: 1}}\n  events: []", 5, "'SIM:A prise' is not a series (METRIC MEASURE; did you"),
    (f"{ONE}  series: {{sim price: 1}}\n  events: []", 5, "'sim' is not a metric name"),
    (f"{ONE}  series: {{SIM:A price: 1 x}}\n  events: []", 5, "'x' is not a value"),
    (f"{ONE}  series: {{SIM:A price: }}\n  events: []", 5, "SIM:A price has no values"),
    (f"{ONE}  series: {{}}\n  events: []", 5, "there are no series"),
    (f"{ONE}{SERIES}  events: [{{minute: 1}}]", 6, "an event needs the key 'kind'"),
    (f"{ONE}{SERIES}  events: [{{minute: 1, kind: breech}}]", 6, "did you mean 'breach'?"),
    (f"{ONE}{SERIES}  events: [{{minute: one, kind: breach}}]", 6, "'one' is not a whole number"),
    (f"{ONE}{SERIES}  events: [{{minute: 1, kind: breach, series: SIM:B price}}]", 6, "is not in this test (did you"),
    (f"{ONE}{SERIES}  events: [{{minute: 1, kind: breach, vlue: 1}}]", 6, "unknown key 'vlue' (did you mean 'value'?)"),
    (f"{ONE}{SERIES}  events: [{{minute: 1, kind: breach, opening: maybe}}]", 6, "unknown word 'maybe'"),
    (f"{ONE}{SERIES}  events: [{{minute: 1, kind: resolved, reason: calmed}}]", 6, "did you mean 'calm'?"),
    (f"{ONE}{SERIES}  events:\n  - {{minute: 1, kind: breach}}\n  - {{minute: 1, kind: breach}}", 8, "is given twice"),
    (f"{ONE}{SERIES}  events: []\n  start: noon", 7, "'noon' is not a time"),
    (f"{ONE}{SERIES}  events: []\n  start: 2026-11-24T12:00:30Z", 7, "is not on a whole minute"),
    (f"{ONE}{SERIES}  events: []\n  delivery: all", 7, "unknown word 'all' (known here: episodes, every_breach)"),
    (f"{ONE}{SERIES}  events: []\n- name: a\n  rule: gone\n{SERIES}  events: []", 7, "the test 'a' is given twice"),
    (
        f"{ONE}  series: {{SIM:A price: 1, SIM:B price: 1}}\n  events: [{{minute: 1, kind: breach}}]",
        6,
        "an event of a test with several series needs the key 'series'",
    ),
]


@pytest.mark.parametrize(("text", "line", "problem"), MISTAKES)
def test_a_mistake_is_told_with_its_line(tmp_path, text, line, problem):
    """And with what would be right."""
    with pytest.raises(InvalidSettingError) as refused:
        read(tmp_path, text)
    place = f"{tmp_path / 'tests.yaml'}:{line}:" if line else ""
    assert any(each.startswith(place) and problem in each for each in str(refused.value).splitlines()), refused.value


def test_mistakes_in_the_rules_are_those_of_their_file(tmp_path):
    """A file that is not there, and one that is wrong."""
    path = tmp_path / "tests.yaml"
    path.write_text("rules: other.yaml\ntests: []")
    with pytest.raises(InvalidSettingError, match=r"other\.yaml: cannot be read"):
        read_rule_tests(path)
    (tmp_path / "other.yaml").write_text("rules: [{name: a}]")
    with pytest.raises(InvalidSettingError, match=r"other\.yaml:1: a rule needs a condition"):
        read_rule_tests(path)
