"""Freed memory is the machine's again, not the process's."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from services.query import freeing

MIB = 2**20

READ = """
import os, pathlib, threading
from services.query.freeing import giving_back

def resident():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def read():
    global used
    with giving_back():
        below = [bytes(2000) for _ in range(100 * 2**20 // 2000)]
        kept.append(bytes(2000))
        above = [bytes(2000) for _ in range(20 * 2**20 // 2000)]
        used = resident()
        del below, above

kept, before = [], resident()
thread = threading.Thread(target=read)
thread.start()
thread.join()
print(used - before, resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_memory_goes_back() -> None:
    """What a thread has used and freed leaves the process, below something that is still in use and above it."""
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", READ], cwd=root, env=os.environ, capture_output=True, text=True, timeout=120, check=True
    )
    used, left = map(int, done.stdout.split())

    assert used > 100 * MIB
    assert left < 12 * MIB


class OtherLibrary:
    """A C library of the same functions but for glibc's own, such as musl."""


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no malloc_trim, reading goes on as it would."""
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: OtherLibrary())
    done = False
    with freeing.giving_back():
        done = True

    assert done
