"""Completion in the shell: click's, and for bash what it takes to complete names that have a colon in them.

bash takes `SIM:BTCUSD` for three words, so the words are taken from the line as it was typed, and of what is offered
the part that bash has already is left out.
"""

from __future__ import annotations

import os
import sys

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

_VARIABLE = "_TICKWATCH_COMPLETE"


class _Bash(BashComplete):
    """bash's, by the line and not by bash's words."""

    source_template = (
        BashComplete.source_template.replace('COMP_WORDS="${COMP_WORDS[*]}"', 'COMP_WORDS="${COMP_LINE:0:$COMP_POINT}"')
        .replace("COMP_CWORD=$COMP_CWORD", 'COMP_CWORD="$COMP_WORDBREAKS"')
    )  # fmt: skip

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ["COMP_WORDS"]
        words = split_arg_string(line)
        incomplete = "" if line[-1:].isspace() or len(words) < 2 else words.pop()  # noqa: PLR2004  # more than the command
        return words[1:], incomplete

    def complete(self) -> str:
        args, incomplete = self.get_completion_args()
        cut = incomplete.rfind(":") + 1 if ":" in os.environ["COMP_CWORD"] else 0
        items = self.get_completions(args, incomplete)
        return "\n".join(f"{item.type},{item.value[cut:]}" for item in items)


def prepare() -> None:
    """Let click complete for bash by ours, should a shell ask."""
    add_completion_class(_Bash)


def script(command: click.Command, shell: str) -> str:
    """Return what the shell has to read so that it completes `tickwatch`."""
    add_completion_class(_Bash)
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101  # click has all that are offered
    return kind(command, {}, "tickwatch", _VARIABLE).source()


def metrics(context: click.Context, incomplete: str) -> list[CompletionItem[str]]:
    """Offer the metrics of the catalog, and of the simulated market; nothing is asked of any server."""
    from services.core.catalog.base import DEFAULT_MARKETS, Market
    from services.core.errors import TickwatchError

    known: tuple[Market, ...] = (*DEFAULT_MARKETS, Market("SIM", DEFAULT_MARKETS[0].pairs))
    try:
        from services.core.settings import load_settings
        from services.wiring import open_catalog

        known = (*open_catalog(load_settings(context.find_root().params.get("config"))).read(), *known)
    except TickwatchError as error:
        sys.stderr.write(f"\n{error}\n")
    names = dict.fromkeys(metric.name for market in known for metric in market.metrics)
    return [CompletionItem(name) for name in names if name.startswith(incomplete.upper())]
