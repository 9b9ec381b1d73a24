"""Leadership by a Lease of Kubernetes: of all replicas that serve streams, the one that evaluates and notifies.

`electing` has the rules; here are the Lease itself and the threads that follow the rules. The only module of the
alerter that knows Kubernetes' client.
"""

from __future__ import annotations

import logging
import secrets
import socket
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

from kubernetes import client

from services.alerter.leadership.electing import (
    RELEASED_SECONDS,
    Candidate,
    FoundLease,
    LeaseRecord,
    LeaseStore,
    LeaseTimes,
)
from services.core.catalog.cluster import Cluster, cluster_errors
from services.core.clock import Clock, SystemClock
from services.core.errors import ClusterError, LeaseMovedError

_CONFLICT, _NOT_FOUND = 409, 404
_LONGEST_CALL_SECONDS = 2.0
_SHORTEST_CALL_SECONDS = 0.1

_log = logging.getLogger(__name__)


class KubernetesLease:
    """One Lease of coordination.k8s.io/v1, as a `LeaseStore`. The API server refuses a write on what has changed."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._api = client.CoordinationV1Api(cluster.api)
        self._namespace = cluster.namespace
        self._name = name

    def read(self, timeout_seconds: float) -> FoundLease | None:
        with cluster_errors(f"reading lease {self._name}"):
            try:
                lease = self._api.read_namespaced_lease(self._name, self._namespace, _request_timeout=timeout_seconds)
            except client.ApiException as error:
                if error.status == _NOT_FOUND:
                    return None
                raise
        return _found(lease)

    def write(self, record: LeaseRecord, found: FoundLease | None, timeout_seconds: float) -> FoundLease:
        fields = {
            "holder_identity": record.holder,
            "lease_duration_seconds": record.duration_seconds,
            "acquire_time": _exact(record.acquired),
            "renew_time": _exact(record.renewed),
            "lease_transitions": record.transitions,
        }
        lease: Any = found.version if found else client.V1Lease(metadata=client.V1ObjectMeta(name=self._name))
        # A copy of what was found: what else stands there, such as labels, is others' and stays.
        spec = (lease.spec or client.V1LeaseSpec()).model_copy(update=fields)
        lease = lease.model_copy(update={"spec": spec})
        call = {"namespace": self._namespace, "body": lease, "_request_timeout": timeout_seconds}
        with cluster_errors(f"writing lease {self._name}"):
            try:
                if found is None:
                    return _found(self._api.create_namespaced_lease(**call))
                return _found(self._api.replace_namespaced_lease(name=self._name, **call))
            except client.ApiException as error:
                if error.status in (_CONFLICT, _NOT_FOUND):
                    raise LeaseMovedError(f"lease {self._name} is not what it was any more") from error
                raise


class LeaseLeadership:
    """Leads while it holds a lease; the `Leadership` of a process that is one of several.

    One thread renews the lease or waits for it; another takes up the leader's duties and lays them down, also where the
    first one hangs in a call. `identity` names this process among all others, now and ever.
    """

    def __init__(
        self,
        store: LeaseStore,
        *,
        identity: str | None = None,
        clock: Clock | None = None,
        times: LeaseTimes | None = None,
    ) -> None:
        identity = identity or f"{socket.gethostname()}_{secrets.token_hex(4)}"
        self._clock = clock or SystemClock()
        self._candidate = Candidate(identity, store, self._clock, times)
        self._changed = threading.Condition()
        self._leaving = False
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._leader: str | None = None
        self._failing = False

    def holds(self) -> bool:
        """Whether this process leads, at this very moment."""
        return self._candidate.holds()

    def start(self, take_up: Callable[[], None], lay_down: Callable[[], None]) -> None:
        """Begin to stand for leadership; returns at once."""
        duties = threading.Thread(target=self._do_duties, args=(take_up, lay_down), name="tickwatch-duties")
        standing = threading.Thread(target=self._stand, name="tickwatch-lease")
        self._threads = [duties, standing]
        for thread in self._threads:
            thread.daemon = True
            thread.start()

    def stop(self) -> None:
        """Lay the duties down if this process leads, then give the lease back. Called again it does nothing."""
        threads, self._threads = self._threads, []
        if not threads:
            return
        duties, standing = threads
        with self._changed:
            self._leaving = True
            self._changed.notify_all()
        duties.join()
        # Until here the lease was renewed: nobody begins before the last step has ended.
        self._ended.set()
        standing.join()

    def _do_duties(self, take_up: Callable[[], None], lay_down: Callable[[], None]) -> None:
        term = 0
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._leaving or self._wanted() != term,  # noqa: B023 - it is called here and now
                    self._candidate.left_seconds if term else None,
                )
            if term and self._wanted() != term:
                _log.warning("this replica, %s, leads no more", self._candidate.identity)
                lay_down()
                term = 0
            if not term and (term := self._wanted()):
                _log.info("this replica, %s, leads", self._candidate.identity)
                take_up()
            if self._leaving and not term:
                return

    def _wanted(self) -> int:
        """Return the term whose duties should be done now, 0 for none."""
        return self._candidate.term if self._candidate.holds() and not self._leaving else 0

    def _stand(self) -> None:
        candidate = self._candidate
        while not self._ended.is_set():
            began = self._clock.elapsed()
            self._step()
            with self._changed:
                self._changed.notify_all()
            self._ended.wait(max(0.0, candidate.times.retry_seconds - (self._clock.elapsed() - began)))
        try:
            candidate.release(_LONGEST_CALL_SECONDS)
        except ClusterError as error:
            _log.warning("others wait until the lease expires, for it could not be given back: %s", error)

    def _step(self) -> None:
        candidate = self._candidate
        # A leader hears of a call that hangs no later than its lease is over.
        longest = candidate.left_seconds if candidate.holds() else _LONGEST_CALL_SECONDS
        try:
            candidate.step(min(_LONGEST_CALL_SECONDS, max(_SHORTEST_CALL_SECONDS, longest)))
        except ClusterError as error:
            if not self._failing:
                _log.warning("the lease can be neither kept nor taken: %s", error)
            self._failing = True
            return
        if self._failing:
            _log.info("the lease can be read and written again")
        self._failing = False
        if candidate.leader != self._leader:
            _log.info("%s holds the lease", candidate.leader or "nobody")
        self._leader = candidate.leader


def _found(lease: Any) -> FoundLease:  # noqa: ANN401 - the client's object
    spec = lease.spec or client.V1LeaseSpec()
    record = LeaseRecord(
        holder=spec.holder_identity or "",
        duration_seconds=spec.lease_duration_seconds or RELEASED_SECONDS,
        acquired=spec.acquire_time,
        renewed=spec.renew_time,
        transitions=spec.lease_transitions or 0,
    )
    return FoundLease(record, lease)


def _exact(when: datetime | None) -> datetime | None:
    """Return the time with microseconds: the client would leave out none at all, and the API server refuses that."""
    return when and when.replace(microsecond=when.microsecond or 1)
