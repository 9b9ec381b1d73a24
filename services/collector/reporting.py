"""What a run did, as a value and as the one JSON line that a run prints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from services.core.model import Outcome, Slot, slot_time

_ERROR_LENGTH = 500


@dataclass(frozen=True, slots=True)
class ExchangeReport:
    """How a run fared on one exchange."""

    exchange: str
    outcome: Outcome
    point_count: int
    """How many points of the run's slot were written, those confirmed by writing them again included."""
    repaired_count: int
    """How many points of other slots were."""
    failures: Mapping[str, str]
    """What the exchange said, by pair."""
    remarks: tuple[str, ...] = ()
    """What it said besides, about no pair."""

    @property
    def error(self) -> str:
        """The exchange's own words about everything that failed, in one line; empty where nothing did."""
        by_words: dict[str, list[str]] = {}
        for pair, words in self.failures.items():
            by_words.setdefault(words, []).append(pair)
        said = [*self.remarks, *(f"{', '.join(pairs)}: {words}" for words, pairs in by_words.items())]
        text = "; ".join(said)
        return text if len(text) <= _ERROR_LENGTH else text[: _ERROR_LENGTH - 1] + "…"


@dataclass(frozen=True, slots=True)
class RunReport:
    """What one run did on every exchange of the catalog."""

    slot: Slot
    shard: tuple[int, int]
    exchanges: tuple[ExchangeReport, ...]
    seconds: float

    @property
    def exit_code(self) -> int:
        """0 where all was written, 1 where some exchange or pair failed."""
        return int(any(report.outcome is not Outcome.OK for report in self.exchanges))

    def to_json(self) -> str:
        """One line; the slot's time is ISO 8601, counts are of points, seconds are of the whole run."""
        exchanges = {
            report.exchange: {
                "outcome": report.outcome.value,
                "points": report.point_count,
                "repaired": report.repaired_count,
                "failures": dict(report.failures),
                "remarks": list(report.remarks),
            }
            for report in self.exchanges
        }
        return json.dumps(
            {
                "slot": f"{slot_time(self.slot):%Y-%m-%dT%H:%M:%SZ}",
                "shard": f"{self.shard[0]}/{self.shard[1]}",
                "points": sum(report.point_count for report in self.exchanges),
                "repaired": sum(report.repaired_count for report in self.exchanges),
                "seconds": round(self.seconds, 3),
                "exchanges": exchanges,
                "exit_code": self.exit_code,
            },
            ensure_ascii=False,
        )
