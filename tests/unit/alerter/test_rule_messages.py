"""Rules on the wire: what goes there comes back, what is left out is filled in, and what is wrong is named."""

from __future__ import annotations

from typing import Any

import pytest
from tickwatch import alert_messages, alert_results
from tickwatch.v1 import alert_pb2 as wire

from services.core.breaches import Severity
from services.core.errors import InvalidInputError
from services.core.rpc.convert_alerts import from_wire_rule, to_wire_rule
from services.core.rules import DEFAULT_RULES, Frozen, Missing, Ratio, RatioMode, Rule, Selector, Threshold

RULES = [
    *DEFAULT_RULES,
    Rule("a", Ratio(4.5, 90, 20, RatioMode.MAGNITUDE, 7, 1.5, 0.25), severity=Severity.CRITICAL, for_points=3),
    Rule("b", Ratio(mode=RatioMode.LITERAL), Selector(("KRAKEN",), ("*USD",), ("change_*", "price"))),
    Rule("c", Threshold(above=1.5, below=-2.0, resolve_after=9), labels={"team": "desk"}, message="{value} is far"),
    Rule("d", Threshold(below=0.0)),
    Rule("e", Missing(5), severity=Severity.INFO),
    Rule("f", Frozen(12)),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_comes_back_as_it_was(rule):
    """Through the wire, and through the published client's values, a rule stays equal, its version included."""
    message = to_wire_rule(rule)
    client_rule = alert_messages.rule_of(message)

    assert from_wire_rule(message, "rule") == rule
    assert from_wire_rule(alert_messages.rule_message(client_rule), "rule") == rule
    assert message.version == client_rule.version == rule.version


def test_what_is_left_out_is_filled_in():
    """Each absent field stands for the contract's default; a resolve factor never lies above a small factor."""
    least = {
        "ratio": (wire.RatioCondition(), Ratio()),
        "threshold": (wire.ThresholdCondition(above=0), Threshold(above=0.0)),
        "missing": (wire.MissingCondition(), Missing()),
        "frozen": (wire.FrozenCondition(), Frozen()),
    }
    for kind, (message, condition) in least.items():
        fields: dict[str, Any] = {kind: message}

        assert from_wire_rule(wire.Rule(name="x", **fields), "rule") == Rule("x", condition)
    low = wire.Rule(name="x", ratio=wire.RatioCondition(factor=1.2))
    assert from_wire_rule(low, "rule").condition == Ratio(factor=1.2, resolve_factor=1.2)
    assert from_wire_rule(alert_messages.rule_message(alert_results.Rule("x", alert_results.Ratio())), "rule") == Rule(
        "x", Ratio()
    )


NAN, INFINITE = float("nan"), float("inf")
RATIO, THRESHOLD = wire.RatioCondition, wire.ThresholdCondition
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"name": "x"}, "rule.condition: is required (one of ratio, threshold, missing, frozen)"),
    (
        {"name": "", "ratio": {}},
        "rule.name: '' is not a rule's name (letters, digits, - and _, at most 64, a letter or a digit first)",
    ),
    (
        {"name": "a b", "ratio": {}},
        "rule.name: 'a b' is not a rule's name (letters, digits, - and _, at most 64, a letter or a digit first)",
    ),
    (
        {"name": "x", "severity": 9, "ratio": {}},
        ("rule.severity: 9 is not one of this version's (one of SEVERITY_INFO, SEVERITY_WARNING, SEVERITY_CRITICAL)"),
    ),
    (
        {"name": "x", "selector": {"measures": ["prize"]}, "ratio": {}},
        (
            "rule.selector.measures: 'prize' fits no measure "
            "(the measures are price, volume, change_absolute, change_percentage, volume_1m)"
        ),
    ),
    ({"name": "x", "for_points": -1, "ratio": {}}, "rule.for_points: -1 is out of range (1 to 1440 points)"),
    (
        {"name": "x", "for_points": 2, "missing": {}},
        "rule.for_points: a missing rule counts slots itself (set missing.slots)",
    ),
    (
        {"name": "x", "labels": {str(n): "" for n in range(33)}, "ratio": {}},
        "rule.labels: 33 are too many (at most 32)",
    ),
    ({"name": "x", "ratio": RATIO(factor=0)}, "rule.ratio.factor: 0 is not usable (a finite number above 0)"),
    ({"name": "x", "ratio": RATIO(factor=-3)}, "rule.ratio.factor: -3 is not usable (a finite number above 0)"),
    ({"name": "x", "ratio": RATIO(factor=NAN)}, "rule.ratio.factor: nan is not usable (a finite number above 0)"),
    (
        {"name": "x", "ratio": RATIO(window={"seconds": 90})},
        "rule.ratio.window: 90 s is not a whole number of minutes (whole minutes from 120s to 86400s)",
    ),
    (
        {"name": "x", "ratio": RATIO(window={"seconds": 60})},
        "rule.ratio.window: 60 s is outside 2 to 1440 minutes (whole minutes from 120s to 86400s)",
    ),
    (
        {"name": "x", "ratio": RATIO(min_points=0)},
        "rule.ratio.min_points: 0 is out of range (1 to 60 points, at most the window's)",
    ),
    (
        {"name": "x", "ratio": RATIO(min_points=61)},
        "rule.ratio.min_points: 61 is out of range (1 to 60 points, at most the window's)",
    ),
    (
        {"name": "x", "ratio": RATIO(mode=7)},  # type: ignore[arg-type]
        "rule.ratio.mode: 7 is not one of this version's (one of RATIO_MODE_MAGNITUDE, RATIO_MODE_LITERAL)",
    ),
    ({"name": "x", "ratio": RATIO(resolve_after=0)}, "rule.ratio.resolve_after: 0 is out of range (1 to 1440 points)"),
    (
        {"name": "x", "ratio": RATIO(resolve_factor=4)},
        "rule.ratio.resolve_factor: 4 is above the factor 3 (at most that)",
    ),
    (
        {"name": "x", "ratio": RATIO(resolve_factor=0)},
        "rule.ratio.resolve_factor: 0 is not usable (a finite number above 0)",
    ),
    ({"name": "x", "ratio": RATIO(min_delta=-1)}, "rule.ratio.min_delta: -1 is below 0 (0 or more)"),
    ({"name": "x", "ratio": RATIO(min_delta=INFINITE)}, "rule.ratio.min_delta: inf is not usable (a finite number)"),
    ({"name": "x", "threshold": {}}, "rule.threshold: it has no limit (give above or below, or both)"),
    ({"name": "x", "threshold": THRESHOLD(above=NAN)}, "rule.threshold.above: nan is not usable (a finite number)"),
    (
        {"name": "x", "threshold": THRESHOLD(above=1, below=1)},
        "rule.threshold.below: 1 is not below 1, the limit above (less than that)",
    ),
    (
        {"name": "x", "threshold": THRESHOLD(above=1, resolve_after=1441)},
        "rule.threshold.resolve_after: 1441 is out of range (1 to 1440 points)",
    ),
    ({"name": "x", "missing": {"slots": 0}}, "rule.missing.slots: 0 is out of range (1 to 1440 slots)"),
    ({"name": "x", "frozen": {"points": 1}}, "rule.frozen.points: 1 is out of range (2 to 1440 points)"),
]


@pytest.mark.parametrize(("fields", "text"), WRONG)
def test_what_is_wrong_is_named(fields, text):
    """Every wrong value is refused with its path in the request, what is wrong with it, and what would be right."""
    with pytest.raises(InvalidInputError) as error:
        from_wire_rule(wire.Rule(**fields), "rule")

    assert str(error.value) == text
