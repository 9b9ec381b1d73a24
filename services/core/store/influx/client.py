"""What of influxdb-client is used, without the three hundred modules that its package imports at once.

`influxdb_client/__init__.py` and those of two packages below import a module for every type and service of InfluxDB's
API: more than half of a collector's start, every minute, for four types that are used. Here their names are looked up
when somebody asks for them. A name that is not found in an `__init__.py` as it is written today makes the whole of it
run, so that another version of the library is at worst as slow as ever.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from importlib import import_module
from pathlib import Path

_IMPORT = re.compile(r"^from (influxdb_client\.\S+) import (\w+)$", re.MULTILINE)


def _import_on_demand(package: str) -> None:
    """Put a package in place whose names are imported when they are asked for."""
    if package in sys.modules or (spec := importlib.util.find_spec(package)) is None or spec.loader is None:
        return
    loader = spec.loader
    module = importlib.util.module_from_spec(spec)
    homes = {name: home for home, name in _IMPORT.findall(Path(str(spec.origin)).read_text(encoding="utf-8"))}

    def look_up(name: str) -> object:
        if name in homes:
            value = getattr(import_module(homes[name]), name)
            setattr(module, name, value)
            return value
        if name.startswith("__"):  # what the import system asks a module for
            raise AttributeError(name)
        del module.__dict__["__getattr__"]
        loader.exec_module(module)
        return getattr(module, name)

    module.__dict__["__getattr__"] = look_up
    sys.modules[package] = module
    parent, _, own = package.rpartition(".")
    if parent:
        setattr(sys.modules[parent], own, module)


for _package in ("influxdb_client", "influxdb_client.domain", "influxdb_client.service"):
    _import_on_demand(_package)

from influxdb_client.client.influxdb_client import InfluxDBClient as InfluxDBClient  # noqa: E402, PLC0414
from influxdb_client.client.write_api import SYNCHRONOUS as SYNCHRONOUS  # noqa: E402, PLC0414
from influxdb_client.domain.dialect import Dialect as Dialect  # noqa: E402, PLC0414
from influxdb_client.rest import ApiException as ApiException  # noqa: E402, PLC0414
