"""The page of settings is complete, so that nobody has to read the code to configure the product."""

from __future__ import annotations

import re

from services.core.settings import Settings
from tests.support.needs import ROOT
from tests.support.setting_paths import setting_paths


def test_the_page_lists_every_setting_and_no_other():
    """Each setting has a row with its path and its default, and each row is a setting."""
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")

    listed = re.findall(r"^\| `([^`]+)` \| [^|]+ \| ([^|]+) \|", page, re.MULTILINE)

    assert sorted(setting_paths(Settings)) == sorted((path, default.strip()) for path, default in listed)
