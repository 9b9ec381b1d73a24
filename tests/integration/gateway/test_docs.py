"""What docs/rest.md tells people to type works as it stands there."""

from __future__ import annotations

import asyncio
import json
import pathlib
import re
import shlex

import pytest

from services.core.catalog.base import Market
from tests.support.alerter import LogWriter, breach
from tests.support.gateway import serve
from tests.support.needs import ROOT, require_program
from tests.support.query import make_market, make_store

PAGE = (ROOT / "docs" / "rest.md").read_text(encoding="utf-8")
COMMANDS = [
    line.removeprefix("$ ")
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]
TIME_IS_UP = 28
"""What curl ends with when --max-time has passed, as it does of a stream."""


async def test_every_command_of_the_page(tmp_path: pathlib.Path) -> None:
    """Each is answered: JSON, CSV or events, and refused only where the page shows a refusal."""
    require_program("curl")
    store = make_store(make_market(["KRAKEN:BTCUSD", "KRAKEN:ETHUSD"]))
    assert len(COMMANDS) > 10
    async with serve(store, markets=[Market("KRAKEN", ("BTCUSD", "ETHUSD"))]) as gateway:
        LogWriter(store.breach_log).append(breach("KRAKEN:BTCUSD"))
        for command in COMMANDS:
            words = shlex.split(command.replace("http://127.0.0.1:8080", gateway.server.url))
            process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE, cwd=tmp_path)
            said = (await process.communicate())[0].decode()

            assert process.returncode == (TIME_IS_UP if "/stream" in command else 0), command
            if "-o" in words:
                assert json.loads((tmp_path / "answer.json").read_text())["rankings"], command
            elif "/stream" in command:
                assert re.search(r"^event: (bookmark|snapshot)\nid: \S+\ndata: \{.*\}\n\n", said, re.MULTILINE), command
            elif "text/csv" in command:
                assert re.match(r"(time,value|rank,metric)", said), command
            else:
                assert ("error" in json.loads(said)) == ("BTCEUR" in command), command


def test_the_page_names_every_address() -> None:
    """Each address of the description stands on the page, and no other."""
    from services.gateway import original_routes, routes, stream_routes  # noqa: PLC0415  # only this test needs them

    described = {
        route.path  # type: ignore[attr-defined]
        for router in (routes.router, stream_routes.router, original_routes.router)
        for route in router.routes
    }
    named = set(re.findall(r"`(?:GET|POST|DELETE) (/(?:v1|pricetracker)[^`?]*)", PAGE))

    assert named == described


@pytest.mark.parametrize("setting", re.findall(r"`(gateway\.\w+)`", PAGE))
def test_the_page_names_settings_that_exist(setting: str) -> None:
    """Settings on the page are in the list of settings."""
    assert f"| `{setting}` |" in (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
