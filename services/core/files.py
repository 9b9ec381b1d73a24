"""What is known of a file without reading it, for whoever reads one again when it changes."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path


def stamp(*paths: Path) -> Hashable:
    """Return another value whenever one of the files is another than before; never raises.

    The inode counts too: a mounted ConfigMap or Secret is another file after each change, and may be as old and large.
    """
    return tuple(_stamp(path) for path in paths)


def _stamp(path: Path) -> Hashable:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
