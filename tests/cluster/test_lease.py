"""Several alerters, one voice: a real Lease decides who evaluates, and subscribers notice nothing of the change."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import threading
import time
from dataclasses import dataclass, field

import pytest
import tickwatch

from tests.support import cluster, commands
from tests.support.buckets import own_bucket, store_url
from tests.support.needs import require_influxdb
from tests.support.replicas import Breaches, Gate, Replica, shared_store, starting, wait_for_leader, write_rules

LEASE = "alerter"
MOST_SECONDS = 15.0
"""How long nobody may evaluate after a leader has gone without a word."""

on_both_stores = pytest.mark.parametrize("where", ["sqlite", "influxdb"], indirect=True)


@pytest.fixture(scope="module")
def namespace():
    """A namespace for these tests alone."""
    with cluster.a_namespace() as name:
        yield name


@pytest.fixture
def lease(namespace):
    """The name of the Lease; gone afterwards."""
    yield LEASE
    cluster.kubectl("-n", namespace, "delete", "lease", LEASE, "--ignore-not-found")


@pytest.fixture
def where(request, tmp_path):
    """Which store the replicas share, as settings: SQLite, or as a parameter InfluxDB."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield {"TICKWATCH_STORE": f"sqlite:{tmp_path}/tickwatch.db"}
        return
    influxdb = require_influxdb()
    with own_bucket(influxdb) as bucket:
        yield {"TICKWATCH_STORE": store_url(influxdb, bucket), "TICKWATCH_INFLUXDB__TOKEN": influxdb.token}


@pytest.fixture
def settings(tmp_path, namespace, lease, where):
    """Settings that replicas share."""
    return where | {
        "TICKWATCH_ALERTER__RULES": str(write_rules(tmp_path)),
        "TICKWATCH_ALERTER__LEASE": lease,
        "TICKWATCH_ALERTER__POLL_INTERVAL_SECONDS": "0.2",
        "TICKWATCH_KUBERNETES__NAMESPACE": namespace,
    }


@pytest.fixture
def store(settings):
    """The store that they share."""
    with shared_store(settings) as opened:
        yield opened


@pytest.fixture
def start(tmp_path, settings):
    """Start a replica by name."""
    with starting(tmp_path, settings) as started:
        yield started


@dataclass
class Heard:
    """What a subscriber has heard."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    """It has its snapshot: whatever is logged from now on comes as an event."""
    times: dict[str, list[float]] = field(default_factory=dict)
    """When it heard of each metric's breach, by the clock of `time.monotonic`."""
    ids: list[str] = field(default_factory=list)


async def follow(address: str, heard: Heard) -> None:
    """Note what is heard at an address, until cancelled."""
    async with (
        tickwatch.AlertClient(address, timeout_seconds=60) as client,
        contextlib.aclosing(client.watch_breaches(include_late=True)) as events,
    ):
        async for event in events:
            heard.begun.set()
            if isinstance(event, tickwatch.Event):
                heard.ids.append(event.id)
                heard.times.setdefault(event.metric, []).append(time.monotonic())


@contextlib.asynccontextmanager
async def following(*addresses: str):
    """Follow at each address, as long as the context lasts; yields what is heard there, once all have begun."""
    found = [Heard() for _ in addresses]
    tasks = [asyncio.create_task(follow(address, each)) for address, each in zip(addresses, found, strict=True)]
    try:
        async with asyncio.timeout(60):
            await asyncio.gather(*(each.begun.wait() for each in found))
        yield found
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            assert task.cancelled() or task.result() is None


async def soon(condition) -> None:
    """Wait until this holds, for a deadline that only a hang reaches."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  it is what other threads and processes have done
            await asyncio.sleep(0.05)


def holder(namespace: str) -> dict:
    """Return what the Lease says."""
    return cluster.get(namespace, "lease", LEASE)["spec"]


async def change_of_leader(store, leader: Replica, other: Replica, go) -> float:
    """Write breaches all the time; let the leader go; return for how many seconds nobody evaluated.

    Whoever subscribes at the other, or at both, hears of every breach once and in one order.
    """
    breaches = Breaches(store)
    both = f"ipv4:{leader.address},{other.address}"
    async with following(other.address, both) as (at_other, at_both):
        heard, heard_by_both = at_other.times, at_both.times
        with breaches.writing():
            await soon(lambda: len(heard) >= 5 and len(heard_by_both) >= 5)
            gone = time.monotonic()
            await asyncio.to_thread(go)
            await asyncio.to_thread(commands.until, lambda: time.sleep(0.1) or other.leads(), bool)
            taken = time.monotonic()
            await soon(lambda: any(breaches.written.get(metric, 0) > taken + 3 for metric in heard))
        with contextlib.suppress(TimeoutError):  # what is missing is told below
            await soon(lambda: heard.keys() >= breaches.written.keys() <= heard_by_both.keys())

    # Each that was never heard of, with the seconds from the leader's end to its writing.
    lost = [
        {name: when - gone for name, when in breaches.written.items() if name not in each}
        for each in (heard, heard_by_both)
    ]
    assert [{}, {}] == lost
    assert sorted(breaches.written) == sorted(heard) == sorted(heard_by_both)
    assert len(set(at_other.ids)) == len(at_other.ids) == len(breaches.written)
    assert at_both.ids == at_other.ids
    times = sorted(when for found in heard.values() for when in found if when > gone)
    # The longest silence is the change: a breach is written four times a second.
    silence = max(later - earlier for earlier, later in zip([gone, *times], times, strict=False))
    logging.getLogger(__name__).info("nobody evaluated for %.1f s", silence)
    return silence


@contextlib.asynccontextmanager
async def never_two_leaders(*replicas: Replica):
    """Look all the time, as long as the context lasts, whether more than one of them leads; then the test fails."""
    ended = threading.Event()

    def look() -> int:
        count = 0
        while not ended.wait(0.1):
            leaders = [replica.name for replica in replicas if replica.leads()]
            assert len(leaders) <= 1, f"{leaders} lead at the same time"
            count += 1
        return count

    looking = asyncio.create_task(asyncio.to_thread(look))
    try:
        yield
    finally:
        ended.set()  # also where the test has failed: nobody ends a thread but itself
        count = await looking
    assert count > 20, "hardly ever looked"


@on_both_stores
async def test_another_goes_on_when_the_leader_is_killed(store, start, namespace):
    """SIGKILL: within 15 s another evaluates, nothing is lost, and nothing is told twice."""
    first, second = start("first"), start("second")
    leader = wait_for_leader(first, second)
    other = second if leader is first else first

    silence = await change_of_leader(store, leader, other, lambda: leader.signal(signal.SIGKILL))

    assert silence < MOST_SECONDS
    assert other.leads()
    assert other.identity == holder(namespace)["holderIdentity"]
    assert 1 == holder(namespace)["leaseTransitions"]


async def test_a_leader_that_is_stopped_hands_over_at_once(store, start, namespace):
    """SIGTERM: the lease is given back once the last step has ended; nobody waits for it to expire."""
    first, second = start("first"), start("second")
    leader = wait_for_leader(first, second)
    other = second if leader is first else first

    silence = await change_of_leader(store, leader, other, lambda: leader.signal(signal.SIGTERM))

    assert silence < 8.0, "the lease has not been given back"
    assert 0 == leader.close()
    assert other.leads()


@on_both_stores
async def test_a_leader_that_cannot_reach_the_api_server_stops_before_another_begins(store, start, tmp_path):
    """It hears nothing, neither yes nor no: by its own clock it stops, and only then does another lead."""
    gate = Gate(tmp_path)
    try:
        first = start("first", KUBECONFIG=str(gate.kubeconfig))
        wait_for_leader(first)
        second = start("second")

        async with never_two_leaders(first, second):
            silence = await change_of_leader(store, first, second, gate.shut)

        assert silence < MOST_SECONDS
        assert second.leads()
        assert not first.leads()
        assert "leads no more" in first.log
        assert "the lease can be neither kept nor taken: writing lease alerter" in first.log
        assert first.process.poll() is None
    finally:
        gate.close()


async def test_a_leader_that_was_asleep_does_nothing_when_it_wakes(store, start):
    """SIGSTOP and SIGCONT: it finds its time over before it writes anything, and the log holds every breach once."""
    first = start("first")
    wait_for_leader(first)
    second = start("second")

    def sleep() -> None:
        first.signal(signal.SIGSTOP)
        commands.until(lambda: time.sleep(0.1) or second.leads(), bool)
        first.signal(signal.SIGCONT)

    await change_of_leader(store, first, second, sleep)

    assert second.leads()
    assert not first.leads()


def test_a_lease_that_is_taken_is_laid_down_at_once(start, namespace):
    """Whoever writes another holder into the Lease decides; the replicas wait until that one has expired."""
    first = start("first")
    wait_for_leader(first)
    spec = {"holderIdentity": "somebody", "leaseDurationSeconds": 4, "renewTime": "2000-01-01T00:00:00.000000Z"}
    patch = json.dumps({"spec": spec})

    # Between what kubectl reads and what it writes the leader may renew; then the patch is on top of that.
    cluster.kubectl("-n", namespace, "patch", "lease", LEASE, "--type=merge", "-p", patch)

    commands.until(lambda: time.sleep(0.1) or "leads no more" in first.log, bool)
    assert "somebody holds the lease" in first.log
    wait_for_leader(first)
    assert first.identity == holder(namespace)["holderIdentity"]


def test_every_replica_serves_and_one_says_that_it_leads(store, start):
    """All of them answer; of the metric `tickwatch_leader` the sum is 1, and the logs say who."""
    replicas = [start(name) for name in ("first", "second", "third")]
    leader = wait_for_leader(*replicas)
    breaches = Breaches(store)
    metric = breaches.write()

    async def listed(replica: Replica) -> list[str]:
        async with tickwatch.AlertClient(replica.address) as client:
            try:
                return [event.metric async for event in client.list_breaches()]
            except tickwatch.Error:
                return []

    for replica in replicas:
        commands.until(lambda replica=replica: asyncio.run(listed(replica)), lambda found: found == [metric])
    assert [replica is leader for replica in replicas] == [replica.leads() for replica in replicas]
    for replica in replicas:
        commands.until(lambda replica=replica: replica.log, lambda log: f"{leader.identity} holds the lease" in log)


def test_a_replica_that_may_not_use_the_lease_says_so(start, namespace, tmp_path):
    """It serves all the same, leads never, and its log has the API server's own words."""
    user = f"system:serviceaccount:{namespace}:nobody"
    cluster.kubectl("-n", namespace, "create", "serviceaccount", "nobody")
    token = cluster.kubectl("-n", namespace, "create", "token", "nobody").strip()
    kubeconfig = cluster.write_kubeconfig(tmp_path / "nobody", token=token)

    replica = start("nobody", KUBECONFIG=str(kubeconfig))

    words = f'leases.coordination.k8s.io "{LEASE}" is forbidden: User "{user}" cannot get resource "leases"'
    commands.until(lambda: time.sleep(0.1) or replica.log, lambda log: words in log)
    assert not replica.leads()
