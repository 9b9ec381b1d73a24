"""Generated code refuses libraries older than those it was made with, so the dependencies must not accept them."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.support.needs import ROOT

GENERATED = sorted((ROOT / "clients" / "python" / "tickwatch" / "v1").glob("*_pb2*.py"))


def version(text: str) -> tuple[int, ...]:
    """Return a version's numbers."""
    return tuple(map(int, text.split(".")))


def floor(package: str) -> tuple[int, ...]:
    """Return the least version of a package that pyproject.toml accepts."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        dependencies = tomllib.load(file)["project"]["dependencies"]
    (found,) = (match[1] for each in dependencies if (match := re.fullmatch(rf"{package}>=([\d.]+)", each)))
    return version(found)


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.name)
def test_the_floors_are_what_the_generated_code_asks_for(path):
    """An installation with the least accepted versions can import the contract."""
    text = path.read_text(encoding="utf-8")
    if path.name.endswith("_grpc.py"):
        asked = version(re.search(r"GRPC_GENERATED_VERSION = '([\d.]+)'", text)[1])
        assert floor("grpcio") >= asked
    else:
        asked = version(re.search(r"Protobuf Python Version: ([\d.]+)", text)[1])
        assert floor("protobuf") >= asked
