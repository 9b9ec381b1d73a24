"""Settings of the alerter, and of the receivers that it notifies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from services.core.errors import InvalidSettingError
from services.core.sections import Secret, Section
from services.core.setting_types import Address, Name, ReceiverName, RuleGlobs, Seconds, SecretUrl

_LEAST_SECRET = 16


class WebhookSettings(Section, frozen=True):
    """A receiver of breaches over HTTP."""

    url: SecretUrl
    """Where events are posted: http or https. Kept out of logs and errors, because many such addresses are secrets."""
    secret: Secret | None = None
    """What requests are signed with, at least 16 characters. Either this or `secret_file`."""
    secret_file: Path | None = None
    """A file that holds the secret, such as a mounted one. White space around it does not count."""
    min_severity: Literal["info", "warning", "critical"] = "info"
    """Only events of this severity and above."""
    rules: RuleGlobs = ()
    """Only events of these rules, by name or by glob. Empty: of all."""
    delivery: Literal["episodes", "every_breach"] = "episodes"
    """What is sent. A webhook often wakes people, and they want to know what begins and ends, not every point."""
    timeout_seconds: Seconds = 10.0
    """How long a receiver may take to answer, all in all."""
    retry_seconds: Annotated[float, Meta(ge=0, le=7 * 86_400)] = 3600.0
    """For how long a failing receiver is tried before an event goes to the dead letters. An hour outlasts a restart."""

    def __post_init__(self) -> None:
        if (self.secret is None) == (self.secret_file is None):
            raise ValueError("give either secret or secret_file")
        if self.secret is not None and len(self.secret.reveal()) < _LEAST_SECRET:
            raise ValueError(f"secret is shorter than {_LEAST_SECRET} characters")

    def signing_secret(self, name: str) -> bytes:
        """Return the secret; raises InvalidSettingError, naming the receiver's setting, for a file that is no good."""
        if self.secret is not None:
            return self.secret.reveal().encode()
        field = f"alerter.webhooks.{name}.secret_file"
        assert self.secret_file is not None  # noqa: S101  # either is there, as checked above
        try:
            secret = self.secret_file.read_bytes().strip()
        except OSError as error:
            raise InvalidSettingError(field, f"{self.secret_file} cannot be read: {error.strerror}") from error
        if len(secret) < _LEAST_SECRET:
            raise InvalidSettingError(field, f"{self.secret_file} holds fewer than {_LEAST_SECRET} characters")
        return secret


class HeartbeatSettings(Section, frozen=True):
    """A sign of life to a dead man's switch, which raises the alarm when it stays away."""

    url: SecretUrl | None = None
    """Where it goes. None: nowhere."""
    method: Literal["post", "get"] = "post"
    """How it is sent; without a body."""
    interval_seconds: Annotated[float, Meta(ge=5, le=86_400)] = 60.0
    """How often. Let the switch wait for three of them: one may be lost."""


class AlerterSettings(Section, frozen=True):
    """The alerter."""

    listen: Address = "127.0.0.1:50052"
    """Where it answers gRPC. Loopback; where others reach it, `server` has to protect it."""
    rules: Path | None = None
    """The YAML file of rules, read again when it changes, or `cluster`: the AlertRules of `kubernetes.namespace`. None:
    the built-in rules."""
    poll_interval_seconds: Seconds = 1.0
    """How often it asks the store for what is new. A breach then shows within about a second of its point."""
    grace_seconds: Annotated[float, Meta(ge=0, le=3600)] = 60.0
    """How long after a slot's end its points may come before they count as missing, unless a run says sooner that it is
    whole. A minute lets a run that has been held up make its next slot."""
    drain_seconds: Annotated[float, Meta(ge=0, le=600)] = 0.0
    """How long it serves on after SIGTERM while load balancers learn of it. 0 fits a machine without any."""
    max_streams: Annotated[int, Meta(ge=1, le=100_000)] = 1024
    """How many streams it serves at once; each takes a thread."""
    health_listen: Address | None = None
    """Where the health service alone answers in plain text, for probes that know no TLS. None: nowhere."""
    reflection: bool = True
    """Whether grpcurl and the like may ask for the contract."""
    lease: Name | None = None
    """The Lease of Kubernetes by which several alerters on one store choose the one that evaluates and notifies. None:
    this one does, and must be the only one."""
    webhooks: Mapping[ReceiverName, WebhookSettings] = {}
    heartbeat: HeartbeatSettings = HeartbeatSettings()
