"""What is typed wrong on the command line is answered with what would be right."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
import pytest

from services.command_line.arguments import DURATION, MEASURE, SERVER, SHARD, STATISTICS, TIME, to_slot
from services.core.ranking import Statistic

RIGHT = [
    (DURATION, "90m", timedelta(minutes=90)),
    (DURATION, "24h", timedelta(hours=24)),
    (DURATION, "2d", timedelta(days=2)),
    (TIME, "2026-11-24T12:00Z", datetime(2026, 11, 24, 12, tzinfo=UTC)),
    (TIME, "2026-11-24 12:00", datetime(2026, 11, 24, 12, tzinfo=UTC)),
    (TIME, "2026-11-24T13:00+01:00", datetime(2026, 11, 24, 12, tzinfo=UTC)),
    (MEASURE, "PRICE", "price"),
    (SHARD, "3/4", (3, 4)),
    (SERVER, "127.0.0.1:50051", "127.0.0.1:50051"),
    (SERVER, "[::1]:50051", "[::1]:50051"),
    (SERVER, "dns:///tickwatch-query-headless:50051", "dns:///tickwatch-query-headless:50051"),
]

WRONG = [
    (DURATION, "24", "'24' is not a duration; give whole minutes, hours or days, as in 90m, 24h or 2d"),
    (DURATION, "0h", "'0h' is not a duration"),
    (DURATION, "-1h", "'-1h' is not a duration"),
    (DURATION, "1.5h", "'1.5h' is not a duration"),
    (TIME, "noon", "'noon' is not a time; give ISO 8601, as in 2026-11-24T12:00Z"),
    (TIME, "2026-11-24T12:00:30Z", "is not on a whole minute; seconds must be zero"),
    (MEASURE, "prize", "'prize' is not a measure; did you mean 'price'?"),
    (MEASURE, "q", "'q' is not a measure; known here: change_absolute, change_percentage, price, volume, volume_1m"),
    (SHARD, "4/4", "'4/4' is not a shard; give I/N with I from 0 to N-1, as in 0/4"),
    (SHARD, "1", "'1' is not a shard"),
    (SERVER, "", "'' is not HOST:PORT or dns:///NAME:PORT, as in 127.0.0.1:50051"),
    (SERVER, "localhost", "'localhost' is not HOST:PORT"),
    (SERVER, "h:0", "'h:0' is not HOST:PORT"),
    (SERVER, "h:65536", "'h:65536' is not HOST:PORT"),
    (SERVER, "::1:50051", "'::1:50051' is not HOST:PORT"),
    (SERVER, "http://h:50051", "'http://h:50051' is not HOST:PORT"),
]


@pytest.mark.parametrize(("kind", "text", "value"), RIGHT)
def test_what_is_typed_right_is_understood(kind, text, value):
    """Each way of writing a value gives the value."""
    assert value == kind.convert(text, None, None)


@pytest.mark.parametrize(("kind", "text", "message"), WRONG)
def test_what_is_typed_wrong_is_explained(kind, text, message):
    """Each wrong value is refused, quoting it and saying what would be right."""
    with pytest.raises(click.BadParameter) as caught:
        kind.convert(text, None, None)

    assert message in str(caught.value)


def test_a_time_names_its_slot():
    """A moment on a whole minute is the slot that starts there."""
    assert to_slot(datetime(1970, 1, 1, 1, tzinfo=UTC)) == 60


def test_the_statistics_offered_are_those_there_are():
    """They are written down apart from the ones that are computed, in the same order."""
    assert tuple(Statistic) == STATISTICS
