"""How the suite is divided where `pytest -n` asks for several workers: by files, and everything on the cluster to one.

A file's tests share servers, and those on the cluster share its nodes, its kinds and a fixed port.
"""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

ON_THE_CLUSTER = "tests/cluster/"


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # it ships no types
    """Gives a worker a file when it has done its last one; files come in the order in which they were collected."""

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        config.option.loadscopereorder = False  # how many tests a file has does not say how long they take
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return ON_THE_CLUSTER if nodeid.startswith(ON_THE_CLUSTER) else nodeid.partition("::")[0]


def longest_first(items: list[pytest.Item]) -> None:
    """Move what is on the cluster to the front: nothing else keeps a worker for so long."""
    items.sort(key=lambda item: not item.nodeid.startswith(ON_THE_CLUSTER))
