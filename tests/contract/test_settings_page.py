"""The page of settings is complete, so that nobody has to read the code to configure the product."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import get_args, get_origin

from pydantic import BaseModel

from services.core.settings import Settings
from tests.support.needs import ROOT


def paths(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Walk the settings as (dotted path, default)."""
    for name, field in model.model_fields.items():
        if get_origin(field.annotation) is Mapping:
            yield from paths(get_args(field.annotation)[1], f"{prefix}{name}.NAME.")
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from paths(field.annotation, f"{prefix}{name}.")
        else:
            default = "required" if field.is_required() else field.default
            yield f"{prefix}{name}", default if default == "required" else "none" if default is None else f"`{default}`"


def test_the_page_lists_every_setting_and_no_other():
    """Each setting has a row with its path and its default, and each row is a setting."""
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")

    listed = re.findall(r"^\| `([^`]+)` \| [^|]+ \| ([^|]+) \|", page, re.MULTILINE)

    assert sorted(paths(Settings)) == sorted((path, default.strip()) for path, default in listed)
