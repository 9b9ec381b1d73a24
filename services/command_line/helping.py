"""How commands present themselves: grouped by what they are for, each with examples that work as they stand.

It knows click and nothing of what the commands do. Tests run the examples (tests/integration/test_documentation.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click


class Command(click.Command):
    """A command whose help ends with examples, and which stands in a section of its group's help."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), section: str = "Commands", **kwargs: Any) -> None:  # noqa: ANN401 - click's own
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self.section = section

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, a line each and never wrapped, so that they can be copied."""
        super().format_epilog(ctx, formatter)
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"{'':{formatter.current_indent}}{example}\n")


class Group(Command, click.Group):
    """A group whose help lists its commands in sections, in the order in which they were added."""

    command_class = Command
    group_class = type

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each kind of commands."""
        sections: dict[str, list[tuple[str, click.Command]]] = {}
        for name in self.list_commands(ctx):
            command = self.commands[name]
            sections.setdefault(getattr(command, "section", "Commands"), []).append((name, command))
        width = formatter.width - 6 - max(map(len, self.commands), default=0)
        for title, commands in sections.items():
            with formatter.section(title):
                formatter.write_dl([(name, command.get_short_help_str(width)) for name, command in commands])
