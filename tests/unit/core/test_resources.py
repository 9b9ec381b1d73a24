"""Markets and alert rules as resources: what is accepted, what is not and why, and what the status says."""

from __future__ import annotations

from typing import Any

import pytest

from services.core.catalog.base import Market
from services.core.catalog.resources import (
    alert_rule_status,
    judge_alert_rules,
    judge_markets,
    market_status,
)
from services.core.catalog.watched import WatchedCatalog, WatchedRules
from services.core.model import Measure
from services.core.rules import Frozen, Missing, Ratio, Rule, Selector, Threshold

NOW = 1_795_500_030.0
EXCHANGES = ("KRAKEN", "SIM")


def an_object(name: str, spec: object, *, generation: int = 1, created: str = "2026-11-24T12:00:00Z") -> dict[str, Any]:
    """Return an object as the API server would."""
    metadata = {"name": name, "uid": f"uid-{name}", "generation": generation, "creationTimestamp": created}
    return {"metadata": metadata, "spec": spec}


class KnownObjects:
    """Objects that the test sets."""

    def __init__(self, *objects: dict[str, Any]) -> None:
        self.found = objects

    def objects(self):
        return self.found

    def stamp(self):
        return tuple((each["metadata"]["uid"], each["metadata"]["generation"]) for each in self.found)


@pytest.mark.parametrize(
    ("spec", "rule"),
    [
        ({"ratio": {}}, Rule("r", Ratio())),
        ({"ratio": {"factor": 4, "window": "2h"}}, Rule("r", Ratio(factor=4.0, window=120))),
        ({"threshold": {"above": 10, "below": -1.5}}, Rule("r", Threshold(above=10.0, below=-1.5))),
        ({"missing": {"slots": 5}}, Rule("r", Missing(slots=5))),
        ({"frozen": {}, "for_points": 3}, Rule("r", Frozen(), for_points=3)),
        (
            {"missing": {}, "selector": {"exchanges": ["KRAKEN"], "measures": ["price"]}, "labels": {"team": "a"}},
            Rule("r", Missing(), Selector(("KRAKEN",), (), ("price",)), labels={"team": "a"}),
        ),
    ],
)
def test_the_spec_of_an_alert_rule_is_a_rule_of_a_file(spec, rule):
    """The same keys, the same defaults; the object's name is the rule's."""
    verdict = judge_alert_rules([an_object("r", spec)])["r"]

    assert (rule, "Accepted") == (verdict.value, verdict.reason)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (None, "spec: a mapping was expected, not a plain value"),
        ({}, "spec: a rule needs a condition (one of ratio, threshold, missing, frozen)"),
        ({"missing": {}, "frozen": {}}, "spec: a rule has one condition, not missing and frozen"),
        ({"ratio": {"factor": -1}}, "spec.ratio.factor: -1 is not usable (a finite number above 0)"),
        ({"ratio": {"window": "1w"}}, "spec.ratio.window: '1w' is not a duration"),
        ({"ratio": {}, "severty": "info"}, "spec.severty: unknown key 'severty' (did you mean 'severity'?)"),
        ({"ratio": {}, "message": "{metrik}"}, "spec.message: unknown placeholder {metrik} (did you mean {metric}?)"),
        ({"missing": {}, "for_points": 2}, "spec.for_points: a missing rule counts slots itself"),
        (
            {"missing": {}, "selector": {"measures": ["cost"]}},
            "spec.selector.measures[0]: selector.measures: 'cost' fits no measure",
        ),
    ],
)
def test_a_wrong_alert_rule_says_what_is_wrong_and_where(spec, message):
    """By its path in the object, and with what would be right."""
    verdict = judge_alert_rules([an_object("r", spec)])["r"]

    assert (None, "Invalid") == (verdict.value, verdict.reason)
    assert message in verdict.message


def test_every_problem_of_an_object_is_told():
    """A problem a line."""
    verdict = judge_alert_rules([an_object("r", {"ratio": {"factor": "x", "mode": "y"}, "severity": "z"})])["r"]

    paths = ["spec.ratio.factor", "spec.ratio.mode", "spec.severity"]
    assert paths == sorted(line.partition(":")[0] for line in verdict.message.split("\n"))


def test_one_bad_object_does_not_block_the_others():
    """Of each kind those are accepted that are right."""
    rules = WatchedRules(KnownObjects(an_object("bad", {}), an_object("good", {"missing": {}})))
    markets = WatchedCatalog(
        KnownObjects(
            an_object("bad", {"exchange": "KRAKN", "pairs": ["BTCUSD"]}),
            an_object("good", {"exchange": "SIM", "pairs": ["BTCUSD"], "measures": ["price"]}),
        ),
        EXCHANGES,
    )

    assert (Rule("good", Missing()),) == rules.read()
    assert (Market("SIM", ("BTCUSD",), (Measure.PRICE,)),) == markets.read()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "spec: there is nothing"),
        ({"exchange": "SIM"}, "spec: a market needs the key 'pairs'"),
        ({"exchange": "SIM", "pairs": []}, "spec.pairs: there are no pairs (as in [BTCUSD, ETHUSD])"),
        ({"exchange": "SIM", "pairs": ["btc"]}, "spec.pairs[0]: 'btc' is not a pair"),
        ({"exchange": "SIM", "pairs": ["A", "A"]}, "spec.pairs[1]: the pair A is given twice (first at spec.pairs[0])"),
        ({"exchange": "KRAKN", "pairs": ["A"]}, "spec.exchange: unknown exchange 'KRAKN' (did you mean 'KRAKEN'?)"),
        (
            {"exchange": "SIM", "pairs": ["A"], "measures": ["prise"]},
            "spec.measures[0]: unknown measure 'prise' (did you mean 'price'?)",
        ),
    ],
)
def test_a_wrong_market_says_what_is_wrong_and_where(spec, message):
    """By its path in the object, and with what would be right."""
    verdict = judge_markets([an_object("m", spec)], EXCHANGES)["m"]

    assert (None, "Invalid") == (verdict.value, verdict.reason)
    assert message in verdict.message


def test_of_two_markets_for_one_exchange_the_older_holds():
    """Whatever their names: nobody's new object changes what another has declared."""
    old = an_object("z", {"exchange": "SIM", "pairs": ["A"]}, created="2026-01-01T00:00:00Z")
    new = an_object("a", {"exchange": "SIM", "pairs": ["B"]}, created="2026-01-02T00:00:00Z")
    verdicts = judge_markets([new, old], EXCHANGES)

    assert verdicts["z"].value == Market("SIM", ("A",))
    assert "Duplicate" == verdicts["a"].reason
    assert "Market z declares SIM already: put the pairs there" == verdicts["a"].message


def test_objects_are_judged_anew_when_what_they_declare_has_changed(caplog):
    """And only then; what is wrong is logged once."""
    known = KnownObjects(an_object("r", {}))
    rules = WatchedRules(known)

    stamp = rules.stamp()
    assert () == rules.read() == rules.read()
    known.found = (known.found[0] | {"status": {"breaches24h": 5}},)
    assert stamp == rules.stamp()
    assert 1 == len(caplog.records)
    known.found = (an_object("r", {"frozen": {}}, generation=2),)
    assert stamp != rules.stamp()
    assert (Rule("r", Frozen()),) == rules.read()


def test_a_status_says_whether_and_since_when():
    """The condition's time is that of its last change, whatever else is told meanwhile."""
    rule = an_object("r", {"missing": {}}, generation=3)
    verdict = judge_alert_rules([rule])["r"]
    status = alert_rule_status(rule, verdict, NOW, last_fired=None, breaches_24h=0)
    condition = {
        "type": "Accepted",
        "status": "True",
        "reason": "Accepted",
        "message": "the missing rule is in force",
        "lastTransitionTime": "2026-11-24T06:00:30Z",
        "observedGeneration": 3,
    }
    assert {"kind": "missing", "breaches24h": 0, "conditions": [condition]} == status

    later = alert_rule_status(rule | {"status": status}, verdict, NOW + 600, last_fired=NOW - 30, breaches_24h=2)
    assert {**status, "lastFired": "2026-11-24T06:00:00Z", "breaches24h": 2} == later

    broken = an_object("r", {}, generation=4) | {"status": later}
    refused = alert_rule_status(broken, judge_alert_rules([broken])["r"], NOW + 900, last_fired=None, breaches_24h=2)
    (condition,) = refused["conditions"]
    assert ("False", "Invalid", "2026-11-24T06:15:30Z", 4) == (
        condition["status"],
        condition["reason"],
        condition["lastTransitionTime"],
        condition["observedGeneration"],
    )
    assert "kind" not in refused


def test_a_status_keeps_the_conditions_of_others():
    """Only `Accepted` is ours."""
    other = {"type": "Reviewed", "status": "True", "reason": "x", "message": "", "lastTransitionTime": "2026"}
    market = an_object("m", {"exchange": "SIM", "pairs": ["A", "B"]}) | {"status": {"conditions": [other]}}
    status = market_status(market, judge_markets([market], EXCHANGES)["m"], NOW)

    assert ["Reviewed", "Accepted"] == [condition["type"] for condition in status["conditions"]]
    assert 2 == status["pairs"]
    assert status == market_status(market | {"status": status}, judge_markets([market], EXCHANGES)["m"], NOW + 60)
