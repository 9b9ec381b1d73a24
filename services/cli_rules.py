"""The commands for people who write rules: `tickwatch rules …`.

Those that take a file need no service. As in `cli`, what a command needs is imported within it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

EXIT_USAGE = 2

_FILES = click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))


def register(group: click.Group) -> None:
    """Add the commands to `tickwatch`."""
    group.add_command(rules)


@click.group()
def rules() -> None:
    """Write rules, check them, test them, and see how they fare."""


@rules.command()
@_FILES
def check(files: tuple[Path, ...]) -> None:
    """Tell every problem in files of rules, with its line.

    Exit codes: 0 there is none, 2 there are some.
    """
    from services.core.catalog.rules_file import read_rules
    from services.core.errors import InvalidSettingError

    failed = False
    for file in files:
        try:
            count = len(read_rules(file))
        except InvalidSettingError as error:
            failed = True
            click.echo(str(error), err=True)
        else:
            click.echo(f"{file}: {count} rule{'' if count == 1 else 's'}, no problem")
    sys.exit(EXIT_USAGE if failed else 0)


@rules.command()
def default() -> None:
    """Write the rules that hold where no file is named, as the file to begin one's own with."""
    from services.core.catalog.rules_file import DEFAULT_RULES_FILE

    click.echo(DEFAULT_RULES_FILE.read_text(encoding="utf-8"), nl=False)
