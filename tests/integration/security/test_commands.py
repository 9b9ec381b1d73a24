"""Protected services as they are run: by settings, asked by commands with flags or variables, refused in the open."""

from __future__ import annotations

import json

import pytest

from services.core.clock import SystemClock
from services.core.model import Measure, Slot, last_complete_slot
from services.core.store.opening import open_store
from tests.support.certificates import Authority, new_token, replace, tokens_text
from tests.support.commands import running, tickwatch
from tests.support.guarded import localhost
from tests.support.query import make_market, record_run

READ = new_token()


@pytest.fixture
def store(tmp_path):
    """The URL of a store with one metric up to now."""
    url = f"sqlite:{tmp_path / 'tickwatch.db'}"
    with open_store(url) as opened:
        end = Slot(last_complete_slot(SystemClock().now()) + 1)
        opened.write(make_market(["SIM:AAA"], end=end, slots=60, measures=[Measure.PRICE]).points())
        record_run(opened, Slot(end - 1))
    return url


def test_commands_come_in_with_token_and_certificate(store, tmp_path):
    """On every address both are asked for; flags and variables have them, and what lacks is told in a line."""
    servers, clients = Authority(tmp_path / "servers"), Authority(tmp_path / "clients")
    server, client = localhost(servers), clients.issue("worker.example")
    replace(tmp_path / "tokens.yaml", tokens_text(("dashboard", "read", READ)))
    replace(tmp_path / "token", READ + "\n")
    settings = {
        "TICKWATCH_STORE": store,
        "TICKWATCH_QUERY__LISTEN": "0.0.0.0:0",
        "TICKWATCH_SERVER__TLS__CERTIFICATE_FILE": str(server.cert),
        "TICKWATCH_SERVER__TLS__KEY_FILE": str(server.key),
        "TICKWATCH_SERVER__TLS__CLIENT_CA_FILE": str(clients.ca),
        "TICKWATCH_SERVER__TOKENS_FILE": str(tmp_path / "tokens.yaml"),
        "TICKWATCH_QUERY__HEALTH_LISTEN": "127.0.0.1:0",
        "TICKWATCH_LOG__LEVEL": "debug",
    }
    with running("query", announces=r"tickwatch query: listening on (\S+)", settings=settings) as service:
        rank = ("rank", "price", "--output", "json", "--server", service.address)
        certificate = ("--ca", str(servers.ca), "--cert", str(client.cert), "--key", str(client.key))
        by_flags = tickwatch(*rank, *certificate, "--token-file", str(tmp_path / "token"), settings={})
        by_variables = tickwatch(
            *rank,
            settings={
                "TICKWATCH_CA": str(servers.ca),
                "TICKWATCH_CERT": str(client.cert),
                "TICKWATCH_KEY": str(client.key),
                "TICKWATCH_TOKEN_FILE": str(tmp_path / "token"),
            },
        )
        without_token = tickwatch(*rank, *certificate, settings={})
        without_certificate = tickwatch(*rank, "--ca", str(servers.ca), settings={})
        in_plain_text = tickwatch(*rank, settings={})
        of_another = tickwatch(*rank, "--ca", str(clients.ca), settings={})

    for done in (by_flags, by_variables):
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)[0]["metric"] == "SIM:AAA"
    assert without_token.returncode == 1
    assert "a token is required" in without_token.stderr
    assert "--token-file" in without_token.stderr
    for refused, hint in (
        (without_certificate, "(--cert, --key)"),
        (in_plain_text, "(--tls, --ca)"),
        (of_another, "--ca has"),
    ):
        assert refused.returncode == 1
        assert hint in refused.stderr


@pytest.mark.parametrize("role", ["query", "alerter"])
def test_no_server_listens_openly_by_mistake(store, tmp_path, role):
    """On an address that others reach a server does not start without protection, and says exactly what to set."""
    server = localhost(Authority(tmp_path / "servers"))
    tls = {
        "TICKWATCH_SERVER__TLS__CERTIFICATE_FILE": str(server.cert),
        "TICKWATCH_SERVER__TLS__KEY_FILE": str(server.key),
    }
    replace(tmp_path / "tokens.yaml", tokens_text(("dashboard", "read", READ)))
    tokens = {"TICKWATCH_SERVER__TOKENS_FILE": str(tmp_path / "tokens.yaml")}

    def refused(listen, settings):
        done = tickwatch(role, "--listen", listen, settings={"TICKWATCH_STORE": store, **settings})
        assert done.returncode == 2, done.stderr
        return done.stderr

    for listen in ("0.0.0.0:0", "[::]:0", "192.0.2.1:50051"):
        told = refused(listen, {})
        assert f"{role}.listen: {listen} can be reached from other machines" in told
        assert "server.tls.certificate_file and server.tls.key_file" in told
        assert "server.tokens_file, server.service_accounts.audience, server.tls.client_ca_file" in told
        assert "server.insecure: true" in told
    assert "server.tokens_file" in refused("0.0.0.0:0", tls)
    assert "server.tls.certificate_file and" not in refused("0.0.0.0:0", tls)
    told = refused("0.0.0.0:0", tokens)
    assert "server.tls.certificate_file and" in told
    assert "one of server.tokens_file" not in told
    announces = rf"tickwatch {role}: listening on (\S+)"
    insecure = {"TICKWATCH_STORE": store, "TICKWATCH_SERVER__INSECURE": "true"}
    with running(role, "--listen", "0.0.0.0:0", announces=announces, settings=insecure) as service:
        assert service.stop() == 0


def test_no_gateway_reads_for_strangers_by_mistake(tmp_path):
    """On an address that others reach a gateway starts where callers have to bring tokens, or where it is told so."""
    replace(tmp_path / "token", READ)
    ca = {"TICKWATCH_GATEWAY__CREDENTIALS__CA_FILE": str(Authority(tmp_path / "servers").ca)}
    own = ca | {"TICKWATCH_GATEWAY__CREDENTIALS__TOKEN_FILE": str(tmp_path / "token")}
    announces = r"tickwatch gateway: listening on (\S+)"

    for listen, settings, problem in (
        ("0.0.0.0:0", {}, "the services behind it ask nobody"),
        ("[::]:0", {"TICKWATCH_GATEWAY__CREDENTIALS__TLS": "false"}, "the services behind it ask nobody"),
        ("192.0.2.1:8080", own, "it reads for whoever shows no token"),
    ):
        done = tickwatch("gateway", "--listen", listen, settings=settings)
        assert done.returncode == 2, done.stderr
        assert f"gateway.listen: {listen} can be reached from other machines, and {problem}" in done.stderr
        assert "gateway.insecure: true" in done.stderr
    for settings in (ca, own | {"TICKWATCH_GATEWAY__INSECURE": "true"}):
        with running("gateway", "--listen", "0.0.0.0:0", announces=announces, settings=settings) as gateway:
            assert gateway.stop() == 0


WRONG_FLAGS = [
    (("--cert", "c.pem"), "--key: is missing; cert and key go together"),
    (("--key", "k.pem"), "--cert: is missing; cert and key go together"),
    (("--plaintext", "--ca", "c.pem"), "--tls: is off, so ca and cert would not be used"),
    (("--token-file", "/nowhere/token"), "token_file: /nowhere/token cannot be read"),
    (("--ca", "/nowhere/ca.pem"), "ca: /nowhere/ca.pem cannot be read"),
]


@pytest.mark.parametrize(("flags", "message"), WRONG_FLAGS)
@pytest.mark.parametrize("command", [("list",), ("breaches",)])
def test_wrong_flags_are_told(command, flags, message):
    """What does not fit together, or cannot be read, ends with 2 and one line that names the flag."""
    done = tickwatch(*command, *flags, settings={})

    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
