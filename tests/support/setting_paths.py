"""Walks the settings, for tests that hold something to all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import get_args, get_origin

from pydantic import BaseModel


def setting_paths(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield every setting: its dotted path, with NAME for a key of free choice, and its default as the page has it."""
    for name, field in model.model_fields.items():
        if get_origin(field.annotation) is Mapping:
            yield from setting_paths(get_args(field.annotation)[1], f"{prefix}{name}.NAME.")
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from setting_paths(field.annotation, f"{prefix}{name}.")
        else:
            default = "required" if field.is_required() else field.default
            yield f"{prefix}{name}", default if default == "required" else "none" if default is None else f"`{default}`"
