"""Rules evaluated on series written as short text, and their events written as short text, so that tests read well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from services.alerter.evaluation.events import to_events
from services.alerter.evaluation.steps import Block, State, history, open_episodes, restore, step
from services.alerter.trial.series_text import series_values
from services.core.breach_documents import OpenEpisode
from services.core.breaches import Event
from services.core.model import Floats, Measure, Series, Slot
from services.core.rules import Rule

START = Slot(29_000_000)
"""The slot of each text's first value."""


def named(name: str) -> Series:
    """Return the series of a short name: `AAA` is SIM:AAA volume_1m, `KRAKEN:AAA/price` says more."""
    metric, _, measure = name.partition("/")
    return Series(metric if ":" in metric else f"SIM:{metric}", Measure(measure or "volume_1m"))


class Evaluated:
    """A rule evaluated over texts; slots count from the first value of each text. Texts may differ in length."""

    def __init__(self, rule: Rule, texts: Mapping[str, str] | str, *, from_slot: int = 0) -> None:
        texts = {"AAA": texts} if isinstance(texts, str) else texts
        self.rule = rule
        self.block = block_of(rule, list(texts.values()))
        first = Slot(START + from_slot)
        series = [named(name) for name in texts]
        state = restore(rule, series, first - 1, self.block, expected_from=first)
        self.state, columns = step(state, self.block, self.block.end - 1, rule)
        self.events = to_events(columns, self.state, rule)

    @property
    def told(self) -> list[str]:
        """The events as text."""
        return [told(event) for event in self.events]

    @property
    def open(self) -> tuple[OpenEpisode, ...]:
        """The episodes that are open at the end."""
        return open_episodes(self.state, self.rule)


def block_of(rule: Rule, texts: Sequence[str]) -> Block:
    """Return the texts as a block with enough empty slots before them for `restore`."""
    values = [series_values(text) for text in texts]
    length, before = max(map(len, values)), history(rule)
    table: Floats = np.full((len(values), before + length), np.nan)
    for row, each in enumerate(values):
        table[row, before : before + len(each)] = each
    return Block(Slot(START - before), table)


def told(event: Event) -> str:
    """Return an event as text: KIND[/REASON] @SLOT [of OPENING] SUBJECT, as in `breach @61 of @60 AAA`."""
    kind = f"{event.kind.value}{f'/{event.reason.value}' if event.reason else ''}"
    opened = "" if event.opening else f" of @{event.opened_slot - START}"
    subject = event.subject
    name = subject.metric.removeprefix("SIM:") or f"all of {subject.exchange}"
    measure = "" if subject.measure in {None, Measure.VOLUME_1M} else f"/{subject.measure}"
    return f"{kind} @{event.slot - START}{opened} {name}{measure}"


def same_state(one: State, other: State) -> bool:
    """Whether two states hold the same, bit for bit."""
    columns = ("run", "calm", "last", "opened", "stale", "breaches", "last_breach", "expected_from")
    evidence = ("value", "baseline", "ratio", "threshold", "points")
    return one.subjects == other.subjects and all(
        a.tobytes() == b.tobytes()
        for a, b in [
            (one.evaluated, other.evaluated),
            *((getattr(one.rows, name), getattr(other.rows, name)) for name in (*columns, *evidence)),
        ]
    )
