"""The Kubernetes API as far as Tickwatch speaks it. With the alerter's lease, the only place that knows its client.

Importing it costs half a second, so it is imported by those alone whom the settings send here.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Collection, Hashable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import urllib3
from kubernetes import client, config, watch

from services.core.catalog.base import Catalog, Market
from services.core.catalog.resources import (
    GROUP,
    MARKETS,
    VERSION,
    Object,
    accepted_markets,
    judge_markets,
    name_of,
)
from services.core.errors import ClusterError, ClusterRefusedError, ClusterUnavailableError, InvalidSettingError

_POD_FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_LATER = {408, 409, 429}
_NOT_FOUND, _EXPIRED, _SERVER_ERROR = 404, 410, 500

_CALL_SECONDS = 5.0
_WATCH_SECONDS = 60
_PAUSE_SECONDS = 2.0
_PAGE_OBJECTS = 500

_log = logging.getLogger(__name__)


class Cluster:
    """A connection to the API server, and the namespace in which ours is. Any thread may use it.

    `kubeconfig` names files as KUBECONFIG does; None: what Kubernetes gives every pod, elsewhere kubectl's own file.
    `namespace` None: that of the pod, elsewhere of the file's context. Raises InvalidSettingError.
    """

    def __init__(self, *, kubeconfig: str | None = None, namespace: str | None = None) -> None:
        configuration = client.Configuration()
        default = "default"
        try:
            if kubeconfig is None and (_POD_FOLDER / "token").exists():
                config.load_incluster_config(client_configuration=configuration)
                default = (_POD_FOLDER / "namespace").read_text(encoding="utf-8").strip()
            else:
                config.load_kube_config(
                    config_file=kubeconfig, client_configuration=configuration, persist_config=False
                )
                _, context = config.list_kube_config_contexts(config_file=kubeconfig)
                default = context["context"].get("namespace") or default
        except (config.ConfigException, OSError) as error:
            raise InvalidSettingError(
                "kubernetes.kubeconfig", f"no cluster is known: {error}", "run in a pod, or set KUBECONFIG"
            ) from error
        # Each caller has its own idea of when to try again.
        configuration.retries = False
        self.namespace = namespace or default
        self.api = client.ApiClient(configuration)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give up the connections."""
        self.api.close()
        self.api.rest_client.pool_manager.clear()


class Resources:
    """The objects of one of our kinds in the cluster's namespace. Methods raise ClusterError."""

    def __init__(self, cluster: Cluster, plural: str) -> None:
        self._api = client.CustomObjectsApi(cluster.api)
        self._where = {"group": GROUP, "version": VERSION, "namespace": cluster.namespace, "plural": plural}
        self._stream: watch.Watch | None = None
        self.namespace = cluster.namespace
        self.plural = plural

    def list(self) -> tuple[list[Object], str]:
        """Return all objects, and the version to watch from."""
        found: list[Object] = []
        page: dict[str, Any] = {"limit": _PAGE_OBJECTS, "_request_timeout": _CALL_SECONDS}
        while True:
            with cluster_errors(f"listing {self.plural} in {self._where['namespace']}"):
                answer = self._api.list_namespaced_custom_object(**self._where, **page)
            found += answer["items"]
            page["_continue"] = answer["metadata"].get("continue")
            if not page["_continue"]:
                return found, str(answer["metadata"]["resourceVersion"])

    def watch(self, version: str) -> Iterator[tuple[str, Object]]:
        """Yield each change after a version, as ADDED, MODIFIED, DELETED or BOOKMARK with its object.

        It ends after a minute, or with `end_watch`. A version that is too old is an error as others are.
        """
        self._stream = watch.Watch()
        # Should the connection die unseen, the read's own limit ends it.
        limits = {"timeout_seconds": _WATCH_SECONDS, "_request_timeout": (_CALL_SECONDS, _WATCH_SECONDS + 15)}
        with cluster_errors(f"watching {self.plural} in {self._where['namespace']}"):
            for event in self._stream.stream(
                self._api.list_namespaced_custom_object,
                **self._where,
                **limits,
                resource_version=version,
                allow_watch_bookmarks=True,
            ):
                yield event["type"], event["object"]

    def end_watch(self) -> None:
        """Have a watch end at once; from any thread."""
        if self._stream is not None:
            self._stream.stop()

    def put_status(self, each: Object, status: Mapping[str, Any]) -> None:
        """Replace an object's status; one that has been deleted meanwhile is left alone."""
        gone = dict.fromkeys((each.get("status") or {}).keys() - status.keys())
        with cluster_errors(f"writing the status of {name_of(each)} in {self.plural}"):
            try:
                self._api.patch_namespaced_custom_object_status(
                    **self._where,
                    name=name_of(each),
                    body={"status": {**gone, **status}},
                    _content_type="application/merge-patch+json",
                    _request_timeout=_CALL_SECONDS,
                )
            except client.ApiException as error:
                if error.status != _NOT_FOUND:
                    raise


class ClusterCatalog(Catalog):
    """Markets as they are declared in the cluster when they are read; `exchanges` are those that there are."""

    def __init__(self, cluster: Cluster, exchanges: Collection[str]) -> None:
        self._markets = Resources(cluster, MARKETS)
        self._exchanges = exchanges
        self._last: tuple[Market, ...] = ()

    def read(self) -> tuple[Market, ...]:
        """Return the accepted markets; those that are not are logged.

        Where the API server does not answer, what it last said holds. Raises ClusterError where it never said anything,
        InvalidSettingError where no market is accepted.
        """
        try:
            objects, _ = self._markets.list()
        except ClusterUnavailableError as error:
            if not self._last:
                raise
            _log.warning("the markets stay as they were: %s", error)
            return self._last
        verdicts = judge_markets(objects, self._exchanges)
        for name, verdict in verdicts.items():
            if verdict.value is None:
                _log.warning("market %s is not accepted: %s", name, verdict.message)
        self._last = accepted_markets(verdicts.values())
        if not self._last:
            problem = f"no Market in namespace {self._markets.namespace} is accepted"
            raise InvalidSettingError("catalog", problem, "see kubectl get markets -o wide")
        return self._last


class WatchedResources:
    """A thread that keeps the objects of one kind as they are; from any thread they are read without waiting."""

    def __init__(self, cluster: Cluster, plural: str) -> None:
        self.resources = Resources(cluster, plural)
        self._objects: dict[str, Object] = {}
        self._stamp: Hashable = ()
        self._version: str | None = None
        self._failing = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=f"tickwatch-{plural}", daemon=True)

    def __enter__(self) -> Self:
        """List the objects and begin to watch; raises ClusterError where they cannot be listed."""
        self._list()
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        while self._thread.is_alive():
            # Again and again: a watch that is just about to begin does not hear of it.
            self.resources.end_watch()
            self._thread.join(0.1)

    def objects(self) -> tuple[Object, ...]:
        """Return the objects as last heard of."""
        return tuple(self._objects.values())

    def stamp(self) -> Hashable:
        """Return another value whenever what objects declare has changed; their status does not count."""
        return self._stamp

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                if self._version is None:
                    self._list()
                self._watch(self._version or "")
            except ClusterError as error:
                if self._stop.is_set():
                    return
                self._version = None
                if getattr(error.__cause__, "status", None) == _EXPIRED:
                    continue
                if not self._failing:
                    _log.warning("%s stay as they were: %s", self.resources.plural, error)
                self._failing = True
                self._stop.wait(_PAUSE_SECONDS)

    def _list(self) -> None:
        found, self._version = self.resources.list()
        if self._failing:
            _log.info("%s are heard of again", self.resources.plural)
        self._failing = False
        self._keep({name_of(each): each for each in found})

    def _watch(self, version: str) -> None:
        for kind, each in self.resources.watch(version):
            self._version = str(each["metadata"]["resourceVersion"])
            if kind == "DELETED":
                self._keep({name: other for name, other in self._objects.items() if name != name_of(each)})
            elif kind != "BOOKMARK":
                self._keep({**self._objects, name_of(each): each})
            if self._stop.is_set():
                return

    def _keep(self, objects: dict[str, Object]) -> None:
        self._objects = objects
        self._stamp = frozenset((each["metadata"]["uid"], each["metadata"]["generation"]) for each in objects.values())


@contextmanager
def cluster_errors(doing: str) -> Iterator[None]:
    """Turn what the client raises into ClusterError, whose text begins with what was being done."""
    try:
        yield
    except client.ApiException as error:
        later = not error.status or error.status >= _SERVER_ERROR or error.status in _LATER
        raise (ClusterUnavailableError if later else ClusterRefusedError)(doing, _words(error)) from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise ClusterUnavailableError(doing, str(error)) from error


def _words(error: Any) -> str:  # noqa: ANN401 - the client's exception
    """Return the API server's own words, else the status."""
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        if error.status == _NOT_FOUND:
            return "the cluster does not know this kind: apply charts/tickwatch/crds"
        return f"{error.status} {error.reason}".strip()
