"""A rules file is read as people write it, and every mistake in it is told with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.core.breaches import Severity
from services.core.catalog.rules_file import DEFAULT_RULES_FILE, read_rules
from services.core.errors import InvalidSettingError
from services.core.rules import DEFAULT_RULES, Frozen, Missing, Ratio, RatioMode, Rule, Selector, Threshold


def read(tmp_path: Path, text: str) -> tuple[Rule, ...]:
    """Read rules of this text."""
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    return read_rules(path)


def problems(tmp_path: Path, text: str) -> list[str]:
    """Return what is wrong with a text: LINE: PROBLEM, one by one."""
    with pytest.raises(InvalidSettingError) as refused:
        read(tmp_path, text)
    return [line.removeprefix(f"{tmp_path / 'rules.yaml'}:") for line in str(refused.value).splitlines()]


def test_the_file_that_comes_with_the_product_says_what_holds_without_one():
    """Whoever begins with it changes nothing until he edits it."""
    assert read_rules(DEFAULT_RULES_FILE) == DEFAULT_RULES


def test_every_key_is_read(tmp_path):
    """Every condition with every key of its own, and all that rules have in common, in the order of the file."""
    text = """
rules:
  - name: spike
    ratio: {factor: 2.5, window: 90m, min_points: 7, mode: magnitude, resolve_after: 3, resolve_factor: 1.5,
            min_delta: 0.5}
    selector: {exchanges: [KRAKEN], metrics: ["*USD"], measures: ["change_*", price]}
    severity: critical
    labels: {team: markets, page: "yes"}
    message: "{metric} at {value}"
    for_points: 2
  - name: limits
    threshold: {above: 1e3, below: -1, resolve_after: 1}
    severity: info
  - name: gone
    missing: {slots: 5}
  - name: stuck
    frozen: {points: 9}
"""
    spike = Ratio(2.5, 90, 7, RatioMode.MAGNITUDE, 3, 1.5, 0.5)
    selector = Selector(("KRAKEN",), ("*USD",), ("change_*", "price"))
    assert read(tmp_path, text) == (
        Rule(
            "spike",
            spike,
            selector,
            Severity.CRITICAL,
            {"team": "markets", "page": "yes"},
            "{metric} at {value}",
            for_points=2,
        ),
        Rule("limits", Threshold(1000, -1, 1), severity=Severity.INFO),
        Rule("gone", Missing(5)),
        Rule("stuck", Frozen(9)),
    )


def test_what_is_left_out_has_its_default(tmp_path):
    """A condition without a value is the condition with all of its defaults."""
    text = "rules: [{name: a, ratio: {}}, {name: b, missing: }, {name: c, frozen: {}}, {name: d, ratio: {window: 1d}}]"
    assert read(tmp_path, text) == (
        Rule("a", Ratio()),
        Rule("b", Missing()),
        Rule("c", Frozen()),
        Rule("d", Ratio(window=1440)),
    )


def test_a_small_factor_lowers_the_default_by_which_an_episode_resolves(tmp_path):
    """It is 2, or the factor if that is less, as over gRPC."""
    (rule,) = read(tmp_path, "rules: [{name: a, ratio: {factor: 1.5}}]")
    assert rule.condition == Ratio(factor=1.5, resolve_factor=1.5)


def test_no_rules_at_all_have_to_be_meant(tmp_path):
    """An empty list is; an empty file may be a file half written."""
    assert read(tmp_path, "rules: []") == ()
    assert "there are no rules" in problems(tmp_path, "")[0]


ONE = "rules:\n- name: a\n"

MISTAKES = [
    ("rule: []", ["1: unknown key 'rule' (did you mean 'rules'?)"]),
    ("{}", ["1: the key 'rules' is missing (rules: [] for none at all)"]),
    ("- name: a", ["1: a mapping was expected, not a list"]),
    ("rules: {name: a}", ["1: a list was expected, not a mapping"]),
    ("rules:\n- missing", ["2: a mapping was expected, not a plain value"]),
    ("rules:\n- missing: {}", ["2: a rule needs the key 'name'"]),
    ("rules:\n- name: 5\n  missing: {}", ["2: 5 is not a rule's name (text was expected)"]),
    (
        "rules:\n- name: a b\n  missing: {}",
        ["2: name: 'a b' is not a rule's name (letters, digits, - and _, at most 64, a letter or a digit first)"],
    ),
    (ONE, ["2: a rule needs a condition (one of ratio, threshold, missing, frozen)"]),
    (
        f"{ONE}  ratio: {{}}\n  frozen: {{}}",
        ["2: a rule has one condition, not ratio and frozen (one of ratio, threshold, missing, frozen)"],
    ),
    (f"{ONE}  missing: 3", ["3: a mapping was expected, not a plain value"]),
    (f"{ONE}  missing: {{slot: 3}}", ["3: unknown key 'slot' (did you mean 'slots'?)"]),
    (f"{ONE}  missing: {{slots: 0}}", ["3: missing.slots: 0 is out of range (1 to 1440 slots)"]),
    (f"{ONE}  missing: {{slots: three}}", ["3: 'three' is not a whole number"]),
    (f"{ONE}  missing: {{slots: 3.5}}", ["3: 3.5 is not a whole number"]),
    (f"{ONE}  missing: {{slots: 1_0}}", ["3: '1_0' is not a whole number"]),
    (f"{ONE}  missing: {{slots: 010}}", ["3: '010' is not a whole number"]),
    (f"{ONE}  ratio: {{factor: 1_0.5}}", ["3: '1_0.5' is not a number"]),
    (f"{ONE}  ratio: {{factor: '1_0'}}", ["3: '1_0' is not a number"]),
    (
        f"{ONE}  ratio: {{window: \uff11\uff10m}}",
        ["3: '\uff11\uff10m' is not a duration: whole minutes, hours or days, as in 90m, 1h or 1d"],
    ),
    (f"{ONE}  missing: {{slots: yes}}", ["3: True is not a whole number"]),
    (f"{ONE}  missing: {{slots: }}", ["3: there is no value (leave the key out for the default)"]),
    (f"{ONE}  missing: {{slots: [3]}}", ["3: a plain value was expected, not a list"]),
    (
        f"{ONE}  missing: {{slots: 3, slots: 4}}",
        [
            "3: the key 'slots' is given twice",
        ],
    ),
    (f"{ONE}  ratio: {{factor: 0}}", ["3: ratio.factor: 0 is not usable (a finite number above 0)"]),
    (f"{ONE}  ratio: {{factor: .nan}}", ["3: ratio.factor: nan is not usable (a finite number above 0)"]),
    (f"{ONE}  ratio: {{factor: x3}}", ["3: 'x3' is not a number"]),
    (
        f"{ONE}  ratio: {{window: 60}}",
        ["3: 60 is not a duration: whole minutes, hours or days, as in 90m, 1h or 1d"],
    ),
    (f"{ONE}  ratio: {{window: 2d}}", ["3: ratio.window: 2880 is out of range (2 to 1440 minutes)"]),
    (
        f"{ONE}  ratio: {{window: 5m}}",
        ["3: ratio.min_points: 10 is out of range (1 to 5 points, at most the window's)"],
    ),
    (f"{ONE}  ratio: {{mode: abs}}", ["3: unknown word 'abs' (known here: auto, literal, magnitude)"]),
    (
        f"{ONE}  ratio: {{factor: 2,\n    resolve_factor: 3}}",
        ["4: ratio.resolve_factor: 3 is above the factor 2 (at most that)"],
    ),
    (f"{ONE}  threshold: {{}}", ["3: threshold: it has no limit (give above or below, or both)"]),
    (f"{ONE}  threshold: {{above: ten}}", ["3: 'ten' is not a number"]),
    (
        f"{ONE}  threshold: {{above: 1, below: 2}}",
        ["3: threshold.below: 2 is not below 1, the limit above (less than that)"],
    ),
    (f"{ONE}  frozen: {{points: 1}}", ["3: frozen.points: 1 is out of range (2 to 1440 points)"]),
    (f"{ONE}  missing: {{}}\n  severity: high", ["4: unknown word 'high' (known here: critical, info, warning)"]),
    (f"{ONE}  missing: {{}}\n  severity: warn", ["4: unknown word 'warn' (did you mean 'warning'?)"]),
    (f"{ONE}  missing: {{}}\n  labels: [a]", ["4: a mapping was expected, not a list"]),
    (f"{ONE}  missing: {{}}\n  labels: {{team: 5}}", ["4: 5 is not a label's text (text was expected)"]),
    (f"{ONE}  missing: {{}}\n  labels:\n    a: b\n    a: c", ["6: the key 'a' is given twice"]),
    (
        f"{ONE}  missing: {{}}\n  message: '{{metrc}}'",
        ["4: message: unknown placeholder {metrc} (did you mean {metric}?)"],
    ),
    (
        f"{ONE}  missing: {{}}\n  for_points: 2",
        ["4: for_points: a missing rule counts slots itself (set missing.slots)"],
    ),
    (f"{ONE}  ratio: {{}}\n  for_points: 0", ["4: for_points: 0 is out of range (1 to 1440 points)"]),
    (f"{ONE}  missing: {{}}\n  selector: [a]", ["4: a mapping was expected, not a list"]),
    (f"{ONE}  missing: {{}}\n  selector: {{exchange: [A]}}", ["4: unknown key 'exchange' (did you mean 'exchanges'?)"]),
    (f"{ONE}  missing: {{}}\n  selector: {{metrics: KRAKEN}}", ["4: a list was expected, not a plain value"]),
    (
        f"{ONE}  missing: {{}}\n  selector: {{metrics: []}}",
        ["4: there are no metrics (leave the key out for all of them)"],
    ),
    (
        f"{ONE}  missing: {{}}\n  selector:\n    exchanges: [KRAKEN,\n      kraken]",
        ["6: selector.exchanges: 'kraken' does not fit (an exchange or a glob of one, such as KRAKEN)"],
    ),
    (
        f"{ONE}  missing: {{}}\n  selector: {{measures: [prise]}}",
        ["4: selector.measures: 'prise' fits no measure (the measures are price, volume, change_absolute, "],
    ),
    (f"{ONE}  missing: {{}}\n- name: a\n  frozen: {{}}", ["4: the rule a is given twice"]),
    (f"{ONE}  missing: {{}}\n  colour: red", ["4: unknown key 'colour' (known here: "]),
    ("rules: [", ["2: is not YAML"]),
]


@pytest.mark.parametrize(("text", "told"), MISTAKES)
def test_a_mistake_is_told_once_with_its_line(tmp_path, text, told):
    """And with what would be right; nothing that only follows from it is told besides."""
    found = problems(tmp_path, text)
    assert len(found) == len(told)
    assert all(each.startswith(start) for each, start in zip(found, told, strict=True)), found


def test_every_mistake_is_told_by_line(tmp_path):
    """Whoever has made five need not correct them one by one to hear of them."""
    text = """
rules:
  - name: a
    ratio: {factor: -1, window: 1, min_points: many}
    severity: bad
    message: "{x}"
  - name: b
    missing: {slots: 0}
    selectors: {}
  - nme: c
    frozen: {points: 1}
    for_points: 0
"""
    found = problems(tmp_path, text)
    assert [int(each.partition(":")[0]) for each in found] == [4, 4, 4, 5, 6, 8, 9, 10, 10, 11, 12]


@pytest.mark.parametrize("name", ["absent.yaml", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name):
    """Not there, or a folder."""
    with pytest.raises(InvalidSettingError, match="cannot be read"):
        read_rules(tmp_path / name)


def test_a_file_of_another_encoding_is_refused(tmp_path):
    """Rather than read as what it does not say."""
    (tmp_path / "rules.yaml").write_bytes("rules: [] # für".encode("latin-1"))
    with pytest.raises(InvalidSettingError, match="UTF-8"):
        read_rules(tmp_path / "rules.yaml")
