"""Reading a YAML document to its end: every problem is noted with its line, and reading goes on behind it.

What files of catalogs, rules and tests of rules have in common. It knows nothing of what the keys mean.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from services.core.documents import Node, Scalar
from services.core.errors import InvalidSettingError
from services.core.suggesting import nearest


class Reading:
    """One reading of a document. Methods note what is wrong and return what stands for nothing: {}, [], "" or None."""

    def __init__(self) -> None:
        self.problems: list[InvalidSettingError] = []

    def say(self, where: str, problem: str, hint: str = "") -> None:
        """Note a problem; `where` is FILE:LINE."""
        self.problems.append(InvalidSettingError(where, problem, hint))

    def finish(self, path: Path) -> None:
        """Raise one InvalidSettingError that lists every problem by line, if there are any."""
        if not self.problems:
            return
        first, *more = sorted(self.problems, key=lambda problem: _line(problem, path))
        problem = str(first).removeprefix(f"{first.field}: ")
        raise InvalidSettingError(first.field, "\n".join([problem, *map(str, more)]))

    def mapping(self, node: Node, known: Collection[str] | None = None) -> dict[str, Node]:
        """Return a mapping by key; keys that are not `known` (None: all are) and keys given twice are left out."""
        result: dict[str, Node] = {}
        try:
            entries = node.entries()
        except InvalidSettingError as error:
            self.problems.append(error)
            return {}
        for key, where, value in entries:
            if known is not None and key not in known:
                self.say(where, f"unknown key {key!r}", nearest(key, known))
            elif key in result:
                self.say(where, f"the key {key!r} is given twice", f"first at {result[key].where}")
            else:
                result[key] = value
        return result

    def items(self, node: Node) -> list[Node]:
        """Return a list's items."""
        try:
            return list(node.items())
        except InvalidSettingError as error:
            self.problems.append(error)
            return []

    def scalar(self, node: Node) -> Scalar:
        """Return a plain value."""
        try:
            return node.scalar()
        except InvalidSettingError as error:
            self.problems.append(error)
            return None

    def text(self, node: Node, what: str = "a name") -> str:
        """Return text that is not empty; `what` says what it stands for."""
        before = len(self.problems)
        value = self.scalar(node)
        if isinstance(value, str) and value:
            return value
        if len(self.problems) == before:
            self.say(node.where, f"{value!r} is not {what}", "text was expected")
        return ""

    def names(self, node: Node, what: str = "a name") -> list[tuple[str, str]]:
        """Return a list of texts, each with where it stands."""
        return [(text, item.where) for item in self.items(node) if (text := self.text(item, what))]


def _line(problem: InvalidSettingError, path: Path) -> int:
    line = problem.field.removeprefix(f"{path}:")
    return int(line) if line.isdigit() else 0
