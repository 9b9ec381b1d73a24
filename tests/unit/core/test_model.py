"""The domain's values refuse what cannot be, and keep what they were given."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import InvalidInputError
from services.core.model import (
    MEASURES,
    Measure,
    Metric,
    Points,
    Quality,
    Series,
    Slot,
    Window,
    last_complete_slot,
    slot_at,
    slot_time,
)

BTC = Series("KRAKEN:BTCUSD", Measure.PRICE)
ETH = Series("KRAKEN:ETHUSD", Measure.PRICE)

rows = st.lists(
    st.tuples(
        st.builds(Series, st.sampled_from(["A:X", "A:Y", "B:X"]), st.sampled_from(MEASURES)),
        st.integers(0, 2**40),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from(Quality),
    ),
    max_size=20,
)


@given(rows)
def test_points_give_back_their_rows(given_rows):
    """Columns built from rows walk back to the same rows in the same order."""
    assert given_rows == list(Points.of(given_rows).rows())


@given(st.lists(rows, max_size=4))
def test_concatenation_keeps_rows_and_order(batches):
    """Joined batches hold every row of each, in order, whatever series they share."""
    joined = Points.concatenate([Points.of(batch) for batch in batches])

    assert [row for batch in batches for row in batch] == list(joined.rows())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_point_is_finite(value):
    """A value that is not finite is no point."""
    with pytest.raises(ValueError, match="must be finite"):
        Points.of([(BTC, 1, value, Quality.OBSERVED)])


def test_columns_have_one_length():
    """Columns of different lengths are refused before anything is built on them."""
    with pytest.raises(ValueError, match="different lengths"):
        Points((BTC,), np.zeros(1, np.int32), np.zeros(2, np.int64), np.zeros(1), np.ones(1, np.uint8))


def test_windows_are_half_open():
    """A window holds its start and not its end."""
    window = Window(Slot(10), Slot(12))

    assert (2, [10, 11]) == (len(window), [slot for slot in range(8, 14) if slot in window])


def test_a_window_does_not_end_before_it_starts():
    """A window that runs backwards is refused."""
    with pytest.raises(InvalidInputError, match="before its start"):
        Window(Slot(2), Slot(1))


def test_slots_are_named_by_their_start():
    """A minute's last moment is in it; its slot is complete once the next has begun."""
    assert (slot_at(119.999), slot_at(120.0), last_complete_slot(120.0)) == (1, 2, 1)
    assert slot_time(1).isoformat() == "1970-01-01T00:01:00+00:00"


@pytest.mark.parametrize(
    "name", ["", "KRAKEN", "kraken:BTCUSD", "KRAKEN:", ":BTCUSD", "A:B:C", "A:B C", "A" * 40 + ":B"]
)
def test_a_metric_has_an_exchange_and_a_pair(name):
    """Anything but EXCHANGE:PAIR in capitals is refused, saying what it should look like."""
    with pytest.raises(InvalidInputError, match="EXCHANGE:PAIR in capitals, as in KRAKEN:BTCUSD"):
        Metric.parse(name)


def test_a_metric_is_its_name():
    """A metric's name parses back to it."""
    assert Metric.parse("KRAKEN:BTCUSD") == Metric("KRAKEN", "BTCUSD")


def test_series_are_ordered_by_name_then_by_the_enumeration():
    """Price comes before volume_1m of the same metric, whatever the alphabet says."""
    volume = Series("KRAKEN:BTCUSD", Measure.VOLUME_1M)

    assert sorted([ETH, volume, BTC]) == [BTC, volume, ETH]
