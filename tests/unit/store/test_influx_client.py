"""The InfluxDB client without what nobody uses of it: names are imported on demand, and every name can still be had."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from services.core.store.influx import client


def types_loaded_by(statement: str) -> int:
    """Return how many of the library's types a new process has loaded after a statement."""
    count = "len([name for name in sys.modules if name.startswith('influxdb_client.domain.')])"
    script = f"import sys; import services.core.store.influx.client; {statement}; print({count})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    return int(done.stdout)


def test_a_type_is_loaded_when_it_is_asked_for():
    """What we use brings some dozens of the library's three hundred types; another comes when its name is imported."""
    few = types_loaded_by("pass")

    assert few < 100
    assert few < types_loaded_by("from influxdb_client import Dashboard") < 150


def test_a_name_that_is_not_seen_in_the_source_loads_the_whole(tmp_path, monkeypatch):
    """A package laid out in another way is imported as it always was; a name that it does not have is none."""
    (tmp_path / "laid_out_anew").mkdir()
    (tmp_path / "laid_out_anew" / "__init__.py").write_text("from .inner import Thing\n")
    (tmp_path / "laid_out_anew" / "inner.py").write_text("Thing = 5\n")
    monkeypatch.syspath_prepend(tmp_path)

    client._import_on_demand("laid_out_anew")
    package = importlib.import_module("laid_out_anew")

    assert package.Thing == 5
    with pytest.raises(AttributeError):
        _ = package.Nothing
