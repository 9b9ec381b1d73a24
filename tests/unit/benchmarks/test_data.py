"""The seeded market is the same for every server, in points and in line protocol."""

from __future__ import annotations

import numpy as np

from benchmarks.data import BLOCK_METRICS, MEASURES, Market
from benchmarks.servers import bodies
from services.core.model import Points, Window

WINDOW = Window.ending(29_900_000)


def test_a_market_is_a_function_of_its_seed():
    """Two of the same seed agree in every value, of another seed they do not."""
    first, again, other = (next(Market(3, WINDOW, seed).batches()).values for seed in (1, 1, 2))

    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_batches_hold_every_series_and_slot_once():
    """As many points as metrics, measures and slots, also over the border of a block."""
    market = Market(BLOCK_METRICS + 1, WINDOW)
    points = Points.concatenate(list(market.batches()))
    places = {(points.series[i], s) for i, s in zip(points.series_index.tolist(), points.slots.tolist(), strict=True)}

    assert market.point_count == len(points) == len(places)
    assert len(next(market.batches()).series) == BLOCK_METRICS * len(MEASURES)


def test_both_orders_hold_the_same_points():
    """Minute by minute or series by series: sorted alike, the points are equal."""
    market = Market(3, WINDOW)
    tables = []
    for batches in (market.batches(), market.batches_by_time()):
        points = Points.concatenate(list(batches))
        rows = [(s.sort_key, slot, value) for s, slot, value, _ in points.rows()]
        tables.append(sorted(rows))

    assert tables[0] == tables[1]
    assert [WINDOW.start] * 12 == next(market.batches_by_time()).slots[:12].tolist()


def test_line_protocol_holds_the_same_values_as_the_points():
    """The prices of a metric read back from its lines are those of its points, in order of time."""
    market = Market(2, WINDOW)
    points = next(market.batches())
    lines = b"".join(market.line_protocol(qualities=True)).decode().splitlines()
    mine = [line for line in lines if ",pair=M00001 " in line]
    prices = [float(line.split("price=")[1].split(",")[0]) for line in mine]
    times = [int(line.rpartition(" ")[2]) for line in mine]

    assert points.values[1440:2880].tolist() == prices
    assert [slot * 60 for slot in range(WINDOW.start, WINDOW.end)] == times
    assert all(",price_quality=1i," in line for line in mine)


def test_bodies_are_whole_lines_and_nothing_is_lost():
    """Cutting into bodies loses no byte and splits no line."""
    text = b"".join(b"%d\n" % number for number in range(700_000))
    cut = list(bodies([text]))

    assert text == b"".join(cut)
    assert len(cut) > 1
    assert all(body.endswith(b"\n") and len(body) <= 2_000_000 for body in cut)
