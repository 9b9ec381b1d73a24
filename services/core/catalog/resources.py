"""Markets and alert rules as resources of a cluster: what an object says, whether it is accepted, and its status.

Pure: objects are the plain dictionaries that the API server speaks; `cluster` fetches them. The spec of a Market is an
entry of a catalog file, that of an AlertRule an entry of a rules file without its name, and both are read as those are.
An object that is wrong says so in its condition `Accepted` and changes nothing for the others.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from services.core.catalog.base import Market
from services.core.catalog.file import CatalogReading
from services.core.documents import ValueNode
from services.core.reading import Reading
from services.core.rules import Rule

GROUP, VERSION = "tickwatch.dev", "v1alpha1"
MARKETS, ALERT_RULES = "markets", "alertrules"

ACCEPTED, INVALID, DUPLICATE = "Accepted", "Invalid", "Duplicate"

Object = Mapping[str, Any]

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Verdict(Generic[_Value]):
    """What one object amounts to."""

    value: _Value | None
    """None where it is not accepted."""
    reason: str
    """ACCEPTED, INVALID or DUPLICATE."""
    message: str
    """For people: what is wrong, a problem a line."""


def judge_markets(objects: Iterable[Object], exchanges: Collection[str] | None) -> dict[str, Verdict[Market]]:
    """Return the verdicts on Markets by name; `exchanges` are those that there are, None is any.

    Of several for one exchange the oldest is accepted, so that a new one never changes what another has declared.
    """
    verdicts: dict[str, Verdict[Market]] = {}
    declared: dict[str, str] = {}
    for each in sorted(objects, key=_age):
        reading, name = CatalogReading(exchanges), name_of(each)
        market = reading.market(ValueNode(each.get("spec"), "spec"))
        if reading.problems or market is None:
            verdicts[name] = Verdict(None, INVALID, _problems(reading))
        elif market.exchange in declared:
            words = f"Market {declared[market.exchange]} declares {market.exchange} already: put the pairs there"
            verdicts[name] = Verdict(None, DUPLICATE, words)
        else:
            declared[market.exchange] = name
            series = len(market.pairs) * len(market.measures)
            verdicts[name] = Verdict(market, ACCEPTED, f"{series} series of {market.exchange} are tracked")
    return verdicts


def judge_alert_rules(objects: Iterable[Object]) -> dict[str, Verdict[Rule]]:
    """Return the verdicts on AlertRules by name."""
    # Imported here: a collector's run judges markets alone, and needs no rules.
    from services.core.catalog.rules_file import RulesReading  # noqa: PLC0415

    verdicts: dict[str, Verdict[Rule]] = {}
    for each in objects:
        reading, name = RulesReading(), name_of(each)
        spec = each.get("spec")
        _, rule = reading.rule(ValueNode({**spec, "name": name} if isinstance(spec, dict) else spec, "spec"))
        if reading.problems or rule is None:
            verdicts[name] = Verdict(None, INVALID, _problems(reading))
        else:
            verdicts[name] = Verdict(rule, ACCEPTED, f"the {rule.kind} rule is in force")
    return verdicts


def accepted_markets(verdicts: Iterable[Verdict[Market]]) -> tuple[Market, ...]:
    """Return the markets that are accepted, by exchange."""
    found = (verdict.value for verdict in verdicts if verdict.value is not None)
    return tuple(sorted(found, key=lambda market: market.exchange))


def name_of(each: Object) -> str:
    """Return an object's name."""
    return str(each["metadata"]["name"])


def market_status(each: Object, verdict: Verdict[Market], now: float) -> dict[str, Any]:
    """Return the status that a Market should have; equal to the one it has where nothing is new."""
    return _status(each, verdict, now, {"pairs": len(verdict.value.pairs) if verdict.value else None})


def alert_rule_status(
    each: Object, verdict: Verdict[Rule], now: float, *, last_fired: float | None, breaches_24h: int
) -> dict[str, Any]:
    """Return the status that an AlertRule should have; `last_fired` is the start of a slot, None: never."""
    fields = {
        "kind": verdict.value.kind if verdict.value else None,
        "lastFired": None if last_fired is None else _time(last_fired),
        "breaches24h": breaches_24h,
    }
    return _status(each, verdict, now, fields)


def _status(each: Object, verdict: Verdict[Any], now: float, fields: Mapping[str, object]) -> dict[str, Any]:
    before: Sequence[dict[str, Any]] = (each.get("status") or {}).get("conditions") or ()
    others = [copy.deepcopy(condition) for condition in before if condition["type"] != ACCEPTED]
    own = next((condition for condition in before if condition["type"] == ACCEPTED), {})
    status = "False" if verdict.value is None else "True"
    condition = {
        "type": ACCEPTED,
        "status": status,
        "reason": verdict.reason,
        "message": verdict.message,
        "lastTransitionTime": own["lastTransitionTime"] if own.get("status") == status else _time(now),
        "observedGeneration": each["metadata"].get("generation", 0),
    }
    known = {key: value for key, value in fields.items() if value is not None}
    return {**known, "conditions": [*others, condition]}


def _problems(reading: Reading) -> str:
    """Tell each problem on a line of its own, the field's path said once."""
    lines = []
    for problem in reading.problems:
        path = problem.field.removeprefix("spec.")
        words = problem.problem.removeprefix(f"{path}: ").removeprefix(f"{path}.")
        lines.append(f"{problem.field}: {words}" + (f" ({problem.hint})" if problem.hint else ""))
    return "\n".join(lines) or "spec: there is nothing"


def _age(each: Object) -> tuple[str, str]:
    metadata = each["metadata"]
    return str(metadata.get("creationTimestamp", "")), str(metadata["name"])


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
