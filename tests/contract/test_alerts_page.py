"""The page about alerts is complete and its examples hold, so that nobody has to read the code to write a rule."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields

import numpy as np
import pytest

from services.alerter.evaluation.steps import Block
from services.alerter.trial.explaining import Question, explain
from services.alerter.trial.explanations import Numbers, Standing
from services.alerter.trial.rule_test_file import read_rule_tests
from services.alerter.trial.rule_tests import FIELDS, run
from services.cli import cli
from services.core.breaches import Event, EventKind
from services.core.catalog.rules_file import read_rules
from services.core.model import Measure, Series, Slot, Window
from services.core.rules import DEFAULT_RULES, PLACEHOLDERS, Frozen, Missing, Ratio, Rule, Threshold
from tests.support.evaluating import START, Evaluated, block_of, named
from tests.support.live import FIRST, Live, Told
from tests.support.needs import ROOT

PAGE = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def rows(heading: str, place: int = 0) -> list[str]:
    """Return the first cells of a table (the first, unless `place` says another) under a heading."""
    section = re.split(r"^##+ ", PAGE, flags=re.MULTILINE)
    (text,) = [each for each in section if each.startswith(heading)]
    tables = re.findall(r"^\| (?:key|state|text).*?\n\| ---.*?\n((?:\|.*\n)+)", text, re.MULTILINE)
    return re.findall(r"^\| `([^|]+)` \|", tables[place], re.MULTILINE)


@pytest.mark.parametrize("condition", [Ratio, Threshold, Missing, Frozen])
def test_every_key_of_a_condition_has_a_row(condition):
    """And no row is of a key that is none."""
    assert rows(f"`{condition.__name__.lower()}`") == [field.name for field in fields(condition)]


def test_every_key_of_a_rule_has_a_row():
    """The conditions share one."""
    listed = rows("Rules")
    assert {"ratio`, `threshold`, `missing` or `frozen"} | {field.name for field in fields(Rule)} - {
        "condition"
    } == set(listed)
    assert all(f"`{{{name}}}`" in PAGE for name in PLACEHOLDERS)


def test_every_key_of_a_test_and_every_state_has_a_row():
    """What may be expected of an event, and where a series may stand."""
    assert rows("Tests of rules", 1) == ["name", "rule", "series", "events", "start", "delivery"]
    assert rows("Tests of rules", 2) == ["minute", "kind", "series", *FIELDS]
    assert {standing.name.lower() for standing in Standing} == set(rows("Why it did, or did not, fire"))


def test_the_examples_hold(tmp_path):
    """The rules are those that come with the product, and the tests of the page pass."""
    default, tests = BLOCKS
    (tmp_path / "rules.yaml").write_text(default)
    (tmp_path / "tests.yaml").write_text(tests)

    assert read_rules(tmp_path / "rules.yaml") == DEFAULT_RULES
    assert [run(test) for test in read_rule_tests(tmp_path / "tests.yaml")] == [[]] * 4


def test_the_commands_exist():
    """With the options that the page gives them."""
    for line in re.findall(r"(?:^    |`|\$ )tickwatch ([a-z].*?)(?:`| {2,}#|$)", PAGE, re.MULTILINE):
        words = re.sub(r" > \S+$", "", line).split()
        command = cli
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        options = {option for parameter in command.params for option in parameter.opts}
        assert command is not cli, line
        assert {word for word in words if word.startswith("--")} <= options, line


RATIO, MISSING, FROZEN = Rule("hour", Ratio()), Rule("missing", Missing()), Rule("frozen", Frozen())
BTC = Series("SIM:BTCUSD", Measure.VOLUME_1M)


def worked(heading: str) -> list[list[list[str]]]:
    """Return the tables of numbers under a heading: those that begin with minutes, or with when points were written."""
    (text,) = [each for each in re.split(r"^##+ ", PAGE, flags=re.MULTILINE) if each.startswith(heading)]
    tables = re.findall(r"^\| (?:minute|written) \|.*\n(?:\|.*\n)+", text, re.MULTILINE)
    return [[cells(line) for line in table.splitlines() if not line.startswith("| ---")] for table in tables]


def cells(line: str) -> list[str]:
    """Return the cells of a row."""
    return [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]


def minutes(cell: str) -> range:
    """Return the minutes of `7` or `5 to 6`."""
    first, _, last = cell.partition(" to ")
    return range(int(first), int(last or first) + 1)


def texts(table: list[list[str]]) -> dict[str, str]:
    """Return the values of each series of a table, as rules are tested with."""
    header, *lines = table
    named_by = {place: name for place, name in enumerate(header) if name == "value" or ":" in name}
    return {
        "AAA" if name == "value" else name.replace(" ", "/"): " ".join(
            f"{'_' if line[place] == 'no point' else line[place]}x{len(minutes(line[0]))}" for line in lines
        )
        for place, name in named_by.items()
    }


def said(event: Event) -> str:
    """Return an event as the page writes it, its minute first."""
    words = [event.kind.value, *(["opens"] if event.opening else []), *([event.reason.value] if event.reason else [])]
    match event.rule:
        case "missing":
            words.append(f"of {event.subject.name}: {event.point_count} missing")
        case "frozen":
            words[-1] += f": {event.point_count} equal"
    return f"{event.slot - START} {', '.join(words)}"


def listed(table: list[list[str]]) -> Iterator[str]:
    """Yield the events of a table, minute by minute."""
    for line in table[1:]:
        if line[-1]:
            yield from (f"{minute} {line[-1]}" for minute in minutes(line[0]))


def measured(text: str, minute: int) -> Numbers:
    """Return what a point was measured by."""
    whole = block_of(RATIO, [text])

    def read(window: Window) -> Block:
        values = np.full((1, len(window)), np.nan)
        first, end = max(window.start, whole.start), min(window.end, whole.end)
        values[:, first - window.start : end - window.start] = whole.values[:, first - whole.start : end - whole.start]
        return Block(window.start, values)

    return explain(Question(RATIO, (named("AAA"),), 0, Slot(START + minute), START), read).numbers


def late_words(event: Event) -> str:
    """Return an entry of the log as the page writes it."""
    late = ", late" if event.late else ""
    if event.kind is EventKind.WITHDRAWN:
        return f"withdrawn: {event.slot - FIRST}{late}"
    opens = ", opens" if event.opening else ""
    return f"{event.kind.value} of {event.slot - FIRST}{opens}{late}: {event.value:g} / {event.baseline:g}"


@pytest.mark.parametrize(
    ("heading", "rule", "count"),
    [("`ratio`", RATIO, 2), ("`missing`", MISSING, 1), ("`frozen`", FROZEN, 1), ("Episodes without data", RATIO, 1)],
)
def test_the_worked_tables_say_what_the_engine_does(heading: str, rule: Rule, count: int):
    """Evaluated, the values of each table make its events in its minutes, and no others."""
    tables = worked(heading)
    assert len(tables) == count
    for table in tables:
        assert [said(event) for event in Evaluated(rule, texts(table)).events] == list(listed(table))


@pytest.mark.parametrize("heading", ["`ratio`", "Episodes without data"])
def test_the_worked_means_are_the_engines(heading: str):
    """So are the means and thresholds, to two decimals."""
    for table in worked(heading):
        told = [(int(line[0]), line[2], line[3]) for line in table[1:] if line[2]]
        numbers = {minute: measured(texts(table)["AAA"], minute) for minute, *_ in told}
        assert len(told) > 1
        assert told == [(m, f"{round(n.baseline, 2):g}", f"{round(n.threshold, 2):g}") for m, n in numbers.items()]


def test_the_worked_late_points_are_logged_as_told():
    """Told minute by minute to a live engine, the points of each table make what it says is logged, when it says so."""
    tables = worked("Late points")
    assert len(tables) == 2
    for table in tables:
        live = Live([RATIO], [BTC])
        live.step()
        for written, when, value, logged in table[1:]:
            before = len(live.events)
            points = [] if value == "no point" else [Told(BTC, minute, float(value)) for minute in minutes(when)]
            for minute in minutes(when) if written == "in time" else ():
                live.at(minute, 3)
                live.write([point for point in points if point.slot == minute])
                live.run(minute, "SIM")
                live.step()
            if written != "in time":
                live.at(int(written.removeprefix("after ")), 4)
                live.write(points)
                live.step()
            assert "; ".join(late_words(event) for event in live.events[before:]) == logged
