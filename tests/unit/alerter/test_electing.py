"""Who leads: a lease is taken, kept, lost and given back by elapsed time alone."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest

from services.alerter.leadership.electing import RELEASED_SECONDS, Candidate, FoundLease, LeaseRecord, LeaseTimes
from services.core.clock import ManualClock
from services.core.errors import ClusterUnavailableError, LeaseMovedError

TIMES = LeaseTimes(duration_seconds=8, renew_deadline_seconds=5, retry_seconds=1)
CALL = 2.0


class SharedLease:
    """A lease in memory whose writes compare and swap, as the API server's do."""

    def __init__(self) -> None:
        self.found: FoundLease | None = None
        self.version = 0

    def put(self, record: LeaseRecord) -> FoundLease:
        """Write, whoever has written before."""
        self.version += 1
        self.found = FoundLease(record, self.version)
        return self.found


class LeaseAccess:
    """One replica's way to the lease: `away` fails every call, each call takes `seconds`, an answer may be `lost`."""

    def __init__(self, lease: SharedLease, clock: ManualClock) -> None:
        self._lease = lease
        self._clock = clock
        self.away = False
        self.lost = False
        self.seconds = 0.0
        self.calls = 0

    def read(self, timeout_seconds: float) -> FoundLease | None:
        self._call(timeout_seconds)
        return self._lease.found

    def write(self, record: LeaseRecord, found: FoundLease | None, timeout_seconds: float) -> FoundLease:
        self._call(timeout_seconds)
        if found != self._lease.found:
            raise LeaseMovedError("moved")
        written = self._lease.put(record)
        if self.lost:
            raise ClusterUnavailableError("writing", "the answer was lost")
        return written

    def _call(self, timeout_seconds: float) -> None:
        self.calls += 1
        self._clock.advance(min(self.seconds, timeout_seconds))
        if self.away or self.seconds > timeout_seconds:
            raise ClusterUnavailableError("calling", "away")


class Replica:
    """A candidate, its access to the lease, and a clock of its own whose time of day may be anything."""

    def __init__(self, name: str, lease: SharedLease, now: float = 1e9) -> None:
        self.clock = ManualClock(now)
        self.access = LeaseAccess(lease, self.clock)
        self.candidate = Candidate(name, self.access, self.clock, TIMES)

    def step(self) -> bool:
        """Step once, whether or not that can be done; return whether it leads."""
        with contextlib.suppress(ClusterUnavailableError):
            self.candidate.step(CALL)
        return self.candidate.holds()


def pass_time(seconds: float, *replicas: Replica) -> None:
    """Let time pass for all replicas alike."""
    for replica in replicas:
        replica.clock.advance(seconds)


@pytest.fixture
def lease() -> SharedLease:
    """Return a lease that nobody has made yet."""
    return SharedLease()


def test_one_of_several_leads(lease: SharedLease) -> None:
    """The first to ask; the others wait for as long as it renews."""
    a, b = Replica("a", lease), Replica("b", lease)

    assert a.step()
    for _ in range(60):
        assert not b.step()
        assert a.step()
        pass_time(1, a, b)
    assert "a" == a.candidate.leader == b.candidate.leader
    assert 1 == a.candidate.term


def test_a_leader_that_dies_is_replaced_in_time(lease: SharedLease) -> None:
    """After the duration, counted from the last renewal that the other saw, and a look each second: at most 10 s."""
    a, b = Replica("a", lease), Replica("b", lease)
    a.step()
    pass_time(0.9, a, b)
    assert not b.step()

    waited = 0
    while not b.step():
        pass_time(1, b)
        waited += 1
    assert 8 == waited
    assert LeaseRecord("b", 8, transitions=1) == replace(lease.found.record, acquired=None, renewed=None)


def test_a_leader_without_the_api_server_stops_before_another_begins(lease: SharedLease) -> None:
    """At every moment at most one leads, whenever the API server went away and however long calls take."""
    for tenth in range(10):
        for seconds in (0.0, 0.4, 1.9, 5.0):
            lease.found = None
            a, b = Replica("a", lease), Replica("b", lease)
            assert a.step()
            assert not b.step()
            pass_time(tenth / 10, a, b)
            a.access.away, a.access.seconds = True, seconds
            alone = False
            for _ in range(200):
                pass_time(0.1, a, b)
                if a.clock.elapsed() <= b.clock.elapsed():
                    a.step()
                b.step()
                assert not (a.candidate.holds() and b.candidate.holds())
                alone |= not a.candidate.holds() and not b.candidate.holds()
                b.clock.advance(max(0.0, a.clock.elapsed() - b.clock.elapsed()))
            assert b.candidate.holds()
            assert alone


def test_a_slow_renewal_counts_from_when_it_was_asked_for(lease: SharedLease) -> None:
    """What others see begins at the earliest then."""
    a = Replica("a", lease)
    a.access.seconds = 1.5

    assert a.step()
    # Read and written, 1.5 s each; only the writing counts.
    assert pytest.approx(5 - 1.5) == a.candidate.left_seconds


def test_an_answer_that_was_lost_is_a_renewal_of_nothing(lease: SharedLease) -> None:
    """The lease says that this replica holds it, but it only leads once it knows."""
    a = Replica("a", lease)
    a.access.lost = True

    assert not a.step()
    assert "a" == lease.found.record.holder
    a.access.lost = False
    assert a.step()


def test_the_time_of_day_does_not_matter(lease: SharedLease) -> None:
    """A replica whose clock is a day ahead neither takes a lease that is held, nor waits longer for one that is not."""
    a, b = Replica("a", lease), Replica("b", lease, now=1e9 + 86_400)
    assert a.step()

    for _ in range(30):
        pass_time(1, a, b)
        b.clock.set(b.clock.now() + 3600)
        assert a.step()
        assert not b.step()
    pass_time(7.9, b)
    assert not b.step()
    pass_time(0.2, b)
    assert b.step()


def test_a_lease_that_is_found_is_given_its_time(lease: SharedLease) -> None:
    """Its times may be long past: that may be somebody's clock. A replica that has just come waits like the others."""
    lease.put(LeaseRecord("gone", 15, transitions=4))
    a = Replica("a", lease)

    assert not a.step()
    pass_time(14.9, a)
    assert not a.step()
    pass_time(0.2, a)
    assert a.step()
    assert 5 == lease.found.record.transitions


def test_a_lease_given_back_is_taken_at_once(lease: SharedLease) -> None:
    """The next look is enough; whoever gave it back leads no more."""
    a, b = Replica("a", lease), Replica("b", lease)
    a.step()
    b.step()
    a.candidate.release(CALL)

    assert not a.candidate.holds()
    assert LeaseRecord("", RELEASED_SECONDS) == replace(lease.found.record, acquired=None, renewed=None)
    assert b.step()


def test_who_does_not_lead_gives_nothing_back(lease: SharedLease) -> None:
    """Neither a replica that waits, nor one whose lease was taken while it was away."""
    a, b = Replica("a", lease), Replica("b", lease)
    a.step()
    b.step()
    b.candidate.release(CALL)
    assert "a" == lease.found.record.holder
    pass_time(9, b)
    b.step()

    a.candidate.release(CALL)
    assert "b" == lease.found.record.holder


def test_a_lease_that_was_taken_is_lost_at_once(lease: SharedLease) -> None:
    """However much of its time is left: somebody has decided so."""
    a = Replica("a", lease)
    a.step()
    lease.put(LeaseRecord("b", 8))

    assert not a.step()
    assert "b" == a.candidate.leader


def test_a_lease_that_somebody_else_touched_is_still_held(lease: SharedLease) -> None:
    """As by `kubectl annotate`: the holder is the same, so it renews what is there now."""
    a = Replica("a", lease)
    a.step()
    lease.put(lease.found.record)

    assert a.step()
    assert 1 == a.candidate.term


def test_a_lease_that_was_deleted_goes_on(lease: SharedLease) -> None:
    """Its holder makes it anew; the others do not, until the holder would have stopped."""
    a, b = Replica("a", lease), Replica("b", lease)
    a.step()
    b.step()
    lease.found = None

    assert not b.step()
    assert a.step()
    lease.found = None
    pass_time(8.1, a, b)
    assert not a.candidate.holds()
    assert b.step()


def test_a_leader_that_comes_back_in_time_begins_a_new_term(lease: SharedLease) -> None:
    """Nobody took the lease, but what it did while it led has been laid down."""
    a = Replica("a", lease)
    a.step()
    pass_time(5.1, a)
    assert not a.candidate.holds()

    assert a.step()
    assert 2 == a.candidate.term
    assert 0 == lease.found.record.transitions


def test_of_two_that_see_it_free_one_gets_it(lease: SharedLease) -> None:
    """Both have read it; the write of the second is refused, and it waits from then on."""
    a, b = Replica("a", lease), Replica("b", lease)
    lease.put(LeaseRecord())
    b.access.read = lambda _seconds, found=lease.found: found

    assert a.step()
    assert not b.step()
    assert "a" == lease.found.record.holder


@pytest.mark.parametrize("times", [(5, 5, 1), (8, 1, 1), (8, 5, 0)])
def test_times_that_could_let_two_lead_are_refused(times: tuple[int, float, float]) -> None:
    """A holder must stop before others begin, and try more than once before that."""
    with pytest.raises(ValueError, match="retry < renew deadline < duration"):
        LeaseTimes(*times)


def test_the_times_in_use_leave_room_for_what_is_under_way():
    """A leader that stops has the time of a call to end in before another begins, which is within 10 s of its death."""
    times = LeaseTimes()

    assert times.duration_seconds - times.renew_deadline_seconds > CALL
    assert times.renew_deadline_seconds > times.retry_seconds + CALL, "one call that hangs costs no leadership"
    assert times.duration_seconds + 2 * times.retry_seconds <= 10
