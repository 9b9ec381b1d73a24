"""What commands are given beside their own arguments: the settings, read when somebody needs them, and the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pathlib import Path

    from services.core.settings import Settings


class Context:
    """What every command can ask for: the settings, read only when they are needed, and what the terminal can do."""

    def __init__(self, config: Path | None, store: str | None, *, rewrites: bool = False) -> None:
        self._config = config
        self._store = store
        self.rewrites = rewrites
        """Whether standard output is a terminal on which a line can be written over."""

    def settings(self) -> Settings:
        """Read the settings, the command line's flags on top."""
        from services.core.settings import load_settings

        settings = load_settings(self._config)
        return settings if self._store is None else settings.replaced(store=self._store)


pass_context = click.make_pass_decorator(Context)
