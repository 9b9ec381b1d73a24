"""What the leader tells of resources: only what has changed, and one that is refused keeps nobody from the others."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from services.alerter.rules.counting import BreachTally
from services.alerter.rules.status_writing import Reported, StatusWriter
from services.core.catalog.watched import WatchedCatalog, WatchedRules
from services.core.clock import ManualClock
from services.core.errors import ClusterRefusedError, ClusterUnavailableError
from services.core.store.memory import MemoryMetricStore
from services.core.telemetry import ResourceMetrics
from tests.support.alerter import LogWriter, breach
from tests.support.query import LAST, NOW


class Kind:
    """Objects of one kind, whose statuses are put where they belong; `error` is raised instead, of `names` or all."""

    def __init__(self, **specs: object) -> None:
        self.found = {
            name: {"metadata": {"name": name, "uid": name, "generation": 1}, "spec": spec}
            for name, spec in specs.items()
        }
        self.puts: list[str] = []
        self.error: Exception | None = None
        self.names: tuple[str, ...] = ()

    def objects(self):
        return tuple(self.found.values())

    def stamp(self):
        return tuple(self.found)

    def put(self, each, status):
        name = each["metadata"]["name"]
        self.puts.append(name)
        if self.error and name in (self.names or self.found):
            raise self.error
        self.found[name] = {**each, "status": status}


@pytest.fixture
def rules() -> Kind:
    """Two rules, one of them wrong."""
    return Kind(good={"missing": {}}, wrong={})


@pytest.fixture
def markets() -> Kind:
    """A market."""
    return Kind(sim={"exchange": "SIM", "pairs": ["BTCUSD"]})


@pytest.fixture
def log():
    """A log of breaches."""
    return MemoryMetricStore(clock=ManualClock(NOW)).breach_log


def writer(rules: Kind, markets: Kind, log, leads=lambda: True) -> StatusWriter:
    """Return a writer on these kinds and this log."""
    tally = BreachTally()
    checkpoint = log.checkpoint()
    tally.restart(checkpoint.end if checkpoint else log.earliest())
    reported = Reported(
        rules=WatchedRules(rules),
        put_rule=rules.put,
        catalog=WatchedCatalog(markets, ["SIM"]),
        put_market=markets.put,
    )
    return StatusWriter(reported, tally=tally, read_before=log.read_before, clock=ManualClock(NOW), leads=leads)


def test_each_status_is_written_once(rules: Kind, markets: Kind, log) -> None:
    """As long as there is nothing new to tell."""
    statuses = writer(rules, markets, log)

    assert statuses.step()
    assert statuses.step()
    assert (["good", "wrong"], ["sim"]) == (rules.puts, markets.puts)


def test_a_status_counts_what_the_log_says(rules: Kind, markets: Kind, log) -> None:
    """Of the last 24 hours, and when it was last."""
    events = LogWriter(log)
    events.append(*(breach(metric=f"SIM:{name}", slot=LAST, rule="good") for name in "ABC"))
    assert writer(rules, markets, log).step()

    status = rules.found["good"]["status"]
    assert 3 == status["breaches24h"]
    assert "2026-11-24T05:59:00Z" == status["lastFired"]


def test_refused_objects_are_counted(rules: Kind, markets: Kind) -> None:
    """Of each kind as many as are refused when the metric is asked for."""
    registry = CollectorRegistry()

    def refused() -> list[float | None]:
        return [
            registry.get_sample_value("tickwatch_refused_resources", {"kind": kind}) for kind in ("Market", "AlertRule")
        ]

    reported = Reported(rules=WatchedRules(rules), catalog=WatchedCatalog(markets, ["SIM"]))
    reported.count_refused(ResourceMetrics(registry))
    before = refused()
    del rules.found["wrong"]
    markets.found["nowhere"] = {"metadata": {"name": "nowhere", "uid": "nowhere", "generation": 1}, "spec": {}}

    assert [0, 1] == before
    assert [1, 0] == refused()


def test_who_does_not_lead_writes_nothing(rules: Kind, markets: Kind, log) -> None:
    """Whatever there is to tell."""
    assert writer(rules, markets, log, lambda: False).step()

    assert [] == rules.puts + markets.puts


def test_who_is_told_to_stop_writes_no_more(rules: Kind, markets: Kind, log) -> None:
    """Not even the rest of the step: whoever stops it waits for one call, however many objects there are."""

    def put(each, status):
        markets.put(each, status)
        statuses.stop()

    reported = Reported(
        rules=WatchedRules(rules), put_rule=rules.put, catalog=WatchedCatalog(markets, ["SIM"]), put_market=put
    )
    statuses = StatusWriter(reported, tally=BreachTally(), read_before=log.read_before, clock=ManualClock(NOW))
    statuses.step()

    assert (["sim"], []) == (markets.puts, rules.puts)


def test_a_status_that_is_refused_keeps_nobody_from_the_others(rules: Kind, markets: Kind, log, caplog) -> None:
    """It is tried again, and complained of once."""
    rules.error, rules.names = ClusterRefusedError("writing", "no"), ("good",)
    statuses = writer(rules, markets, log)

    assert statuses.step()
    assert statuses.step()
    assert ["good", "wrong", "good"] == rules.puts
    assert 1 == sum("cannot be kept" in record.message for record in caplog.records)


def test_an_api_server_that_is_away_is_waited_for(rules: Kind, markets: Kind, log) -> None:
    """Nothing more is asked of it in that step; the next one tells everything."""
    markets.error = ClusterUnavailableError("writing", "away")
    statuses = writer(rules, markets, log)

    assert not statuses.step()
    assert [] == rules.puts
    markets.error = None
    assert statuses.step()
    assert "status" in markets.found["sim"]
    assert {"good", "wrong"} == set(rules.puts)
