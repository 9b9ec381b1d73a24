"""YAML files as people write them: every problem is reported, with its line and what would be right.

Settings, catalogs and rules are read through here. It knows YAML and nothing of what the keys mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

from services.core.errors import InvalidSettingError
from services.core.numbers import number, whole
from services.core.suggesting import nearest

Scalar = str | int | float | bool | None

_MAPPING, _LIST, _PLAIN = "a mapping", "a list", "a plain value"


class Node:
    """A value of a document and where it stands: `where` reads FILE:LINE, lines count from 1."""

    def __init__(self, node: yaml.Node, path: Path) -> None:
        self._node = node
        self._path = path
        self.where = f"{path}:{node.start_mark.line + 1}"

    def scalar(self) -> Scalar:
        """Return the plain value; raise InvalidSettingError for a mapping or a list."""
        if not isinstance(self._node, yaml.ScalarNode):
            raise InvalidSettingError(self.where, f"a plain value was expected, not {self.kind}")
        text = str(self._node.value)
        try:
            value = yaml.SafeLoader("").construct_object(self._node)
        except ValueError:  # it looks like a date, and is none
            return text
        if isinstance(value, str | bool) or value is None:
            return value
        if isinstance(value, int):
            return text if whole(text) is None else value  # YAML's 1_0, 010 and 1:30 are 10, 8 and 90
        return value if isinstance(value, float) and (number(text) is not None or not math.isfinite(value)) else text

    @property
    def empty(self) -> bool:
        """Whether nothing is given: a key without a value."""
        return bool(self._node.tag == "tag:yaml.org,2002:null")

    @property
    def kind(self) -> str:
        """What the value is, in words."""
        if isinstance(self._node, yaml.MappingNode):
            return _MAPPING
        return _LIST if isinstance(self._node, yaml.SequenceNode) else _PLAIN

    def items(self) -> Iterator[Node]:
        """Walk a list; raise InvalidSettingError for anything else."""
        if not isinstance(self._node, yaml.SequenceNode):
            raise InvalidSettingError(self.where, f"a list was expected, not {self.kind}")
        return (Node(child, self._path) for child in self._node.value)

    def entries(self) -> list[tuple[str, str, Node]]:
        """Return a mapping's keys, where they stand, and their values, in their order; a key may stand twice.

        For readers that report every problem instead of the first. Raises InvalidSettingError for anything else.
        """
        if not isinstance(self._node, yaml.MappingNode):
            raise InvalidSettingError(self.where, f"a mapping was expected, not {self.kind}")
        return [
            (str(key.value), f"{self._path}:{key.start_mark.line + 1}", Node(value, self._path))
            for key, value in self._node.value
        ]

    def mapping(self, known: Iterable[str] | None = None) -> dict[str, Node]:
        """Return a mapping by key.

        Raises InvalidSettingError for anything else, for a key given twice, and for a key that is not `known` (None:
        any key will do), naming the nearest known one.
        """
        allowed = None if known is None else sorted(known)
        result: dict[str, Node] = {}
        for key, line, value in self.entries():
            if key in result:
                raise InvalidSettingError(line, f"the key {key!r} is given twice", f"first at {result[key].where}")
            if allowed is not None and key not in allowed:
                raise InvalidSettingError(line, f"unknown key {key!r}", nearest(key, allowed))
            result[key] = value
        return result

    def plain(self) -> object:
        """Return the whole value as dicts, lists and plain values, refusing duplicate keys on every level."""
        if self.kind == _MAPPING:
            return {key: child.plain() for key, child in self.mapping().items()}
        if self.kind == _LIST:
            return [child.plain() for child in self.items()]
        return self.scalar()

    def at(self, path: Iterable[str | int]) -> Node:
        """Return the node at a path of keys and positions, or the nearest one above it that exists."""
        here = self
        for step in path:
            children: dict[str | int, Node] = {}
            if here.kind == _MAPPING:
                children.update(here.mapping())
            elif here.kind == _LIST:
                children = dict(enumerate(here.items()))
            if step not in children:
                break
            here = children[step]
        return here


class ValueNode(Node):
    """A value that was never a file's, such as an object of an API: `where` is its path, as in spec.pairs[0]."""

    def __init__(self, value: object, where: str) -> None:
        self._value = value
        self.where = where

    def scalar(self) -> Scalar:
        if isinstance(self._value, str | int | float | bool) or self._value is None:
            return self._value
        raise InvalidSettingError(self.where, f"a plain value was expected, not {self.kind}")

    @property
    def empty(self) -> bool:
        return self._value is None

    @property
    def kind(self) -> str:
        if isinstance(self._value, dict):
            return _MAPPING
        return _LIST if isinstance(self._value, list) else _PLAIN

    def items(self) -> Iterator[Node]:
        if not isinstance(self._value, list):
            raise InvalidSettingError(self.where, f"a list was expected, not {self.kind}")
        return (ValueNode(child, f"{self.where}[{place}]") for place, child in enumerate(self._value))

    def entries(self) -> list[tuple[str, str, Node]]:
        if not isinstance(self._value, dict):
            raise InvalidSettingError(self.where, f"a mapping was expected, not {self.kind}")
        found = [(str(key), f"{self.where}.{key}", value) for key, value in self._value.items()]
        return [(key, where, ValueNode(value, where)) for key, where, value in found]


def load_document(path: Path) -> Node | None:
    """Parse one YAML file; None where it is empty.

    Raises InvalidSettingError when the file cannot be read or is not YAML, with the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except OSError as error:
        raise InvalidSettingError(str(path), f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidSettingError(str(path), "is not UTF-8 text") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise InvalidSettingError(where, f"is not YAML: {getattr(error, 'problem', None) or error}") from error
    return None if node is None else Node(node, path)
