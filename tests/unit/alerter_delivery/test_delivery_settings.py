"""The settings of webhooks and heartbeat: what is wrong is named exactly, and no secret is ever repeated."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from services.core.errors import InvalidSettingError
from services.core.settings import Settings, load_settings

SECRET = "open-sesame-open-sesame"
NO_ADDRESS = "alerter.webhooks.ops.url: is not an address such as https://hooks.example.com/tickwatch"


def read(tmp_path: Path, text: str) -> Settings:
    """Read settings from a file with this text."""
    path = tmp_path / "tickwatch.yaml"
    path.write_text(text, encoding="utf-8")
    return load_settings(path, {})


def webhook(**given: object) -> str:
    """Return a file with one receiver, `ops`, its settings in a line."""
    fields = {"url": "https://hooks.example.com/x", "secret": SECRET, **given}
    inner = ", ".join(f"{key}: {value}" for key, value in fields.items() if value is not None)
    return f"alerter:\n  webhooks:\n    ops: {{{inner}}}\n"


WRONG = [
    (webhook(url=None), "3: alerter.webhooks.ops.url: field required"),
    (webhook(url="ftp://hooks.example.com/x"), "3: alerter.webhooks.ops.url: is not an http:// or https:// address"),
    (webhook(url="hooks.example.com"), "3: alerter.webhooks.ops.url: is not an http:// or https:// address"),
    (
        webhook(url="https://me:pw@hooks.example.com"),
        "3: alerter.webhooks.ops.url: has a user or a password in it, and requests are signed instead",
    ),
    (
        webhook(url="https://me@hooks.example.com"),
        "3: alerter.webhooks.ops.url: has a user or a password in it, and requests are signed instead",
    ),
    (webhook(url="'https:///x'"), f"3: {NO_ADDRESS}"),
    (webhook(url="'https://h/#x'"), f"3: {NO_ADDRESS}"),
    (webhook(url="'https://h/a b'"), f"3: {NO_ADDRESS}"),
    (webhook(url="'https://h:99999/x'"), f"3: {NO_ADDRESS}"),
    (webhook(url="'https://[::1/x'"), f"3: {NO_ADDRESS}"),
    (webhook(secret=None), "3: alerter.webhooks.ops: give either secret or secret_file"),
    (webhook(secret_file="secret"), "3: alerter.webhooks.ops: give either secret or secret_file"),
    (webhook(secret="short"), "3: alerter.webhooks.ops: secret is shorter than 16 characters"),
    (
        webhook(min_severity="high"),
        "3: alerter.webhooks.ops.min_severity: input should be 'info', 'warning' or 'critical'",
    ),
    (
        webhook(delivery="breaches"),
        "3: alerter.webhooks.ops.delivery: input should be 'episodes' or 'every_breach'",
    ),
    (
        webhook(rules="['a b']"),
        (
            "3: alerter.webhooks.ops.rules.0: 'a b' is neither a rule's name nor a glob: "
            "letters, digits, -, _, * and ?, at most 64"
        ),
    ),
    (webhook(timeout_seconds=0), "3: alerter.webhooks.ops.timeout_seconds: input should be greater than 0"),
    (webhook(retry_seconds=-1), "3: alerter.webhooks.ops.retry_seconds: input should be greater than or equal to 0"),
    (webhook(secrt="x"), "3: unknown key 'alerter.webhooks.ops.secrt' (did you mean 'secret'?)"),
    (
        "alerter:\n  webhooks:\n    Ops: {}\n",
        (
            "3: alerter.webhooks.Ops: 'Ops' is not a receiver's name: small letters, digits, - and _, at most 63\n"
            "PATH:3: alerter.webhooks.Ops.url: field required"
        ),
    ),
    ("alerter:\n  webhook: {}\n", "2: unknown key 'alerter.webhook' (did you mean 'webhooks'?)"),
    (
        "alerter: {lease: Al_Erter}\n",
        "1: alerter.lease: 'Al_Erter' is not a name of Kubernetes': small letters, digits and -, at most 63",
    ),
    ("alerter: {grace_seconds: -1}\n", "1: alerter.grace_seconds: input should be greater than or equal to 0"),
    (
        "alerter: {listen: '50052'}\n",
        "1: alerter.listen: '50052' is not HOST:PORT, as in 127.0.0.1:50051 or [::1]:50051",
    ),
    ("alerter: {heartbeat: {url: 'x'}}\n", "1: alerter.heartbeat.url: is not an http:// or https:// address"),
    ("alerter: {heartbeat: {method: put}}\n", "1: alerter.heartbeat.method: input should be 'post' or 'get'"),
    (
        "alerter: {heartbeat: {interval_seconds: 1}}\n",
        "1: alerter.heartbeat.interval_seconds: input should be greater than or equal to 5",
    ),
    ("alerter: {heartbeat: {urll: 'x'}}\n", "1: unknown key 'alerter.heartbeat.urll' (did you mean 'url'?)"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_what_is_wrong_is_named_exactly(tmp_path, text, message):
    """Each wrong file gets the place, the setting, the reason, and nothing else."""
    with pytest.raises(InvalidSettingError) as caught:
        read(tmp_path, text)

    path = str(tmp_path / "tickwatch.yaml")
    assert str(caught.value) == f"{path}:{message.replace('PATH', path)}"


@pytest.mark.parametrize(
    "text",
    [
        webhook(url=f"ftp://{SECRET}@example.com/{SECRET}"),
        webhook(url=f"https://{SECRET}@example.com"),
        webhook(secret_file="x"),
        webhook(min_severity="high"),
        webhook(unknown=SECRET),
    ],
)
def test_no_error_repeats_a_secret(tmp_path, text):
    """Neither the error nor what caused it, printed with all its causes, holds a secret or an address."""
    with pytest.raises(InvalidSettingError) as caught:
        read(tmp_path, text)

    printed = "".join(traceback.format_exception(caught.value))
    assert SECRET not in printed
    assert "hooks.example.com" not in printed


def test_no_representation_shows_a_secret_or_an_address(tmp_path):
    """Addresses are kept as secrets are: those of chats and dead man's switches let anybody in."""
    settings = read(tmp_path, webhook() + "  heartbeat: {url: 'https://hooks.example.com/ping'}\n")

    shown = repr(settings) + str(settings)
    assert SECRET not in shown
    assert "hooks.example.com" not in shown


def test_receivers_may_come_from_variables():
    """A receiver's name stands in the variable's; rules are joined by commas."""
    settings = load_settings(
        None,
        {
            "TICKWATCH_ALERTER__WEBHOOKS__ON-CALL_2__URL": "http://127.0.0.1:9/x?y=1",
            "TICKWATCH_ALERTER__WEBHOOKS__ON-CALL_2__SECRET": SECRET,
            "TICKWATCH_ALERTER__WEBHOOKS__ON-CALL_2__RULES": "missing, three-*",
        },
    )

    receiver = settings.alerter.webhooks["on-call_2"]
    assert receiver.rules == ("missing", "three-*")
    assert receiver.signing_secret("on-call_2") == SECRET.encode()


def test_a_secret_may_stand_in_a_file(tmp_path):
    """White space around it does not count; a file that is missing or too short is named with its setting."""
    path = tmp_path / "secret"
    receiver = read(tmp_path, webhook(secret=None, secret_file=path)).alerter.webhooks["ops"]
    field = "alerter.webhooks.ops.secret_file"

    with pytest.raises(InvalidSettingError) as absent:
        receiver.signing_secret("ops")
    path.write_text("short\n")
    with pytest.raises(InvalidSettingError) as short:
        receiver.signing_secret("ops")
    path.write_text(f" {SECRET}\n")

    assert str(absent.value) == f"{field}: {path} cannot be read: No such file or directory"
    assert str(short.value) == f"{field}: {path} holds fewer than 16 characters"
    assert receiver.signing_secret("ops") == SECRET.encode()
