"""Walks the settings, for tests that hold something to all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import get_args, get_origin

from services.core.sections import REQUIRED, Section, is_section, section_fields


def setting_paths(section: type[Section], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield every setting: its dotted path, with NAME for a key of free choice, and its default as the page has it."""
    for name, kind, default in section_fields(section):
        if get_origin(kind) is Mapping:
            yield from setting_paths(get_args(kind)[1], f"{prefix}{name}.NAME.")
        elif is_section(kind):
            yield from setting_paths(kind, f"{prefix}{name}.")
        else:
            yield (
                f"{prefix}{name}",
                "required" if default is REQUIRED else "none" if default is None else f"`{default}`",
            )
