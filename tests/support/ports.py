"""Free ports for servers that must know theirs before they start.

A port that the machine chooses may be another's by the time its server starts: whoever asks next is given it as soon as
nobody listens there. So these come from a block that this process has to itself, below the ports that the machine
chooses from: workers of one run, and runs side by side, never meet.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import socket

_BLOCKS = range(20_000, 30_000, 200)
"""The first port of each block. Linux chooses from 32768 on, and Kubernetes its node ports from 30000 on."""


class Block:
    """Ports in a row; who listens on the first one has the others."""

    def __init__(self) -> None:
        for first in _BLOCKS:
            with contextlib.suppress(OSError):
                atexit.register(socket.create_server(("127.0.0.1", first)).close)
                self._ports = range(first + 1, first + _BLOCKS.step)
                self._given = 0
                return
        raise AssertionError(f"no block of ports is free from {_BLOCKS.start} to {_BLOCKS.stop}")

    def take(self, together: int) -> int:
        """Return the first of so many free ports in a row, each given again only after all others."""
        for _ in self._ports:
            if self._given + together > len(self._ports):
                self._given = 0
            ports = self._ports[self._given : self._given + together]
            self._given += together
            if all(map(_is_free, ports)):
                return ports[0]
        raise AssertionError(f"no {together} ports in a row are free in {self._ports}")


@functools.cache
def _block() -> Block:
    return Block()


def _is_free(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
        return True
    return False


def free_port(together: int = 1) -> int:
    """Return a loopback port that nobody listens on, with as many free ones in a row as are wanted together."""
    return _block().take(together)
