"""Take out of the image what a running Tickwatch never needs, and compile what is left. Run while the image is built.

It knows the Python that runs it, and no paths of a particular base image. The package database of the system stays,
because scanners read from it what is installed.
"""

from __future__ import annotations

import compileall
import py_compile
import shutil
import site
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

ENVIRONMENT = Path("/opt/tickwatch")

_INSTALLERS = ("pip", "setuptools", "wheel", "pkg_resources", "_distutils_hack", "distutils-precedence.pth")
"""What installs packages; by its own name, and with a version as `pip-24.0.dist-info`."""
_STANDARD_LIBRARY = ("ensurepip", "idlelib", "lib2to3", "pydoc_data", "test", "tkinter", "turtledemo", "venv")
_UNUSED_PACKAGES = (
    "aiohappyeyeballs",
    "aiohttp",
    "aiohttp_retry",
    "aiosignal",
    "frozenlist",
    "multidict",
    "propcache",
    "yarl",
    "pygments",
)
"""Packages that are installed because others name them, for parts of theirs that nobody here imports: the asynchronous
client of Kubernetes, and rich's colours for source code. `check.py` proves it."""
_UNUSED_PARTS = (
    "kubernetes/aio",
    "numpy/distutils",
    "numpy/f2py",
)
"""Parts that packages do without unless asked: half of Kubernetes' client is a second, asynchronous one."""
_SYSTEM = (
    # What iconv converts with; Python has its own.
    "/usr/lib/*/gconv",
    "/usr/share/doc",
    "/usr/share/info",
    "/usr/share/locale",
    "/usr/share/man",
    "/usr/share/python-wheels",
    "/var/cache",
    "/var/lib/apt/lists",
    "/var/log",
)


def remove(path: Path) -> None:
    """Remove a file or a folder; one that is absent is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def belongs(name: str, packages: Sequence[str]) -> bool:
    """Tell whether an entry of a folder of packages is one of these, or says what version of it is there."""
    return any(name == known or name.startswith(f"{known}-") for known in packages)


def remove_packages(folder: Path, packages: Sequence[str]) -> None:
    """Remove packages, and what says that they are there, from a folder of packages."""
    for entry in list(folder.iterdir()) if folder.is_dir() else []:
        if belongs(entry.name, packages):
            remove(entry)


def trim(library: Path) -> None:
    """Remove what nobody needs; `library` is the standard library."""
    for folder in {Path(folder) for folder in [*site.getsitepackages(), sysconfig.get_path("purelib")]}:
        remove_packages(folder, _INSTALLERS)
    for folder in ENVIRONMENT.glob("lib/python3*/site-packages"):
        remove_packages(folder, _UNUSED_PACKAGES)
        for part in _UNUSED_PARTS:
            remove(folder / part)
    for name in _STANDARD_LIBRARY:
        remove(library / name)
    for program in ("/usr/bin", "/usr/local/bin"):
        for entry in Path(program).glob("pip*"):
            remove(entry)
    for pattern in _SYSTEM:
        for path in list(Path("/").glob(pattern.lstrip("/"))):
            remove(path)
    for name in ("log", "cache", "tmp"):
        Path("/var", name).mkdir(mode=0o1777 if name == "tmp" else 0o755, exist_ok=True)
    Path("/var/lib/tickwatch").mkdir(exist_ok=True)


def compiles(library: Path) -> bool:
    """Compile everything anew, and tell whether it all could be."""
    sources = [library, *ENVIRONMENT.glob("lib/python3*/site-packages")]
    for source in sources:
        for cache in list(source.rglob("__pycache__")):
            remove(cache)
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    return all(compileall.compile_dir(source, quiet=1, workers=0, invalidation_mode=unchecked) for source in sources)


def main() -> None:
    """Trim and compile; exits with 1 where something does not compile."""
    library = Path(sysconfig.get_path("stdlib"))
    trim(library)
    sys.exit(not compiles(library))


if __name__ == "__main__":
    main()
