"""The whole way by the real commands: an exchange's spike and gap become events at a subscriber, on either shape.

Split roles on InfluxDB and the one process on SQLite watch the same exchange side by side, because both have to wait
for the same minutes to end.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from services.core.model import Slot, slot_at, slot_time
from tests.support.commands import running, tickwatch, until
from tests.support.exchanges import RunningExchange, running_exchange
from tests.support.influxd import running_influxd
from tests.support.ports import free_port
from tests.support.watching import Watch, watching

SEED = "4"
"""In the minutes around this market's start no pair breaks the rule by itself."""

SURGE = "three-times-the-hour"
RULES = f"""
rules:
  - name: {SURGE}
    ratio: {{factor: 3, window: 1h}}
    selector: {{measures: [price, volume_1m]}}
  - name: missing
    missing: {{slots: 1}}
    selector: {{measures: [price, volume_1m]}}
"""

MOST_SECONDS = 420.0


class Seen(NamedTuple):
    """What happened, and what the two subscribers were told."""

    slot: Slot
    """Of the spike in BTC/USD's volume, and of the gap in ETH/USD's candles."""
    volumes: list[float]
    """What the exchange says that BTC/USD traded, minute by minute, in the hour before the spike and in its minute."""
    split: Watch
    one: Watch


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """Run both shapes over a spike and a gap, until their ends have come; takes about two minutes."""
    folder, port = tmp_path_factory.mktemp("live"), free_port()
    (folder / "rules.yaml").write_text(RULES, encoding="utf-8")
    common = {
        "TICKWATCH_EXCHANGES__KRAKEN__BASE_URL": f"http://127.0.0.1:{port}",
        "TICKWATCH_EXCHANGES__KRAKEN__CALLS_PER_SECOND": "1000",
        "TICKWATCH_ALERTER__RULES": str(folder / "rules.yaml"),
        "TICKWATCH_ALERTER__GRACE_SECONDS": "25",
        "TICKWATCH_GATEWAY__LISTEN": "127.0.0.1:0",
    }
    with contextlib.ExitStack() as stack:
        influxd = stack.enter_context(running_influxd(folder))
        access = influxd.access
        split = common | {
            "TICKWATCH_STORE": f"influxdb+{access.url}/{access.org}/{access.bucket}",
            "INFLUXDB_V2_TOKEN": access.token,
        }
        epoch = str(time.time() // 60 * 60)
        market = ("--seed", SEED, "--epoch", epoch, "--port", str(port))
        with running_exchange(*market):
            done = tickwatch("backfill", "--since", "2h", settings=split)
            assert done.returncode == 0, done.stderr
            alerter = stack.enter_context(
                running(
                    "alerter",
                    "--listen",
                    "127.0.0.1:0",
                    announces=r"tickwatch alerter: listening on (\S+)",
                    settings=split,
                )
            )
            stack.enter_context(running("collect", "--loop", announces=r'("exit_code": 0)', settings=split))
            one = stack.enter_context(_one_process(folder, common))
            watches = [stack.enter_context(watching(address, "--late")) for address in (alerter.address, one)]
            for watch in watches:
                until(lambda watch=watch: watch.messages, bool)  # type: ignore[misc]  # of this round
            _wait_for_room()
        with _spike_and_gap(market, float(epoch)) as (slot, exchange):
            _wait_for(watches)
            volumes = _volumes(exchange, slot)
        yield Seen(slot, volumes, *watches)


@contextlib.contextmanager
def _one_process(folder: Path, common: dict[str, str]) -> Iterator[str]:
    """Run `tickwatch up`; yields where it streams alerts."""
    words = ("up", "--exchange", "kraken", "--listen", "127.0.0.1:0", "--alerts", "127.0.0.1:0")
    store = {"TICKWATCH_STORE": f"sqlite:{folder / 'tickwatch.db'}"}
    with running(*words, announces=r"alerts +(\S+)", settings=common | store) as service:
        yield service.address


def _wait_for_room() -> None:
    """Wait until the last minute's runs are over, and the next ones far."""
    while not 10 < time.time() % 60 < 40:  # seconds of the minute
        time.sleep(0.2)


@contextlib.contextmanager
def _spike_and_gap(market: tuple[str, ...], epoch: float) -> Iterator[tuple[Slot, RunningExchange]]:
    """Go on with the same market, with a spike and a gap in the minute in progress."""
    slot = slot_at(time.time())
    minute = slot - slot_at(epoch)
    faults = ("--volume-spike", f"BTC/USD@+{minute}:40", "--gap", f"ETH/USD@+{minute}:+{minute + 1}")
    with running_exchange(*market, *faults) as exchange:
        yield slot, exchange


def _wait_for(watches: list[Watch]) -> None:
    """Wait until both subscribers have seen the gap end."""
    deadline = time.monotonic() + MOST_SECONDS
    while any(len(watch.of("missing", "resolved")) < 2 for watch in watches):
        assert time.monotonic() < deadline, [watch.events for watch in watches]
        time.sleep(0.2)


def _volumes(exchange: RunningExchange, slot: Slot) -> list[float]:
    candles = exchange.kraken("OHLC", pair="XBTUSD", interval=1)
    rows = next(rows for name, rows in candles.items() if name != "last")
    by_slot = {int(row[0]) // 60: float(row[6]) for row in rows}
    return [by_slot[each] for each in range(slot - 60, slot + 1)]


@pytest.mark.parametrize("shape", ["split", "one"])
def test_a_spike_is_one_opening_breach_with_its_evidence(seen: Seen, shape: str) -> None:
    """40 times a minute's volume comes as one event that opens an episode, and says what it was measured by."""
    openings = [event for event in getattr(seen, shape).of(SURGE, "breach") if event["opening"]]
    (event,) = [event for event in openings if event["slot_time"] >= _text(seen.slot)]  # the day before had others
    mean = math.fsum(seen.volumes[:-1]) / 60

    assert (event["metric"], event["measure"]) == ("KRAKEN:BTCUSD", "volume_1m")
    assert event["slot_time"] == event["opened_time"] == _text(seen.slot)
    assert not event["late"]
    assert event["value"] == seen.volumes[-1]
    assert event["point_count"] == 60
    assert event["baseline"] == pytest.approx(mean, rel=1e-12)
    assert event["ratio"] == pytest.approx(seen.volumes[-1] / mean, rel=1e-12)
    assert event["threshold"] == pytest.approx(3 * mean, rel=1e-12)


@pytest.mark.parametrize("shape", ["split", "one"])
def test_a_gap_is_missing_and_then_over(seen: Seen, shape: str) -> None:
    """A minute without candles brings a breach for each expected series of the pair, and its end with the next."""
    events = [event for event in getattr(seen, shape).of("missing") if event["opened_time"] >= _text(seen.slot)]

    assert sorted((event["kind"], event["metric"], event["measure"], event["slot_time"]) for event in events) == [
        (kind, "KRAKEN:ETHUSD", measure, _text(slot))
        for kind, slot in (("breach", seen.slot), ("resolved", Slot(seen.slot + 1)))
        for measure in ("price", "volume_1m")
    ]
    assert {event["resolved_reason"] for event in events} == {None, "data_returned"}


def test_both_shapes_tell_the_same(seen: Seen) -> None:
    """On one history, whichever the store and however many processes: the same events under the same ids."""
    split, one = (
        {event["id"] for event in watch.events if event["opened_time"] >= _text(seen.slot)}
        for watch in (seen.split, seen.one)
    )
    assert split == one


def _text(slot: int) -> str:
    return slot_time(slot).strftime("%Y-%m-%dT%H:%M:%SZ")
