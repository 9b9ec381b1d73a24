"""From settings to the arguments that roles are built with; shared by the command line and the one process.

Roles take plain arguments and never see the settings; this is the only place that knows both.
"""

from __future__ import annotations

import hashlib
import logging
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Literal

from services.collector.exchanges.base import ExchangeOptions
from services.core.alerter_settings import WebhookSettings
from services.core.catalog.base import DEFAULT_MARKETS, Catalog, FixedCatalog
from services.core.errors import InvalidSettingError
from services.core.settings import IN_CLUSTER, Settings
from services.core.store import opening
from services.core.store.base import MetricStore

if TYPE_CHECKING:  # a collector's run need not load what only the alerter uses
    from services.alerter.leadership.leading import Leadership
    from services.alerter.notifying.webhooks import Receiver
    from services.alerter.rules.status_writing import Reported
    from services.core.catalog.cluster import Cluster
    from services.core.catalog.rule_source import RuleSource
    from services.core.rpc.serving import Serving


def open_store(settings: Settings) -> MetricStore:
    """Open the store that the settings name."""
    return opening.open_store(
        settings.store, token=settings.store_token, timeout_seconds=settings.influxdb.timeout_seconds
    )


def open_catalog(settings: Settings) -> Catalog:
    """Open the catalog that the settings name, or the built-in one."""
    if settings.catalog is None:
        return FixedCatalog(*DEFAULT_MARKETS)
    from services.collector.exchanges.registry import EXCHANGE_NAMES

    if settings.catalog == IN_CLUSTER:
        from services.core.catalog.cluster import ClusterCatalog

        return ClusterCatalog(open_cluster(settings), EXCHANGE_NAMES)
    from services.core.catalog.file import FileCatalog

    return FileCatalog(settings.catalog, exchanges=EXCHANGE_NAMES)


def open_cluster(settings: Settings) -> Cluster:
    """Open the cluster that the settings name, or the one that this pod is in."""
    from services.core.catalog.cluster import Cluster

    return Cluster(kubeconfig=settings.kubernetes.kubeconfig, namespace=settings.kubernetes.namespace)


@contextmanager
def cluster_side(settings: Settings) -> Iterator[dict[str, Any]]:
    """Give those arguments of `alerter_arguments` that come from a cluster, as long as the context lasts.

    Raises InvalidSettingError where no cluster is known, ClusterError where it cannot be read.
    """
    alerter = settings.alerter
    if alerter.lease is None and IN_CLUSTER not in (settings.catalog, alerter.rules):
        yield {}
        return
    from services.alerter.leadership.lease import KubernetesLease, LeaseLeadership
    from services.alerter.rules.status_writing import Reported
    from services.collector.exchanges.registry import EXCHANGE_NAMES
    from services.core.catalog.cluster import WatchedResources
    from services.core.catalog.resources import ALERT_RULES, MARKETS
    from services.core.catalog.watched import WatchedCatalog, WatchedRules

    found: dict[str, Any] = {}
    reported: dict[str, Any] = {}
    with ExitStack() as stack:
        cluster = stack.enter_context(open_cluster(settings))
        if settings.catalog == IN_CLUSTER:
            markets = stack.enter_context(WatchedResources(cluster, MARKETS))
            found["catalog"] = WatchedCatalog(markets, EXCHANGE_NAMES)
            reported |= {"catalog": found["catalog"], "put_market": markets.resources.put_status}
        if alerter.rules == IN_CLUSTER:
            rules = stack.enter_context(WatchedResources(cluster, ALERT_RULES))
            found["rules"] = WatchedRules(rules)
            reported |= {"rules": found["rules"], "put_rule": rules.resources.put_status}
        if reported:
            found["reported"] = Reported(**reported)
        if alerter.lease is not None:
            found["leadership"] = LeaseLeadership(KubernetesLease(cluster, alerter.lease))
        yield found


def exchange_options(settings: Settings) -> dict[str, ExchangeOptions]:
    """How each exchange is reached; what is not set keeps the exchange's own default."""
    return {name: ExchangeOptions(**options.given()) for name, options in settings.exchanges.items()}


def collector_arguments(settings: Settings) -> dict[str, Any]:
    """What `services.collector.job` takes."""
    return {
        "store_url": settings.store,
        "store_token": settings.store_token,
        "store_timeout_seconds": settings.influxdb.timeout_seconds,
        "catalog": open_catalog(settings),
        "exchange_options": exchange_options(settings),
        "shard": (settings.collector.shard, settings.collector.shards),
    }


def query_arguments(settings: Settings, listen: str | None = None, *, reuse_port: bool = False) -> dict[str, Any]:
    """What `services.query.server.open_query_server` takes; `reuse_port` where several processes listen there."""
    return {
        "serving": _serving(settings, "query", listen or settings.query.listen, reuse_port=reuse_port),
        "poll_interval_seconds": settings.query.poll_interval_seconds,
    }


def alerter_arguments(
    settings: Settings,
    *,
    catalog: Catalog | None = None,
    rules: RuleSource | None = None,
    leadership: Leadership | None = None,
    reported: Reported | None = None,
    listen: str | None = None,
) -> dict[str, Any]:
    """What `services.alerter.server.open_alerter` takes; `catalog` and `rules` instead of the settings' own.

    Raises InvalidSettingError for a rules file or a webhook's secret that is no good.
    """
    from services.alerter.notifying.heartbeat import Switch
    from services.alerter.rules.rulebook import RuleBook
    from services.core.catalog.rule_source import FileRules, FixedRules
    from services.core.catalog.rules_file import read_rules
    from services.core.clock import SystemClock

    alerter, clock = settings.alerter, SystemClock()
    if rules is None and alerter.rules == IN_CLUSTER:
        raise InvalidSettingError(
            "alerter.rules",
            "resources of a cluster are read by `tickwatch alerter` alone",
            "name a file, or leave it out",
        )
    if rules is None:
        rules = FixedRules() if alerter.rules is None else FileRules(alerter.rules, read_rules)
    heartbeat = alerter.heartbeat
    return {
        "rules": RuleBook(rules, catalog or open_catalog(settings), clock),
        "receivers": [_receiver(name, webhook) for name, webhook in sorted(alerter.webhooks.items())],
        "switch": heartbeat.url
        and Switch(heartbeat.url.reveal(), heartbeat.interval_seconds, heartbeat.method.upper()),
        "clock": clock,
        "leadership": leadership,
        "reported": reported,
        "serving": _serving(settings, "alerter", listen or alerter.listen),
        "poll_interval_seconds": alerter.poll_interval_seconds,
        "missing_grace_seconds": alerter.grace_seconds,
    }


def _receiver(name: str, webhook: WebhookSettings) -> Receiver:
    from services.alerter.notifying.webhooks import Receiver
    from services.core.breaches import Severity

    return Receiver(
        name,
        webhook.url.reveal(),
        webhook.signing_secret(name),
        min_severity=Severity[webhook.min_severity.upper()],
        rules=webhook.rules,
        episodes_only=webhook.delivery == "episodes",
        timeout_seconds=webhook.timeout_seconds,
        retry_seconds=webhook.retry_seconds,
    )


def _serving(
    settings: Settings, role: Literal["query", "alerter"], listen: str, *, reuse_port: bool = False
) -> Serving:
    """Return how a role that listens there serves; raises InvalidSettingError as `protection` does.

    Page tokens are keyed by what all servers of one store share, so that any of them takes another's.
    """
    from services.core.rpc.serving import Serving
    from services.securing import protection

    own = settings.query if role == "query" else settings.alerter
    return Serving(
        listen=listen,
        role=role,
        drain_seconds=own.drain_seconds,
        max_streams=own.max_streams,
        reflection=own.reflection,
        reuse_port=reuse_port,
        protection=protection(settings, role, listen),
        page_token_key=_page_token_key(settings),
    )


def _page_token_key(settings: Settings) -> bytes:
    """Return a key that all servers of one store share and nobody else knows, as far as the store has a secret."""
    shared = f"{settings.store} {settings.store_token or ''}".encode()
    return hashlib.blake2b(shared, digest_size=32, person=b"tickwatch-pages").digest()


def gateway_arguments(settings: Settings, listen: str | None = None) -> dict[str, Any]:
    """What `services.gateway.server.open_gateway` takes.

    Raises InvalidSettingError for an address that others reach where the gateway would read for everybody.
    """
    from services.securing import check_gateway, client_credentials

    listen = listen or settings.gateway.listen
    check_gateway(settings, listen)
    return {
        "listen": listen,
        "query": settings.gateway.query,
        "alerts": settings.gateway.alerts,
        "cors_origins": settings.gateway.cors_origins,
        "requests_per_second": settings.gateway.requests_per_second,
        "burst": settings.gateway.burst,
        "trusted_proxies": settings.gateway.trusted_proxies,
        "max_streams": settings.gateway.max_streams,
        "drain_seconds": settings.gateway.drain_seconds,
        "credentials": client_credentials(settings.gateway.credentials),
    }


def configure_logs(settings: Settings, *, default_level: str | None = None) -> None:
    """Send the logs to standard error, as text on a terminal and as JSON elsewhere, unless the settings insist.

    `default_level` is the level where nobody has set one.
    """
    from services.core.logs import configure_logging

    chosen = settings.log.format
    if chosen == "auto":
        chosen = "console" if sys.stderr.isatty() else "json"
    level = settings.log.level or default_level or "info"
    configure_logging(level, chosen)
    if level != "debug":
        # A line for each request to an exchange or the store says nothing that a run's report does not.
        for library in ("httpx", "httpcore", "urllib3"):
            logging.getLogger(library).setLevel(logging.WARNING)
