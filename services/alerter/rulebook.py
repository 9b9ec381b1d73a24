"""The rules in force: read from a file, read again whenever the file changes, the last good set kept.

It knows files and the catalog, and nothing of how rules are evaluated.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from services.core.catalog.base import Catalog
from services.core.clock import Clock
from services.core.errors import InvalidInputError, InvalidSettingError, RuleNotFoundError
from services.core.model import Series
from services.core.rules import DEFAULT_RULES, Rule

_log = logging.getLogger(__name__)

ReadRules = Callable[[Path], tuple[Rule, ...]]


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

    `path` None stands for the rules that come with the product. The first reading raises InvalidSettingError for what
    is wrong; later ones keep what was in force and remember why (`current.error`).
    """

    def __init__(self, path: Path | None, catalog: Catalog, clock: Clock, read_rules: ReadRules) -> None:
        self._path = path
        self._catalog = catalog
        self._clock = clock
        self._read_rules = read_rules
        self._lock = threading.Lock()
        self._seen = self._stamp()
        self._current = RuleSet(self._rules(), self._expected(), clock.now())

    @property
    def current(self) -> RuleSet:
        """What is in force now."""
        with self._lock:
            return self._current

    def refresh(self) -> RuleSet:
        """Read again what has changed; return what is in force afterwards. Never raises."""
        stamp = self._stamp()
        before = self.current
        rules, loaded_at, error = before.rules, before.loaded_at, before.error
        expected = before.expected
        try:
            expected = self._expected()
            if stamp != self._seen:
                self._seen = stamp
                rules, loaded_at, error = self._rules(), self._clock.now(), ""
                _log.info("rules read: %d in force", len(rules))
        except (InvalidInputError, OSError) as problem:
            if str(problem) != error:
                _log.error("rules and catalog stay as they were: %s", problem)
            error = str(problem)
        with self._lock:
            self._current = RuleSet(rules, expected, loaded_at, error)
            return self._current

    def _rules(self) -> tuple[Rule, ...]:
        found = DEFAULT_RULES if self._path is None else self._read_rules(self._path)
        return tuple(sorted(found, key=lambda rule: rule.name))

    def _expected(self) -> tuple[Series, ...]:
        return tuple(
            sorted(
                Series(metric.name, measure)
                for market in self._catalog.read()
                for metric in market.metrics
                for measure in market.measures
            )
        )

    def _stamp(self) -> tuple[int, int, int] | None:
        """What changes when the file does; a mounted ConfigMap changes its inode."""
        if self._path is None:
            return None
        try:
            found = self._path.stat()
        except OSError:
            return (0, 0, 0)
        return (found.st_mtime_ns, found.st_size, found.st_ino)


def check_readable(path: Path) -> None:
    """Raise InvalidSettingError where the file cannot be read at all."""
    if not path.is_file():
        raise InvalidSettingError("alerter.rules", f"there is no file {path}", "name a rules file, or leave it out")
