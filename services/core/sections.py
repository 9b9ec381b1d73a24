"""Sections of settings: what may stand in them, and a reader that names every problem at once.

A section is an immutable struct of msgspec: importing pydantic would cost a collector's run as much as importing httpx,
every minute. msgspec converts the plain values, and its Meta says within which bounds a number lies; the walk is ours
because msgspec stops at the first problem. Pure: it knows no file, no variable, and not what the settings are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar, Union, get_args, get_origin

import msgspec

from services.core.numbers import whole

Steps = tuple[str | int, ...]
"""Where a value stands: keys, and positions in lists."""

REQUIRED = msgspec.NODEFAULT
"""Stands for the default of a field that has none."""

_SECTION = "input should be a section of settings, each with its key"
_EXPECTED: dict[object, str] = {
    str: "input should be text, in quotes where it looks like a number",
    Path: "input should be the path of a file, as text",
    bool: "input should be true or false",
    int: "input should be a whole number",
    float: "input should be a number",
    tuple: "input should be a list",
}
_BOUNDS: tuple[tuple[str, str, Callable[[Any, Any], bool]], ...] = (
    ("gt", "greater than", lambda value, bound: value > bound),
    ("ge", "greater than or equal to", lambda value, bound: value >= bound),
    ("lt", "less than", lambda value, bound: value < bound),
    ("le", "less than or equal to", lambda value, bound: value <= bound),
)


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """What stands below a key. A subclass's `__post_init__` raises ValueError where its values do not go together."""

    def replaced(self, **changes: object) -> Self:
        """Return a copy with these fields instead."""
        return msgspec.structs.replace(self, **changes)

    def given(self) -> dict[str, Any]:
        """Return what is not None, by its name."""
        return {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}


SectionType = TypeVar("SectionType", bound=Section)


class Secret:
    """A text that no representation shows."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text."""
        return self._text

    def __repr__(self) -> str:
        return "Secret('**********')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


@dataclass(frozen=True, slots=True)
class Checked:
    """Stands in an Annotated type: returns the value as it is kept, or raises ValueError with what is wrong."""

    check: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Split:
    """Stands in the Annotated type of a list that may also come as one text, its parts joined by commas."""


class Problem(NamedTuple):
    """Something that is wrong."""

    steps: Steps
    text: str
    """What is wrong with it; empty where the key itself is."""
    known: tuple[str, ...] = ()
    """The keys that there are instead."""


class _Wrong:
    """What the reader returns for a value whose problems it has noted."""


_WRONG = _Wrong()


def read_section(kind: type[SectionType], values: object) -> tuple[SectionType | None, list[Problem]]:
    """Return the section that plain values make and no problem, or none and every problem, in the sections' order."""
    reader = _Reader()
    section = reader.section(kind, values, ())
    return (None, reader.problems) if isinstance(section, _Wrong) else (section, [])


def section_fields(kind: type[Section]) -> Iterator[tuple[str, Any, object]]:
    """Yield a section's fields: name, type, and default, REQUIRED where a value has to be given."""
    for field in msgspec.structs.fields(kind):
        factory = field.default_factory
        yield field.name, field.type, field.default if factory is msgspec.NODEFAULT else factory()


def is_section(kind: object) -> bool:
    """Tell whether a type is that of a section."""
    return isinstance(kind, type) and issubclass(kind, Section)


class _Reader:
    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def section(self, kind: type[SectionType], values: object, steps: Steps) -> SectionType | _Wrong:
        if not isinstance(values, Mapping):
            return self._wrong(steps, _SECTION)
        before = len(self.problems)
        read: dict[str, Any] = {}
        names = []
        for name, type_, default in section_fields(kind):
            names.append(name)
            if name in values:
                read[name] = self._value(type_, values[name], (*steps, name))
            elif default is REQUIRED:
                self._wrong((*steps, name), "field required")
        self.problems += [Problem((*steps, str(key)), "", tuple(names)) for key in values if key not in names]
        return _WRONG if len(self.problems) > before else self._checked(lambda: kind(**read), steps)

    def _value(self, kind: Any, value: object, steps: Steps) -> Any:
        if is_section(kind):
            return self.section(kind, value, steps)
        readers = {
            Annotated: self._annotated,
            Literal: self._choice,
            Mapping: self._mapping,
            tuple: self._tuple,
            Union: self._optional,
            UnionType: self._optional,
        }
        return readers.get(get_origin(kind), self._scalar)(kind, value, steps)

    def _optional(self, kind: Any, value: object, steps: Steps) -> Any:
        (given,) = (member for member in get_args(kind) if member is not type(None))
        return None if value is None else self._value(given, value, steps)

    def _annotated(self, kind: Any, value: object, steps: Steps) -> Any:
        base, *extras = get_args(kind)
        if isinstance(value, str) and Split() in extras:
            value = [part.strip() for part in value.split(",") if part.strip()]
        read = self._value(base, value, steps)
        for extra in extras:
            if isinstance(read, _Wrong):
                break
            if isinstance(extra, Checked):
                read = self._checked(lambda check=extra.check, read=read: check(read), steps)  # type: ignore[misc]
            elif isinstance(extra, msgspec.Meta):
                read = self._bounded(extra, read, steps)
        return read

    def _mapping(self, kind: Any, values: object, steps: Steps) -> Any:
        key_type, value_type = get_args(kind)
        if not isinstance(values, Mapping):
            return self._wrong(steps, _SECTION)
        read = {}
        for key, value in values.items():
            below = (*steps, str(key))
            if get_origin(key_type) is Literal and key not in get_args(key_type):
                self.problems.append(Problem(below, "", get_args(key_type)))
            else:
                name = self._value(key_type, key, below)
                read[name] = self._value(value_type, value, below)
        return read

    def _tuple(self, kind: Any, values: object, steps: Steps) -> Any:
        if not isinstance(values, list | tuple):
            return self._wrong(steps, _EXPECTED[tuple])
        return tuple(self._value(get_args(kind)[0], value, (*steps, place)) for place, value in enumerate(values))

    def _choice(self, kind: Any, value: object, steps: Steps) -> Any:
        if value in get_args(kind):
            return value
        *others, last = [repr(choice) for choice in get_args(kind)]
        return self._wrong(steps, f"input should be {', '.join(others)} or {last}")

    def _scalar(self, kind: Any, value: object, steps: Steps) -> Any:
        if kind in (str, Path, Secret):
            if isinstance(value, str):
                return kind(value)
            return self._wrong(steps, _EXPECTED[Path if kind is Path else str])
        if isinstance(value, str) and kind is int:
            value = whole(value)
        try:
            number = msgspec.convert(value, kind, strict=kind is int)
        except msgspec.ValidationError:
            return self._wrong(steps, _EXPECTED[kind])
        if isinstance(number, float) and not math.isfinite(number):
            return self._wrong(steps, "input should be a finite number")
        return number

    def _bounded(self, bounds: msgspec.Meta, value: Any, steps: Steps) -> Any:
        for name, words, holds in _BOUNDS:
            bound = getattr(bounds, name)
            if bound is not None and not holds(value, bound):
                return self._wrong(steps, f"input should be {words} {bound}")
        return value

    def _checked(self, work: Callable[[], Any], steps: Steps) -> Any:
        try:
            return work()
        except ValueError as error:
            return self._wrong(steps, str(error))

    def _wrong(self, steps: Steps, text: str) -> _Wrong:
        self.problems.append(Problem(steps, text))
        return _WRONG
