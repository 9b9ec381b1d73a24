"""The board of the live view: what it makes of what the client yields."""

from __future__ import annotations

import datetime as dt
import math
from array import array

import numpy as np
import pytest
import tickwatch

from services.command_line.top.board import SPARK_SLOTS, Board, sparkline

NOON = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)


def metric(name: str, price: float = 1.0, at: dt.datetime = NOON) -> tickwatch.Metric:
    """Return a metric whose newest price is this."""
    exchange, _, pair = name.partition(":")
    return tickwatch.Metric(name, exchange, pair, (tickwatch.MeasureSummary("price", at, price, 1440, 1.0),))


def batch(at: dt.datetime, **prices: float) -> tickwatch.PointBatch:
    """Return new prices of one slot, of metrics of SIM."""
    return tickwatch.PointBatch(
        "",
        at,
        tuple(f"SIM:{pair}" for pair in prices),
        ("price",) * len(prices),
        np.array(list(prices.values())),
        np.zeros(len(prices), bool),
    )


def history(name: str, values: list[float], end: dt.datetime = NOON) -> tickwatch.History:
    """Return a history whose last slot is `end`."""
    start = end - MINUTE * (len(values) - 1)
    return tickwatch.History(name, "price", start, MINUTE, array("d", values), (), (), 1.0)


def event(
    name: str = "SIM:AAA", kind: str = "breach", at: dt.datetime = NOON, opened: dt.datetime = NOON
) -> tickwatch.Event:
    """Return an event of the episode that opened then."""
    return tickwatch.Event(
        id=f"{name} {kind} {at}",
        kind=kind,
        rule="spike",
        rule_version="",
        severity="warning",
        exchange="SIM",
        metric=name,
        measure="price",
        time=at,
        episode_id=f"{name} {opened}",
        opened_time=opened,
        opening=kind == "breach" and at == opened,
        late=False,
        value=1.0,
        baseline=1.0,
        ratio=1.0,
        threshold=1.0,
        point_count=60,
        resolved_reason=None,
        withdrawn_id="",
        message="",
        silenced=False,
        labels={},
    )


@pytest.fixture
def board() -> Board:
    """A board with two metrics, whose last two prices are known."""
    found = Board()
    found.list([metric("SIM:AAA"), metric("SIM:BBB")])
    for name in ("SIM:AAA", "SIM:BBB"):
        found.remember(history(name, [1.0, 2.0]))
    return found


def prices(board: Board, name: str) -> list[float]:
    """Return the line of a metric."""
    return next(list(row.prices) for row in board.rows() if row.metric == name)


def test_rows_come_by_rank_then_by_name_and_those_without_a_rank_last(board):
    """Equal ranks are shown in the order of names."""
    board.list([metric(f"SIM:{pair}") for pair in ("AAA", "BBB", "CCC", "DDD")])
    window = tickwatch.TimeRange(NOON, NOON)
    ranked = tuple(
        tickwatch.Ranking(f"SIM:{pair}", rank, 1.0, 2, 1.0) for pair, rank in (("CCC", 1), ("BBB", 2), ("AAA", 2))
    )
    board.rank(tickwatch.Rankings("price", "stddev", window, ranked, 3, ("SIM:DDD",)))
    assert [(row.metric[4:], row.rank) for row in board.rows()] == [("CCC", 1), ("AAA", 2), ("BBB", 2), ("DDD", None)]


def test_rows_are_found_by_a_part_of_their_name(board):
    """In whichever case it is typed."""
    assert [row.metric for row in board.rows("aa")] == ["SIM:AAA"]
    assert board.rows("nothing") == []


def test_a_new_point_goes_on_with_the_line_and_a_gap_stays_a_gap(board):
    """Two minutes without a point are two places without a value."""
    board.points(batch(NOON + MINUTE, AAA=3.0))
    board.points(batch(NOON + 4 * MINUTE, AAA=4.0))
    assert prices(board, "SIM:AAA") == pytest.approx([1, 2, 3, math.nan, math.nan, 4], nan_ok=True)
    assert board.newest == NOON + 4 * MINUTE


def test_a_line_is_never_longer_than_an_hour(board):
    """However long nothing came."""
    board.points(batch(NOON + MINUTE * 5000, AAA=3.0))
    assert len(prices(board, "SIM:AAA")) == SPARK_SLOTS
    assert prices(board, "SIM:AAA")[-1] == 3


def test_a_point_that_comes_late_is_put_in_its_place_and_is_not_the_newest_value(board):
    """A point again of the same slot replaces it; one from before the line is nowhere."""
    board.points(batch(NOON - MINUTE, AAA=9.0))
    board.points(batch(NOON - 2 * MINUTE, AAA=8.0))
    (row,) = board.rows("AAA")
    assert (list(row.prices), row.values["price"]) == ([9, 2], 1)
    board.points(batch(NOON, AAA=7.0))
    assert (list(row.prices), row.values["price"]) == ([9, 7], 7)


def test_points_of_a_metric_that_is_new_are_told(board):
    """So that the metrics are listed anew."""
    assert not board.points(batch(NOON, AAA=1.0))
    assert board.points(batch(NOON, AAA=1.0, CCC=1.0))


def test_metrics_that_are_gone_leave_and_those_that_stay_keep_their_line(board):
    """A new list replaces the rows."""
    board.list([metric("SIM:BBB", 5.0)])
    assert [(row.metric, list(row.prices), row.values["price"]) for row in board.rows()] == [("SIM:BBB", [1, 2], 5)]


def test_episodes_are_open_from_their_opening_to_their_end(board):
    """The snapshot says which are open at first; further breaches open none."""
    opening = event("SIM:BBB", at=NOON - MINUTE, opened=NOON - MINUTE)
    episode = tickwatch.Episode(opening.episode_id, "open", opening, 1, opening.time)
    board.alert(tickwatch.Snapshot("", (episode,), NOON))
    board.alert(event("SIM:AAA"))
    board.alert(event("SIM:AAA", at=NOON + MINUTE))
    assert (board.open_count(), board.open_count("SIM:AAA"), board.open_count("SIM:BBB")) == (2, 1, 1)
    board.alert(event("SIM:BBB", "resolved", NOON + MINUTE, NOON - MINUTE))
    assert (board.open_count(), board.open_count("SIM:BBB")) == (1, 0)


def test_an_event_that_is_told_again_is_shown_once(board):
    """Delivery is at least once; the past comes from the log, newest first, and is shown oldest first."""
    older, newer = event(), event(at=NOON + MINUTE)
    board.known([newer, older])
    board.alert(newer)
    assert [each.id for each in board.events] == [older.id, newer.id]


def test_a_bookmark_says_how_far_rules_have_been_evaluated(board):
    """Without anything else."""
    board.alert(tickwatch.Bookmark("", NOON))
    assert (board.evaluated, board.open_count(), len(board.events)) == (NOON, 0, 0)


@pytest.mark.parametrize(
    ("values", "width", "line"),
    [
        ([], 10, ""),
        ([math.nan, math.nan], 10, ""),
        ([1, 2, 3, 4, 5, 6, 7, 8], 8, "▁▂▃▄▅▆▇█"),
        ([1, math.nan, 8], 8, "▁ █"),
        ([5, 5, 5], 8, "▁▁▁"),
        ([1, 3, 8, 8], 2, "▁█"),
    ],
)
def test_sparklines(values, width, line):
    """The least value is the lowest block, the greatest the highest, a gap is a space, and width is the limit."""
    assert sparkline(values, width) == line
