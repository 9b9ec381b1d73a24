"""Import all that the product may ever import, after the image has been trimmed; a name that has gone fails the build.

Imports within functions count: a role that is started loads little, and would fail at the first call instead.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

OURS = ("services", "tickwatch")
OPTIONAL = "services/command_line/top/"
"""What needs an extra, which the image is without."""


def imported(source: Path) -> Iterator[str]:
    """Yield the modules that a file names in its imports, wherever they stand."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def main() -> None:
    """Import everything; exits with 1 and the names of what is not there."""
    names = set()
    for package in OURS:
        folder = Path(next(iter(importlib.import_module(package).__path__)))
        for source in folder.rglob("*.py"):
            if not source.relative_to(folder.parent).as_posix().startswith(OPTIONAL):
                names |= {*imported(source)}
    missing = []
    for name in sorted(name for name in names if not f"{name}/".replace(".", "/").startswith(OPTIONAL)):
        try:
            importlib.import_module(name)
        except ImportError as error:
            missing.append(f"{name}: {error}")
    sys.exit("\n".join(missing) or None)


if __name__ == "__main__":
    main()
