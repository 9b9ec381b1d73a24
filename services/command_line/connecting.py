"""The options by which every command that asks a service says who it is and whom it believes.

As in `cli`, the client is imported where it is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from services.command_line.arguments import FILE

if TYPE_CHECKING:
    import tickwatch

_Command = TypeVar("_Command", bound=Callable[..., Any])

_META = "tickwatch.credentials"


def credential_options(command: _Command) -> _Command:
    """Add the options to a command; `credentials` has what was given, so that no command passes it on."""
    options = (
        click.option(
            "--tls/--plaintext",
            default=None,
            envvar="TICKWATCH_TLS",
            show_envvar=True,
            expose_value=False,
            callback=_keep,
            help="Whether to speak TLS; else where one of the following is given.",
        ),
        _file("--ca", "TICKWATCH_CA", "PEM file of the authorities that sign the server's certificate."),
        _file("--cert", "TICKWATCH_CERT", "PEM file of our own certificate, where the server asks for one."),
        _file("--key", "TICKWATCH_KEY", "PEM file of its private key."),
        _file("--token-file", "TICKWATCH_TOKEN_FILE", "File that holds the token to show."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def credentials() -> tickwatch.Credentials:
    """Return what was given to the command that runs; raises UsageError for what does not fit together."""
    import tickwatch

    try:
        return tickwatch.Credentials(**click.get_current_context().meta.get(_META, {}))
    except tickwatch.InvalidInputError as error:
        raise click.UsageError(f"--{error.message.replace('_', '-')}") from error


def _file(name: str, variable: str, words: str) -> Callable[[_Command], _Command]:
    return click.option(
        name,
        type=FILE,
        metavar="FILE",
        envvar=variable,
        show_envvar=True,
        expose_value=False,
        callback=_keep,
        help=words,
    )


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:  # noqa: ANN401 - of any option
    if value is not None:
        context.meta.setdefault(_META, {})[parameter.name] = value
