"""The `tickwatch` command: one command for every role and every question.

It knows which commands there are and how they end; what each of them does stands in `command_line`, what a role does in
the role. Everything but click is imported within the command that needs it, because a collector run starts every minute
and pays for each import.

Exit codes: 0 done, 1 failed in part (some exchange, pair or row; no answer), 2 wrong usage or configuration, 3 the
store, or the cluster that has the catalog or the rules, is out of reach.
"""

from __future__ import annotations

import errno
import gc
import os
import sys
from typing import TYPE_CHECKING

import click

from services.command_line import alerts, questions, roles, rules
from services.command_line.arguments import FILE
from services.command_line.context import Context
from services.command_line.helping import Group
from services.core.errors import (
    ClusterRefusedError,
    ClusterUnavailableError,
    InvalidInputError,
    StoreRefusedError,
    StoreUnavailableError,
    TickwatchError,
)

if TYPE_CHECKING:
    from pathlib import Path

EXIT_FAILED, EXIT_USAGE, EXIT_STORE = 1, 2, 3


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    examples=["tickwatch up", "tickwatch rank price", "tickwatch history --help"],
)
@click.option("--config", type=FILE, help="Settings file; else TICKWATCH_CONFIG or ./tickwatch.yaml.")
@click.option(
    "--store",
    metavar="URL",
    help="sqlite:PATH, memory: or influxdb+http://HOST:8086/ORG/BUCKET; else store of the settings.",
)
@click.version_option(package_name="tickwatch")
@click.pass_context
def cli(context: click.Context, config: Path | None, store: str | None) -> None:
    """Sample crypto exchanges every minute; answer what happened in the last 24 hours; tell what broke a rule.

    Start with `tickwatch up`: it runs everything in one process.

    Exit codes: 0 done, 1 failed in part or not answered, 2 what was typed or set is wrong, 3 the store, or the cluster,
    is out of reach.
    """
    dumb = os.environ.get("TERM") == "dumb"
    context.obj = Context(config, store, rewrites=sys.stdout.isatty() and not dumb)
    if os.environ.get("NO_COLOR") or dumb:  # https://no-color.org
        context.color = False


for commands in (roles, questions, alerts, rules):
    commands.register(cli)


@cli.command(
    section="Shell",
    examples=[
        "tickwatch completion bash > tickwatch.bash",
        "tickwatch completion zsh > _tickwatch",
        "tickwatch completion fish > tickwatch.fish",
    ],
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Write what a shell reads to complete what is typed.

    Commands, options and their values, measures, and the metrics of the catalog; no server is asked.

    bash: eval "$(tickwatch completion bash)" in ~/.bashrc. zsh: the same in ~/.zshrc, after compinit. fish: write it to
    ~/.config/fish/completions/tickwatch.fish.
    """
    from services.command_line.completing import script

    click.echo(script(cli, shell))


_OBJECTS_BETWEEN_COLLECTIONS = 50_000
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def main() -> None:
    """Run the command; every error that is not a bug is one line on standard error."""
    # Imports make tens of thousands of objects that stay: to look for garbage after each 700 of them takes a tenth of
    # a command's time.
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    if "_TICKWATCH_COMPLETE" in os.environ:  # a shell asks
        from services.command_line.completing import prepare

        prepare()
    try:
        try:
            cli(standalone_mode=True, prog_name="tickwatch")
        finally:
            sys.stdout.flush()  # what is left to be written may fail, too
    except OSError as error:
        _unwritten(error)
    except InvalidInputError as error:
        _fail(error, EXIT_USAGE)
    except (StoreUnavailableError, ClusterUnavailableError) as error:
        _fail(error, EXIT_STORE)
    except (StoreRefusedError, ClusterRefusedError) as error:
        _fail(error, EXIT_USAGE)
    except TickwatchError as error:
        _fail(error, EXIT_FAILED)
    finally:
        # As it ends, the interpreter looks for garbage among all that the imports have made: a seventh of a command.
        gc.freeze()


def _fail(error: TickwatchError | str, code: int) -> None:
    click.echo(f"Error: {error}", err=True)
    sys.exit(code)


def _unwritten(error: OSError) -> None:
    """End where standard output takes no more: a reader has gone, which is no error to tell, or a disk is full."""
    if error.errno not in (errno.EPIPE, *_NO_ROOM):
        raise error
    # The interpreter writes what is left once more as it ends, and would complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if error.errno == errno.EPIPE:
        sys.exit(EXIT_FAILED)
    _fail(f"the answer cannot be written: {error.strerror}", EXIT_FAILED)


if __name__ == "__main__":
    main()
