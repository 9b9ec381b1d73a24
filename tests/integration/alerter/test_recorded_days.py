"""Two recorded days, evaluated live, tried by TestRule over gRPC, and calculated plainly with numpy: one log."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from tickwatch.v1 import alert_pb2 as wire

from services.alerter.evaluation.events import event_order
from services.core.breaches import EventKind
from services.core.catalog.base import Market
from services.core.model import SLOT_SECONDS, Measure, Series
from services.core.rpc.convert_alerts import to_wire_event, to_wire_rule
from services.core.rules import Missing, Ratio, Rule, Selector
from tests.support.alerter import serve
from tests.support.live import FIRST, Live, Told, replayed, texts
from tests.support.needs import require_recordings

SLOTS = 2 * 1440
FACTOR, WINDOW, LEAST = 3.0, 60, 10

RULES = (
    Rule("three-times-the-hour", Ratio(FACTOR, WINDOW, LEAST), Selector(measures=("price", "volume_1m"))),
    Rule("missing", Missing(1)),
)


@pytest.fixture(scope="module")
def recorded() -> dict[Series, np.ndarray]:
    """Two days of closes and volumes of two pairs, minute by minute; NaN where the recording has no candle."""
    table = {}
    for base in ("ETH", "ADA"):
        path = require_recordings() / "minute" / f"ft_{base}_BTC_1m_201801.json.gz"
        rows = np.array(json.loads(gzip.decompress(path.read_bytes())), np.float64)
        minutes = (rows[:, 0] // 60_000).astype(np.int64)
        # The second and third day: in the first no candle is missing.
        place = minutes - minutes[0] - 1440
        inside = (place >= 0) & (place < SLOTS)
        for measure, column in ((Measure.PRICE, 4), (Measure.VOLUME_1M, 5)):
            values = np.full(SLOTS, np.nan)
            values[place[inside]] = rows[inside, column]
            table[Series(f"REC:{base}BTC", measure)] = values
    return table


async def test_the_live_log_is_that_of_test_rule_and_numpy_s(recorded: dict[Series, np.ndarray]) -> None:
    """Slot by slot as it would have been, the log has the events that TestRule answers with, to the byte, and the
    breaches that the plain calculation has, with its numbers.
    """
    live = Live(RULES, recorded)
    live.step()
    for slot in range(SLOTS):
        live.at(slot, 3)
        live.write(
            Told(each, slot, float(values[slot])) for each, values in recorded.items() if not np.isnan(values[slot])
        )
        live.run(slot, "REC")
        live.step()
    live.settle(SLOTS - 1)
    points = {
        (each, slot): float(value)
        for each, values in recorded.items()
        for slot, value in enumerate(values)
        if not np.isnan(value)
    }

    logged = sorted(live.events, key=event_order)
    assert texts(replayed(RULES, points, recorded, SLOTS - 1)) == texts(logged)
    tested = [event for rule in RULES for event in await by_test_rule(live, rule)]
    of_rules = [event for rule in RULES for event in logged if event.rule == rule.name]
    assert [bytes_of(to_wire_event(event)) for event in of_rules] == list(map(bytes_of, tested))
    breaches = [event for event in live.events if event.rule == RULES[0].name and event.kind is EventKind.BREACH]
    assert len(breaches) > 100
    assert {
        (each.metric, each.measure, slot): (value, pytest.approx(mean, rel=1e-12), count)
        for each, values in recorded.items()
        for slot, value, mean, count in by_numpy(values)
    } == {
        (event.subject.metric, event.subject.measure, event.slot - FIRST): (
            event.value,
            event.baseline,
            event.point_count,
        )
        for event in breaches
    }
    gaps = {(each.metric, each.measure, slot) for each, values in recorded.items() for slot in gaps_by_numpy(values)}
    assert gaps
    assert gaps == {
        (event.subject.metric, event.subject.measure, event.slot - FIRST)
        for event in live.events
        if event.rule == "missing" and event.kind is EventKind.BREACH and event.subject.metric
    }


async def by_test_rule(live: Live, rule: Rule) -> list[wire.Event]:
    """Ask a server of the same store what the rule would have fired in the two days."""
    market = Market("REC", ("ADABTC", "ETHBTC"), (Measure.PRICE, Measure.VOLUME_1M))
    async with serve(live.store, clock=live.clock, rules=RULES, markets=[market]) as service:
        found = await service.stub.TestRule(
            wire.TestRuleRequest(
                rule=to_wire_rule(rule),
                start_time=Timestamp(seconds=FIRST * SLOT_SECONDS),
                end_time=Timestamp(seconds=(FIRST + SLOTS) * SLOT_SECONDS),
                max_events=10_000,
            ),
            timeout=60,
        )
    assert len(found.events) >= found.breach_count > 0
    return list(found.events)


def bytes_of(event: wire.Event) -> bytes:
    """Return an event's message as one text, the same for the same content."""
    return event.SerializeToString(deterministic=True)


def by_numpy(values: np.ndarray) -> list[tuple[int, float, float, int]]:
    """The literal rule: slot, value, mean and number of points of the hour before, wherever the value exceeds it."""
    found = []
    for slot in range(len(values)):
        window = values[max(0, slot - WINDOW) : slot]
        window = window[~np.isnan(window)]
        if len(window) >= LEAST and values[slot] > FACTOR * np.mean(window):
            found.append((slot, float(values[slot]), float(np.mean(window)), len(window)))
    return found


def gaps_by_numpy(values: np.ndarray) -> list[int]:
    """The slots with which a row of missing ones begins."""
    missing = np.isnan(values)
    return [slot for slot in np.flatnonzero(missing).tolist() if slot == 0 or not missing[slot - 1]]
