"""Write the table of values in charts/tickwatch/README.md from the comments of values.yaml; --check compares instead.

    python charts/generate.py [--check]

A comment that starts with `# --` is the meaning of the value below it. A mapping with a comment is one row; one without
is a section, whose own values have theirs.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parent / "tickwatch"
BEGIN, END = "<!-- values: written by charts/generate.py -->", "<!-- end of values -->"


def described(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the path and the meaning of every value that has one, in the file's order."""
    path: list[tuple[int, str]] = []
    meaning = ""
    for line in text.splitlines():
        if comment := re.fullmatch(r"\s*# -- (.*)", line):
            meaning = comment[1]
        elif key := re.match(r"(\s*)([A-Za-z]\w*):", line):
            depth = len(key[1])
            path = [(indent, name) for indent, name in path if indent < depth]
            path.append((depth, key[2]))
            if meaning:
                yield tuple(name for _, name in path), meaning
            meaning = ""


def table(text: str) -> str:
    """Return the table of values."""
    values = yaml.safe_load(text)
    rows = ["| value | default | meaning |", "| --- | --- | --- |"]
    for path, meaning in described(text):
        default: Any = values
        for name in path:
            default = default[name]
        rows.append(f"| `{'.'.join(path)}` | `{json.dumps(default, ensure_ascii=False)}` | {meaning} |")
    return "\n".join(rows)


def main() -> int:
    """Write, or with --check tell whether writing would change anything."""
    readme = CHART / "README.md"
    before = readme.read_text(encoding="utf-8")
    start, end = before.index(BEGIN) + len(BEGIN), before.index(END)
    values = table((CHART / "values.yaml").read_text(encoding="utf-8"))
    after = f"{before[:start]}\n\n{values}\n\n{before[end:]}"
    if "--check" in sys.argv[1:]:
        if after != before:
            sys.stderr.write("charts/tickwatch/README.md is not what values.yaml says: python charts/generate.py\n")
        return int(after != before)
    readme.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
