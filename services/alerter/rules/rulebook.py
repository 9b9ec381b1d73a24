"""The rules in force: read from their source, read again whenever that changes, the last good set kept.

It knows neither what stands behind source and catalog, nor how rules are evaluated.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass

from services.core.catalog.base import Catalog, Market
from services.core.catalog.rule_source import RuleSource
from services.core.clock import Clock
from services.core.errors import InvalidInputError, RuleNotFoundError
from services.core.model import Series
from services.core.rules import Rule

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RuleSet:
    """What is in force at a moment."""

    rules: tuple[Rule, ...]
    """By name, in ascending order."""
    expected: tuple[Series, ...]
    """The series that the catalog declares, in ascending order: those whose absence is news."""
    loaded_at: float
    """When the rules were read, in seconds since the epoch."""
    error: str = ""
    """Why a later reading failed, a problem a line; empty if it did not."""

    def rule(self, name: str) -> Rule:
        """Return the rule of this name; raises RuleNotFoundError naming the nearest."""
        for rule in self.rules:
            if rule.name == name:
                return rule
        raise RuleNotFoundError(name, tuple(near(name, [rule.name for rule in self.rules])))


def near(name: str, known: list[str]) -> list[str]:
    """Return the known names that are most like this one, at most three."""
    import difflib  # noqa: PLC0415 - needed for a mistake only

    return difflib.get_close_matches(name, known, n=3)


class RuleBook:
    """Reads rules and catalog, at first and at each `refresh` in which they have changed.

    The first reading raises InvalidSettingError for what is wrong; later ones keep what was in force and remember why
    (`current.error`).
    """

    def __init__(self, source: RuleSource, catalog: Catalog, clock: Clock) -> None:
        self._source = source
        self._catalog = catalog
        self._clock = clock
        self._lock = threading.Lock()
        self._refreshing = threading.Lock()
        self._seen = source.stamp()
        self._refused = ""
        self._markets: tuple[Market, ...] = ()
        self._series: tuple[Series, ...] = ()
        self._current = RuleSet(self._rules(), self._expected(), clock.now())

    @property
    def current(self) -> RuleSet:
        """What is in force now."""
        with self._lock:
            return self._current

    def refresh(self) -> RuleSet:
        """Read again what has changed; return what is in force afterwards. Never raises; any thread may call it."""
        with self._refreshing:
            return self._refresh()

    def _refresh(self) -> RuleSet:
        before = self.current
        rules, loaded_at, expected, error = before.rules, before.loaded_at, before.expected, ""
        try:
            expected = self._expected()
        except (InvalidInputError, OSError) as problem:
            error = str(problem)
        stamp = self._source.stamp()
        if stamp != self._seen:
            self._seen, self._refused = stamp, ""
            try:
                rules, loaded_at = self._rules(), self._clock.now()
                _log.info("rules read: %d in force", len(rules))
            except (InvalidInputError, OSError) as problem:
                self._refused = str(problem)
        error = "\n".join(filter(None, (self._refused, error)))
        if error and error != before.error:
            _log.error("rules or catalog stay as they were: %s", error)
        with self._lock:
            self._current = RuleSet(rules, expected, loaded_at, error)
            return self._current

    def _rules(self) -> tuple[Rule, ...]:
        return tuple(sorted(self._source.read(), key=lambda rule: rule.name))

    def _expected(self) -> tuple[Series, ...]:
        markets = self._catalog.read()
        if markets != self._markets:
            self._series = tuple(
                sorted(
                    Series(metric.name, measure)
                    for market in markets
                    for metric in market.metrics
                    for measure in market.measures
                )
            )
            self._markets = markets
        return self._series
