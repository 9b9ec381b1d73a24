"""The rules as a YAML file that people write; `rules.yaml` beside this module is one.

    rules:
      - name: volume-spike
        ratio: {factor: 3, window: 1h}     # or threshold, missing, frozen
        selector: {exchanges: [KRAKEN], metrics: ["*USD"], measures: [volume_1m]}
        severity: critical
        labels: {team: markets}
        message: "{metric} trades {ratio} times its hour"
        for_points: 2

Keys and their meaning are those of `services.core.rules`, durations are written 90m, 1h or 1d. Rules come back in the
order of the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from services.core.breaches import Severity
from services.core.documents import Node, load_document
from services.core.errors import InvalidInputError, InvalidSettingError
from services.core.numbers import number
from services.core.reading import Reading
from services.core.rules import Condition, Frozen, Missing, Ratio, RatioMode, Rule, Selector, Threshold
from services.core.suggesting import nearest

DEFAULT_RULES_FILE = Path(__file__).with_name("rules.yaml")
"""The rules that hold where nobody wrote a file, as a file: equal to `DEFAULT_RULES`."""

_MINUTES = {"m": 1, "h": 60, "d": 1440}
_SEVERITIES = {severity.name.lower(): severity for severity in Severity}

_Value = TypeVar("_Value")


def read_rules(path: Path) -> tuple[Rule, ...]:
    """Return a file's rules; raise one InvalidSettingError that lists every problem with its line."""
    document = load_document(path)
    if document is None:
        raise InvalidSettingError(str(path), "there are no rules", "as in rules: [{name: gone, missing: {slots: 3}}]")
    reading = RulesReading()
    rules = reading.rules(document)
    reading.finish(path)
    return rules


class RulesReading(Reading):
    """One reading of a file of rules."""

    def rules(self, document: Node) -> tuple[Rule, ...]:
        """Return the rules of a document that have no mistake."""
        keys = self.mapping(document, {"rules"})
        if "rules" not in keys and not self.problems:
            self.say(document.where, "the key 'rules' is missing", "rules: [] for none at all")
        found: dict[str, tuple[Rule | None, str]] = {}
        for item in self.items(keys["rules"]) if "rules" in keys else []:
            name, rule = self.rule(item)
            if name in found:
                self.say(item.where, f"the rule {name} is given twice", f"first at {found[name][1]}")
            elif name:
                found[name] = (rule, item.where)
        return tuple(rule for rule, _ in found.values() if rule is not None)

    def rule(self, node: Node) -> tuple[str, Rule | None]:
        """Return one rule's name, and the rule unless there is a mistake in it."""
        known = {"name", "selector", "severity", "labels", "message", "for_points", *_CONDITIONS}
        keys = self.mapping(node, known)
        if not keys:
            return "", None
        before = len(self.problems)
        if "name" not in keys:
            self.say(node.where, "a rule needs the key 'name'")
        given: dict[str, Any] = {
            key: value
            for key, read in _RULE_FIELDS.items()
            if key in keys and (value := read(self, keys[key])) is not None
        }
        given["condition"] = self._condition(node, keys)
        if given["condition"] is None:  # What else is wrong is told all the same.
            given["condition"] = _STAND_IN
            given.pop("for_points", None)
        return given.get("name", ""), self._checked(_rule_of, given, keys, node, before)

    def _condition(self, node: Node, keys: Mapping[str, Node]) -> Condition | None:
        kinds = [kind for kind in _CONDITIONS if kind in keys]
        if len(kinds) != 1:
            problem = f"a rule has one condition, not {' and '.join(kinds)}" if kinds else "a rule needs a condition"
            self.say(node.where, problem, f"one of {', '.join(_CONDITIONS)}")
            return None
        build, fields = _CONDITIONS[kinds[0]]
        here, before = keys[kinds[0]], len(self.problems)
        inner = {} if here.empty else self.mapping(here, fields)
        given = {key: value for key, child in inner.items() if (value := fields[key](self, child)) is not None}
        return self._checked(build, given, inner, here, before)

    def _checked(
        self,
        build: Callable[..., _Value],
        given: dict[str, Any],
        places: Mapping[str, Node],
        node: Node,
        before: int,
    ) -> _Value | None:
        """Build a value; note each wrong field at its line, going on without it.

        What only follows from another problem, noted since there were `before`, is left out.
        """
        while True:
            try:
                return build(**given)
            except InvalidInputError as error:
                key = error.field.rpartition(".")[2]
                if key in places or len(self.problems) == before:
                    where = places[key].where if key in places else node.where
                    self.say(where, f"{error.field}: {error.problem}", error.hint)
                if given.pop(key, None) is None:
                    return None

    # The fields, each from its node; None where a problem was noted.

    def number(self, node: Node) -> float | None:
        """Return a number; YAML takes 1e3 for text."""
        value = self._plain(node)
        read = number(value) if isinstance(value, str) else None if isinstance(value, bool) else value
        if read is None:
            self._wrong(node, value, "a number")
            return None
        return float(read)

    def whole(self, node: Node) -> int | None:
        """Return a whole number."""
        value = self._plain(node)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        self._wrong(node, value, "a whole number")
        return None

    def duration(self, node: Node) -> int | None:
        """Return a duration in slots."""
        value = self._plain(node)
        found = re.fullmatch(r"([0-9]{1,6})([mhd])", value) if isinstance(value, str) else None
        if found is None:
            self._wrong(node, value, "a duration: whole minutes, hours or days, as in 90m, 1h or 1d")
            return None
        return int(found[1]) * _MINUTES[found[2]]

    def choice(self, node: Node, choices: Mapping[str, _Value]) -> _Value | None:
        """Return what a word stands for."""
        value = self._plain(node)
        if value is not None and str(value) not in choices:
            self.say(node.where, f"unknown word {value!r}", nearest(str(value), choices))
        return choices.get(str(value))

    def labels(self, node: Node) -> dict[str, str]:
        """Return labels."""
        found = self.mapping(node)
        return {key: text for key, child in found.items() if (text := self.text(child, "a label's text"))}

    def selector(self, node: Node) -> Selector | None:
        """Return a selector, of the globs that are right."""
        chosen: dict[str, tuple[str, ...]] = {}
        before = len(self.problems)
        for key, child in self.mapping(node, {"exchanges", "metrics", "measures"}).items():
            globs = self.names(child, "a glob")
            if not globs and len(self.problems) == before:
                self.say(child.where, f"there are no {key}", "leave the key out for all of them")
            for glob, where in globs:
                if self._selects(key, (glob,), where):
                    chosen[key] = (*chosen.get(key, ()), glob)
            if len(globs) > 1 and key in chosen and not self._selects(key, chosen[key], child.where):
                del chosen[key]
        return Selector(**chosen)

    def _selects(self, key: str, globs: tuple[str, ...], where: str) -> bool:
        try:
            Selector(**{key: globs})
        except InvalidInputError as error:
            self.say(where, f"selector.{key}: {error.problem}", error.hint)
            return False
        return True

    def _plain(self, node: Node) -> str | int | float | bool | None:
        before = len(self.problems)
        value = self.scalar(node)
        if value is None and len(self.problems) == before:
            self.say(node.where, "there is no value", "leave the key out for the default")
        return value

    def _wrong(self, node: Node, value: object, right: str) -> None:
        if value is not None:
            self.say(node.where, f"{value!r} is not {right}")


def _rule_of(name: str = "", **given: Any) -> Rule:  # noqa: ANN401  # Rule's own fields
    return Rule(name or "unnamed", **given)


_STAND_IN = Missing()

_Reader = Callable[[RulesReading, Node], Any]

_MODE = partial(RulesReading.choice, choices={mode.value: mode for mode in RatioMode})

_RULE_FIELDS: dict[str, _Reader] = {
    "name": partial(RulesReading.text, what="a rule's name"),
    "selector": RulesReading.selector,
    "severity": partial(RulesReading.choice, choices=_SEVERITIES),
    "labels": RulesReading.labels,
    "message": partial(RulesReading.text, what="a message"),
    "for_points": RulesReading.whole,
}

_CONDITIONS: dict[str, tuple[Callable[..., Condition], dict[str, _Reader]]] = {
    "ratio": (
        Ratio.of,
        {
            "factor": RulesReading.number,
            "window": RulesReading.duration,
            "min_points": RulesReading.whole,
            "mode": _MODE,
            "resolve_after": RulesReading.whole,
            "resolve_factor": RulesReading.number,
            "min_delta": RulesReading.number,
        },
    ),
    "threshold": (
        Threshold,
        {"above": RulesReading.number, "below": RulesReading.number, "resolve_after": RulesReading.whole},
    ),
    "missing": (Missing, {"slots": RulesReading.whole}),
    "frozen": (Frozen, {"points": RulesReading.whole}),
}
