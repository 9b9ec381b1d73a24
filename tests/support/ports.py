"""Free ports for servers that must know theirs before they start."""

from __future__ import annotations

import contextlib
import socket


def free_port(together: int = 1) -> int:
    """Return a loopback port that nobody listens on, with as many free ones in a row as are wanted together."""
    while True:
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError, OverflowError):
            first = stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
            for offset in range(1, together):
                stack.enter_context(socket.create_server(("127.0.0.1", first + offset)))
            return int(first)
