"""Which rules hold: where they are declared, and how to tell cheaply that they have changed.

Beside `base`, which a collector's run imports: the run needs no rules.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from pathlib import Path

from services.core.files import stamp
from services.core.rules import DEFAULT_RULES, Rule


class RuleSource(ABC):
    """Where the rules are declared."""

    @abstractmethod
    def read(self) -> tuple[Rule, ...]:
        """Return the rules as declared now, each name once, in any order.

        Raises InvalidSettingError naming everything that is wrong and where.
        """

    @abstractmethod
    def stamp(self) -> Hashable:
        """Return another value whenever `read` would return something else; cheap, and never raises."""


class FixedRules(RuleSource):
    """Rules given once; without any, those that hold where nobody declared some."""

    def __init__(self, rules: tuple[Rule, ...] = DEFAULT_RULES) -> None:
        self._rules = rules

    def read(self) -> tuple[Rule, ...]:
        return self._rules

    def stamp(self) -> Hashable:
        return None


class FileRules(RuleSource):
    """Rules of a file, as `read_rules` reads it."""

    def __init__(self, path: Path, read_rules: Callable[[Path], tuple[Rule, ...]]) -> None:
        self._path = path
        self._read_rules = read_rules

    def read(self) -> tuple[Rule, ...]:
        return self._read_rules(self._path)

    def stamp(self) -> Hashable:
        return stamp(self._path)
