"""The page of settings is complete, so that nobody has to read the code to configure the product."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic import BaseModel

from services.core.settings import ExchangeSettings, Settings
from tests.support.needs import ROOT


def paths(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Walk the settings as (dotted path, default)."""
    for name, field in model.model_fields.items():
        if name == "exchanges":
            yield from paths(ExchangeSettings, "exchanges.NAME.")
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from paths(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", "none" if field.default is None else f"`{field.default}`"


def test_the_page_lists_every_setting_and_no_other():
    """Each setting has a row with its path and its default, and each row is a setting."""
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")

    listed = re.findall(r"^\| `([^`]+)` \| [^|]+ \| ([^|]+) \|", page, re.MULTILINE)

    assert sorted(paths(Settings)) == sorted((path, default.strip()) for path, default in listed)
