"""Blocks in and out of their table, thousands at a time; what is in a block is the business of `blocks`."""

from __future__ import annotations

import json
import sqlite3

import numpy as np

from services.core.model import Floats, Qualities, Window
from services.core.store.sqlite import blocks

_FETCH_BLOCKS = 4096


def fetch(connection: sqlite3.Connection, keys: blocks.Keys) -> tuple[blocks.Keys, list[bytes]]:
    """Return those of the blocks with these keys that are stored, in the order of the keys."""
    found: list[tuple[int, int, bytes]] = []
    for at in range(0, len(keys), _FETCH_BLOCKS):
        found += connection.execute(
            """
            SELECT b.series, b.hour, b.points FROM json_each(?) AS k CROSS JOIN blocks AS b
            ON b.series = k.value >> 32 AND b.hour = k.value & 4294967295
            """,
            (json.dumps(keys[at : at + _FETCH_BLOCKS].tolist()),),
        )
    if not found:
        return np.empty(0, np.int64), []
    series, hours, packed = zip(*found, strict=True)
    return blocks.key_of(np.array(series), np.array(hours)), list(packed)


def put(connection: sqlite3.Connection, written: blocks.Blocks) -> None:
    """Store blocks, in place of those that have their keys."""
    connection.executemany(
        "INSERT INTO blocks VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET points = excluded.points",
        zip(
            blocks.series_of(written.keys).tolist(),
            blocks.hours_of(written.keys).tolist(),
            written.pack(),
            strict=True,
        ),
    )


def read_into(
    connection: sqlite3.Connection, numbers: list[int], window: Window, into: tuple[Floats, Qualities]
) -> None:
    """Fill dense columns, a row a number, in chunks, so that the file's form never lies in memory whole."""
    rows_of = np.full(max(numbers) + 1, -1)
    rows_of[numbers] = np.arange(len(numbers))
    cursor = connection.execute(
        """
        SELECT b.series, b.hour, b.points FROM json_each(?) AS n CROSS JOIN blocks AS b
        ON b.series = n.value AND b.hour BETWEEN ? AND ?
        """,
        (json.dumps(numbers), window.start // blocks.HOUR_SLOTS, (window.end - 1) // blocks.HOUR_SLOTS),
    )
    while rows := cursor.fetchmany(_FETCH_BLOCKS):
        series, hours, packed = zip(*rows, strict=True)
        blocks.spread(rows_of[list(series)], np.array(hours), blocks.unpack(packed), window, into)


def delete_before(connection: sqlite3.Connection, hour: int) -> None:
    """Delete the blocks of earlier hours; one seek a series."""
    connection.execute(
        """
        DELETE FROM blocks WHERE (series, hour) IN (
            SELECT b.series, b.hour FROM series AS s CROSS JOIN blocks AS b
            ON b.series = s.id AND b.hour < ?
        )
        """,
        (hour,),
    )
