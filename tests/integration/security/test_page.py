"""The commands of docs/security.md do what the page says, typed in its order."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest
import yaml

from services.core.clock import SystemClock
from services.core.model import Measure, Slot, last_complete_slot
from services.core.server_settings import ServerSettings
from services.core.settings import load_settings
from services.core.store.opening import open_store
from tests.support.commands import environment, running
from tests.support.needs import ROOT, require_program
from tests.support.ports import free_port
from tests.support.query import make_market, record_run

PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Return the page's blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_commands_work(tmp_path):
    """Certificates and tokens are made, the service starts with them where others reach it, and is asked."""
    require_program("openssl")
    url, port = f"sqlite:{tmp_path / 'tickwatch.db'}", free_port()
    with open_store(url) as store:
        end = Slot(last_complete_slot(SystemClock().now()) + 1)
        store.write(make_market(["SIM:AAA"], end=end, slots=60, measures=[Measure.PRICE]).points())
        record_run(store, Slot(end - 1))
    path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"

    def typed(script: str, **variables: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script.replace("50051", str(port))],
            cwd=tmp_path,
            env=environment({"PATH": path, **variables}),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    certificates, tokens, serve, ask, client = blocks("sh")
    for script in (certificates, tokens, client):
        typed(script)
    exports = dict(re.findall(r"(TICKWATCH_\w+)=(\S+)", serve))
    settings = {name: str(tmp_path / value) for name, value in exports.items()} | {"TICKWATCH_STORE": url}
    (command,) = re.findall(r"^tickwatch (.+)$", serve, re.MULTILINE)
    words = command.replace("50051", str(port)).split()
    with running(*words, announces=r"tickwatch query: listening on (\S+)", settings=settings):
        assert "SIM:AAA" in typed(ask)


@pytest.mark.parametrize("block", [block for block in blocks("yaml") if block.startswith("server:")])
def test_the_settings_are_settings(tmp_path, block):
    """Each example of settings is taken as it stands, and says something."""
    file = tmp_path / "tickwatch.yaml"
    file.write_text(block)

    assert load_settings(file, {}).server != ServerSettings()
    assert yaml.safe_load(block).keys() == {"server"}


def test_the_client_example_is_python():
    """The example compiles, and what it gives to Credentials is taken."""
    (example,) = blocks("python")

    compile(
        f"async def main():\n{''.join(f'    {line}' for line in example.splitlines(keepends=True))}", "page", "exec"
    )
