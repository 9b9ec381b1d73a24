"""The Kubernetes API as far as Tickwatch speaks it. With the alerter's lease, the only place that knows its client.

Importing it costs half a second, so it is imported by those alone whom the settings send here.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import urllib3
from kubernetes import client, config

from services.core.errors import ClusterRefusedError, ClusterUnavailableError, InvalidSettingError

_POD_FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_LATER = {408, 409, 429}
_SERVER_ERROR = 500

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
        return f"{error.status} {error.reason}".strip()
