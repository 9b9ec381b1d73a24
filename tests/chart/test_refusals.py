"""Wrong values are refused before anything is installed, in words that name what is wrong."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.support.chart import helm_template
from tests.support.documents import blocks, differences
from tests.support.needs import ROOT, require_program

TRYING_OUT = ["--set", "influxdb.enabled=true"]
EXTERNAL = ["--set", "store.url=influxdb+https://h/org/bucket", "--set", "store.existingSecret.name=s"]
TLS = [*EXTERNAL, "--set", "security.tls.existingSecret=tls"]
TOKENS = ["--set", "security.tokens.existingSecret=t"]
MUTUAL = ["--set", "security.clientCertificates.caSecret=c,security.clientCertificates.ownSecret=o"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ("store.url=sqlite:data/tickwatch.db", "/store/url"),
        ("store.url=memory:", "/store/url"),
        ("store.url=influxdb+https://user:secret@h/org/bucket", "/store/url"),
        ("store.url=influxdb+https://h/org", "/store/url"),
        ("stores.url=influxdb+https://h/org/bucket", "'stores' not allowed"),
        ("influxdb.enbled=true", "'enbled' not allowed"),
        ("query.replica=3", "'replica' not allowed"),
        ("query.replicas=many", "/query/replicas"),
        ("query.autoscaling.targetCPUUtilizationPercentage=170", "targetCPUUtilizationPercentage"),
        ("query.pdb.minAvailable=1", "'minAvailable' not allowed"),
        ("collector.mode=cron", "/collector/mode"),
        ("collector.exchange=krakken", "/collector/exchange"),
        ("collector.shards=0", "/collector/shards"),
        ("collector.activeDeadlineSeconds=60", "/collector/activeDeadlineSeconds"),
        ("collector.startingDeadlineSeconds=10", "/collector/startingDeadlineSeconds"),
        ("image.digest=latest", "/image/digest"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("alerter.webhooks.On-Call.existingSecret=s", "invalid propertyName 'On-Call'"),
        ("alerter.webhooks.chat.urlKey=url", "existingSecret"),
        ("influxdb.persistence.size=big", "/influxdb/persistence/size"),
        ("influxdb.persistence.whenDeleted=Ask", "/influxdb/persistence/whenDeleted"),
        ("catalog.markets[0].exchange=KRAKEN", "pairs"),
        ("networkPolicy.apiServerPorts[0]=0", "/networkPolicy/apiServerPorts/0"),
        ("log.level=loud", "/log/level"),
        ("security.tls.existingSecret=Not_A_Name", "/security/tls/existingSecret"),
        ("security.serviceAccounts.audience=", "/security/serviceAccounts/audience"),
        ("security.serviceAccounts.readers[0]=monitoring", "/security/serviceAccounts/readers/0"),
        ("security.token.existingSecret=s", "'token' not allowed"),
    ],
)
def test_the_schema_refuses(values, words):
    """A value of the wrong name, type or range fails, and Helm says which."""
    done = helm_template(*TRYING_OUT, "--set", values)

    assert done.returncode != 0
    assert words in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "There is no store. Set store.url"),
        ([*TRYING_OUT, *EXTERNAL], "There are two stores"),
        (EXTERNAL[:2], "store.url needs a token. Make a Secret"),
        ([*EXTERNAL, "--set", "query.drainSeconds=60"], "query.terminationGracePeriodSeconds (40) must be at least"),
        (
            [*EXTERNAL, "--set", "alerter.drainSeconds=60"],
            "alerter.terminationGracePeriodSeconds (40) must be at least",
        ),
        (
            [*EXTERNAL, "--set", "query.autoscaling.enabled=true,query.autoscaling.minReplicas=9"],
            "minReplicas is above query.autoscaling.maxReplicas",
        ),
        ([*EXTERNAL, "--set", "gateway.ingress.enabled=true"], "needs gateway.ingress.host"),
        ([*EXTERNAL, "--set", "gateway.httpRoute.enabled=true"], "needs gateway.httpRoute.parentRefs"),
        (
            [*EXTERNAL, "--set", "security.tokens.existingSecret=t"],
            "security.tokens.existingSecret needs security.tls.existingSecret",
        ),
        (
            [*EXTERNAL, "--set", "security.serviceAccounts.enabled=true"],
            "security.serviceAccounts.enabled needs security.tls.existingSecret",
        ),
        (
            [*EXTERNAL, "--set", "security.clientCertificates.caSecret=c"],
            "security.clientCertificates.caSecret needs security.tls.existingSecret",
        ),
        (TLS, "security.tls.existingSecret alone encrypts, and asks nobody who calls. Set one of"),
        (
            [*TLS, "--set", "security.clientCertificates.caSecret=c"],
            "caSecret needs security.clientCertificates.ownSecret",
        ),
        (
            [*TLS, *TOKENS, "--set", "security.clientCertificates.admins[0]=me"],
            "security.clientCertificates.admins holds where clients' certificates are asked for and tokens are not",
        ),
        (
            [*TLS, *MUTUAL, "--set", "gateway.enabled=true"],
            "The gateway hands on tokens, and cannot hand on certificates",
        ),
        ([*EXTERNAL, "--set", "settings.server.insecure=false"], "settings.server.insecure is the chart's own"),
        ([*EXTERNAL, "--set", "settings.gateway.insecure=true"], "settings.gateway.insecure is the chart's own"),
        (
            [*EXTERNAL, "--set", "settings.server.max_calls=1024"],
            "settings.server.max_calls (1024) must be above alerter.maxStreams (1024)",
        ),
    ],
)
def test_values_that_do_not_fit_together_are_refused(arguments, words):
    """What no schema can say well, the templates say: what is wrong and what to set."""
    done = helm_template(*arguments)

    assert done.returncode != 0
    assert words in done.stderr


def test_global_values_of_an_umbrella_chart_pass():
    """A chart above this one may pass any `global` value; typos elsewhere stay refused."""
    done = helm_template(*TRYING_OUT, "--set", "global.anything.at.all=1")

    assert done.returncode == 0, done.stderr


def test_the_page_of_upgrades_shows_what_helm_says():
    """Of a value that is not there, or no more, Helm says what UPGRADING.md says that it says."""
    environment = os.environ | {"PATH": f"{require_program('helm').parent}{os.pathsep}{os.environ['PATH']}"}
    (block,) = [block for block in blocks("UPGRADING.md") if block.prompted]
    (step,) = block.steps()

    done = subprocess.run(
        ["bash", "-c", step.command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    assert differences(step.shows, done.stderr) == []
