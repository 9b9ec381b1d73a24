"""An event in one line: by its numbers, unless its rule has words of its own."""

from __future__ import annotations

import dataclasses

import pytest
import tickwatch

from services.command_line.top.telling import EVENT_COLUMNS, event_cells
from tests.unit.command_line.test_board import event

PLAIN = tickwatch.Rule("spike", tickwatch.Ratio())
WORDED = dataclasses.replace(PLAIN, message="{metric} {measure} is up")
OTHER = tickwatch.Rule("spike", tickwatch.Threshold(above=1.0))
MESSAGE = "SIM:AAA price is up"


@pytest.mark.parametrize(
    ("rule", "why"), [(PLAIN, "x4.00  4.000 / 1.000"), (WORDED, MESSAGE), (OTHER, MESSAGE), (None, MESSAGE)]
)
def test_why_is_the_message_where_the_rule_words_it(rule: tickwatch.Rule | None, why: str) -> None:
    """However it begins; of a rule that is known no more, too. A ratio without words is its numbers."""
    told = dataclasses.replace(event(), value=4.0, ratio=4.0, message=MESSAGE)

    assert str(event_cells(told, rule)[EVENT_COLUMNS.index("Why")]) == why


def test_what_has_no_ratio_is_told_by_its_message() -> None:
    """A series that has gone stale under a ratio, for one."""
    told = dataclasses.replace(event(kind="stale"), ratio=None, message="no data")

    assert str(event_cells(told, PLAIN)[EVENT_COLUMNS.index("Why")]) == "no data"
