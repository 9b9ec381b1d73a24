"""docs/troubleshooting.md tells of every reason there is, and of none that is not."""

from __future__ import annotations

import re

from services.core.rpc.status import REASONS, VERDICTS
from tests.support.needs import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")


def test_every_reason_has_its_part():
    """Once, and no reason that is never given has one."""
    assert sorted(re.findall(r"^### (\w+)$", PAGE, re.MULTILINE)) == sorted(REASONS)


def test_every_part_names_its_status():
    """The gRPC status of the one table comes first."""
    codes = {verdict.reason: verdict.code.name for verdict in VERDICTS.values()}
    told = dict(re.findall(r"^### (\w+)\n\n(\w+)[.,]", PAGE, re.MULTILINE))
    assert told == codes
