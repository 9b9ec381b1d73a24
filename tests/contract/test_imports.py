"""Rules that import-linter cannot state: what modules do when they are imported, and who asks the machine."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from tests.support.needs import ROOT

SOURCES = sorted(path for top in ("services", "clients/python/tickwatch") for path in (ROOT / top).rglob("*.py"))

WATCHED_IMPORT = """
import importlib, sys

seen = []

def watch(event, arguments):
    writes = event == "open" and any(letter in str(arguments[1]) for letter in "wax+")
    if writes or event in ("sqlite3.connect", "subprocess.Popen", "socket.connect", "os.mkdir"):
        seen.append((event, str(arguments)))

sys.addaudithook(watch)
for name in sys.argv[1:]:
    importlib.import_module(name)
sys.exit(str(seen) if seen else 0)
"""

MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in SOURCES
    if path.is_relative_to(ROOT / "services") and path.name != "__init__.py"
]


def test_nothing_happens_at_import() -> None:
    """Importing opens no connection and no file to write, starts no process, and makes no folder."""
    command = [sys.executable, "-B", "-c", WATCHED_IMPORT, "tickwatch", *MODULES]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_only_who_reads_a_cluster_loads_its_client() -> None:
    """Kubernetes' client costs more time than a whole run of the collector, and most processes have no use for it."""
    code = (
        "import sys; from services import all_in_one, cli, wiring\n"
        "from services.command_line import serving_alerts; from services.collector import job\n"
        "from services.core.settings import Settings\n"
        "wiring.collector_arguments(Settings()), wiring.alerter_arguments(Settings())\n"
        "with wiring.cluster_side(Settings()) as given: assert given == {}\n"
        "sys.exit('kubernetes' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120, check=False).returncode == 0


def names_used(path: Path) -> set[str]:
    """Return the attributes of `os` and `time` that a module uses, as os.environ."""
    return {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("os", "time")
    }


def test_only_the_settings_read_the_environment() -> None:
    """Whoever needs a setting is given it; completion and NO_COLOR are how shells and terminals speak with commands."""
    readers = {path.relative_to(ROOT) for path in SOURCES if names_used(path) & {"os.environ", "os.getenv"}}

    settings, commands = Path("services/core/settings.py"), Path("services/command_line")
    assert readers == {settings, commands / "completing.py", Path("services/cli.py")}


def test_only_the_clock_asks_for_the_time_of_day() -> None:
    """Whoever needs the time has a clock, so that tests can move it; the published client has no need of it."""
    askers = {path.relative_to(ROOT) for path in SOURCES if "time.time" in names_used(path)}

    assert askers == {Path("services/core/clock.py")}
