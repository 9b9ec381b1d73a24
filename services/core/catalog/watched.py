"""Catalog and rules as resources that are watched: for processes that stay up.

It knows no cluster: whoever watches the objects hands them over.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Hashable, Mapping
from typing import Generic, Protocol, TypeVar

from services.core.catalog.base import Catalog, Market
from services.core.catalog.resources import (
    Object,
    Verdict,
    accepted_markets,
    judge_alert_rules,
    judge_markets,
    name_of,
)
from services.core.catalog.rule_source import RuleSource
from services.core.rules import Rule

_log = logging.getLogger(__name__)

_Value = TypeVar("_Value")


class Objects(Protocol):
    """The objects of one kind, as they are now. Methods never wait and never raise."""

    def objects(self) -> tuple[Object, ...]:
        """Return the objects."""

    def stamp(self) -> Hashable:
        """Return another value whenever what objects declare has changed; their status does not count."""


class Judged(Generic[_Value]):
    """Objects, each with the verdict on it; judged anew when they have changed. From any thread."""

    def __init__(
        self, objects: Objects, judge: Callable[[tuple[Object, ...]], Mapping[str, Verdict[_Value]]], what: str
    ) -> None:
        self._objects = objects
        self._judge = judge
        self._what = what
        self._lock = threading.Lock()
        self._stamp: Hashable = None
        self._verdicts: Mapping[str, Verdict[_Value]] = {}

    def verdicts(self) -> Mapping[str, Verdict[_Value]]:
        """Return the verdicts by name."""
        with self._lock:
            stamp, objects = self._objects.stamp(), self._objects.objects()
            if stamp != self._stamp:
                before, self._verdicts, self._stamp = self._verdicts, self._judge(objects), stamp
                for name, verdict in self._verdicts.items():
                    if verdict.value is None and before.get(name) != verdict:
                        _log.warning("%s %s is not accepted: %s", self._what, name, verdict.message)
            return self._verdicts

    def refused_count(self) -> int:
        """Return how many objects are not accepted now."""
        return sum(verdict.value is None for verdict in self.verdicts().values())

    def pairs(self) -> list[tuple[Object, Verdict[_Value]]]:
        """Return the objects, each with the verdict on it."""
        verdicts = self.verdicts()
        return [(each, verdicts[name_of(each)]) for each in self._objects.objects() if name_of(each) in verdicts]


class WatchedCatalog(Catalog):
    """The markets that are accepted, of those that are declared; there may be none."""

    def __init__(self, objects: Objects, exchanges: Collection[str]) -> None:
        self.judged = Judged[Market](objects, lambda found: judge_markets(found, exchanges), "market")

    def read(self) -> tuple[Market, ...]:
        return accepted_markets(self.judged.verdicts().values())


class WatchedRules(RuleSource):
    """The rules that are accepted, of those that are declared; there may be none."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self.judged = Judged[Rule](objects, judge_alert_rules, "alert rule")

    def read(self) -> tuple[Rule, ...]:
        return tuple(verdict.value for verdict in self.judged.verdicts().values() if verdict.value is not None)

    def stamp(self) -> Hashable:
        return self._objects.stamp()
