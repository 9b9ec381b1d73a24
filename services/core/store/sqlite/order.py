"""The write order, which followers read: every write has a number, and a log of the slots that it touched.

A log entry is a set of slots of one hour with all series that have it, so that the write of a minute is a few rows. The
order is logged in the transaction of the write itself: a follower sees both or neither.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import numpy as np

from services.core.model import Slots
from services.core.store.sqlite import blocks


def reach(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return the newest write's number, and that of the newest write that is forgotten; 0 for none."""
    newest, forgotten = connection.execute("SELECT revision, forgotten FROM store").fetchone()
    return int(newest), int(forgotten)


def log_write(connection: sqlite3.Connection, keys: blocks.Keys, masks: Slots, now: float) -> None:
    """Log that a write at this moment touched these blocks, and in each the slots of its mask."""
    (revision,) = connection.execute("UPDATE store SET revision = revision + 1 RETURNING revision").fetchone()
    connection.execute("INSERT INTO writes VALUES (?, ?)", (revision, now))
    connection.executemany("INSERT INTO touched VALUES (?, ?, ?, ?)", _entries(revision, keys, masks))


def touched_since(connection: sqlite3.Connection, revision: int) -> tuple[blocks.Keys, Slots]:
    """Return the keys of all blocks that later writes touched, ascending and each once, and which of their slots."""
    log = connection.execute("SELECT hour, slots, series FROM touched WHERE revision > ?", (revision,)).fetchall()
    if not log:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    members = [np.frombuffer(series, "<i4") for _, _, series in log]
    counts = [len(one) for one in members]
    keys = blocks.key_of(np.concatenate(members), np.repeat([hour for hour, _, _ in log], counts))
    masks = np.repeat(np.array([mask for _, mask, _ in log], np.int64), counts)
    order = np.argsort(keys, kind="stable")
    keys, masks = keys[order], masks[order]
    first = np.flatnonzero(np.concatenate([[True], np.diff(keys) != 0]))
    return keys[first], np.bitwise_or.reduceat(masks, first)


def forget_before(connection: sqlite3.Connection, moment: float) -> None:
    """Delete the log of the writes before a moment."""
    (revision,) = connection.execute(
        "SELECT coalesce(max(revision), 0) FROM writes WHERE written_at < ?", (moment,)
    ).fetchone()
    if revision:
        connection.execute("DELETE FROM writes WHERE revision <= ?", (revision,))
        connection.execute("DELETE FROM touched WHERE revision <= ?", (revision,))
        connection.execute("UPDATE store SET forgotten = ?", (revision,))


def _entries(revision: int, keys: blocks.Keys, masks: Slots) -> Iterator[tuple[int, int, int, bytes]]:
    """Walk the log entries of a write: a row for every hour and set of slots, with the series that have it."""
    hours = blocks.hours_of(keys)
    order = np.lexsort((keys, masks, hours))
    hours, masks, series = hours[order], masks[order], blocks.series_of(keys)[order].astype("<i4")
    bounds = np.flatnonzero(np.concatenate([[True], (np.diff(hours) != 0) | (np.diff(masks) != 0), [True]]))
    for low, high in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        yield revision, int(hours[low]), int(masks[low]), series[low:high].tobytes()
