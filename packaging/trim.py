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
from pathlib import Path

ENVIRONMENT = Path("/opt/tickwatch")

_INSTALLERS = ("pip", "setuptools", "wheel", "pkg_resources", "_distutils_hack", "distutils-precedence.pth")
"""What installs packages; by its own name, and with a version as `pip-24.0.dist-info`."""
_STANDARD_LIBRARY = ("ensurepip", "idlelib", "lib2to3", "pydoc_data", "test", "tkinter", "turtledemo", "venv")
_SYSTEM = (
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


def is_installer(name: str) -> bool:
    """Tell whether a file of a folder of packages belongs to an installer."""
    return any(name == known or name.startswith(f"{known}-") for known in _INSTALLERS)


def main() -> None:
    """Trim and compile; exits with 1 where something does not compile."""
    library = Path(sysconfig.get_path("stdlib"))
    folders = {Path(folder) for folder in [*site.getsitepackages(), sysconfig.get_path("purelib")]}
    for folder in folders:
        for entry in list(folder.iterdir()) if folder.is_dir() else []:
            if is_installer(entry.name):
                remove(entry)
    for name in _STANDARD_LIBRARY:
        remove(library / name)
    for program in ("/usr/bin", "/usr/local/bin"):
        for entry in Path(program).glob("pip*"):
            remove(entry)
    for path in _SYSTEM:
        remove(Path(path))
    for cache in [*library.rglob("__pycache__"), *ENVIRONMENT.rglob("__pycache__")]:
        remove(cache)
    sources = [library, *ENVIRONMENT.glob("lib/python3*/site-packages")]
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compiled = [compileall.compile_dir(source, quiet=1, workers=0, invalidation_mode=unchecked) for source in sources]
    for name in ("log", "cache", "tmp"):
        Path("/var", name).mkdir(mode=0o1777 if name == "tmp" else 0o755, exist_ok=True)
    Path("/var/lib/tickwatch").mkdir(exist_ok=True)
    sys.exit(not all(compiled))


if __name__ == "__main__":
    main()
