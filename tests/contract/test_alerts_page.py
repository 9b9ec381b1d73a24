"""The page about alerts is complete and its examples hold, so that nobody has to read the code to write a rule."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

from services.alerter.trial.explanations import Standing
from services.alerter.trial.rule_test_file import read_rule_tests
from services.alerter.trial.rule_tests import FIELDS, run
from services.cli import cli
from services.core.catalog.rules_file import read_rules
from services.core.rules import DEFAULT_RULES, PLACEHOLDERS, Frozen, Missing, Ratio, Rule, Threshold
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
