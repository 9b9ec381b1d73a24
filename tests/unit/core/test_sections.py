"""Sections are read from plain values, with every problem named at its place."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Annotated

import pytest
from msgspec import Meta

from services.core.sections import Checked, Problem, Secret, Section, Split, read_section


def even(value: int) -> int:
    """Refuse odd numbers."""
    if value % 2:
        raise ValueError(f"{value} is odd")
    return value


class Inner(Section, frozen=True):
    """A section below another."""

    name: str
    weight: Annotated[float, Meta(gt=0, le=10)] = 1.0


class Outer(Section, frozen=True):
    """One field of each kind."""

    inner: Inner = Inner(name="default")
    count: Annotated[int, Checked(even)] | None = None
    words: Annotated[tuple[str, ...], Split()] = ()
    file: Path | None = None
    secret: Secret | None = None
    on: bool = False

    def __post_init__(self) -> None:
        if self.on and self.file is None:
            raise ValueError("on needs a file")


def test_values_become_what_the_fields_say():
    """Texts of variables become numbers, paths, secrets and lists; what is not given has its default."""
    given = {"inner": {"name": "n", "weight": "2.5"}, "count": "4", "words": "a, b,", "file": "f", "on": "true"}

    outer, problems = read_section(Outer, given)

    assert not problems
    assert outer == Outer(inner=Inner(name="n", weight=2.5), count=4, words=("a", "b"), file=Path("f"), on=True)


def test_every_problem_is_named_at_its_place():
    """Wrong values, missing and unknown keys come together, in the order of the sections."""
    given = {"inner": {"weight": 11, "wieght": 1}, "count": 3, "words": [5]}

    outer, problems = read_section(Outer, given)

    assert outer is None
    assert problems == [
        Problem(("inner", "name"), "field required"),
        Problem(("inner", "weight"), "input should be less than or equal to 10"),
        Problem(("inner", "wieght"), "", ("name", "weight")),
        Problem(("count",), "3 is odd"),
        Problem(("words", 0), "input should be text, in quotes where it looks like a number"),
    ]


def test_values_that_do_not_go_together_are_the_section_s_problem():
    """What a section says of its values together stands at the section."""
    assert read_section(Outer, {"on": True}) == (None, [Problem((), "on needs a file")])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "-inf"])
def test_numbers_are_finite(value):
    """No setting is NaN or infinite, however it is written."""
    _, problems = read_section(Outer, {"inner": {"name": "n", "weight": value}})

    assert problems == [Problem(("inner", "weight"), "input should be a finite number")]


def test_a_secret_shows_nowhere():
    """Neither its own representation nor that of what holds it has the text; it is compared by it all the same."""
    outer, _ = read_section(Outer, {"secret": "sesame"})

    assert outer is not None
    assert outer.secret == Secret("sesame")
    assert outer.secret.reveal() == "sesame"
    assert "sesame" not in f"{outer!r} {outer} {copy.copy(outer.secret)}"
    assert hash(Secret("sesame")) != hash(Secret("other"))


def test_a_section_is_replaced_not_changed():
    """A copy with other values leaves the original; what is None does not count as given."""
    inner = Inner(name="n")

    assert inner.replaced(weight=3.0) == Inner(name="n", weight=3.0)
    assert inner.weight == 1.0
    assert Outer(count=2).given().keys() == {"inner", "count", "words", "on"}
