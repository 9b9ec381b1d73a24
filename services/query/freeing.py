"""Memory that a large read takes goes back to the machine when it is over, which the C library does only by the way.

It knows nothing of what is read.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""
_TRIM_BYTES, _MMAP_BYTES = 2**20, 4 * 2**20


@contextlib.contextmanager
def giving_back() -> Iterator[None]:
    """Return all whole pages that have been freed to the machine in the end; does nothing where there is no glibc.

    What malloc_trim(3) leaves is the free end of the heap of every thread but the first. So from here on such an end
    goes back when it has grown to 1 MiB, and allocations from 4 MiB on have pages of their own. By itself glibc raises
    both limits to 32 MiB and more, as blocks of that size are freed (mallopt(3)).
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "malloc_trim"):
        yield
        return
    library.mallopt(_MMAP_THRESHOLD, _MMAP_BYTES)
    library.mallopt(_TRIM_THRESHOLD, _TRIM_BYTES)
    try:
        yield
    finally:
        library.malloc_trim(0)
