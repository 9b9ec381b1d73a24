"""Which rules are in force: read anew when they change, the last good ones kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.alerter.rules.rulebook import RuleBook
from services.core.catalog.base import Catalog, FixedCatalog, Market
from services.core.catalog.rule_source import FileRules, FixedRules
from services.core.clock import ManualClock
from services.core.errors import InvalidInputError, InvalidSettingError
from services.core.model import Measure, Series
from services.core.rules import Missing, Rule

MARKETS = FixedCatalog(Market("SIM", ("BBB", "AAA"), (Measure.PRICE,)))


def read_names(path: Path) -> tuple[Rule, ...]:
    """Read a missing rule a line; a line that is no name is an error."""
    return tuple(Rule(name, Missing()) for name in path.read_text().split("\n"))


class FailingCatalog(Catalog):
    """Fails as long as `problem` is set."""

    problem = ""

    def read(self) -> tuple[Market, ...]:
        if self.problem:
            raise InvalidSettingError("catalog", self.problem)
        return MARKETS.read()


def test_rules_and_expected_series_are_in_order() -> None:
    """Rules by name, series by metric, whatever the order of their sources."""
    book = RuleBook(FixedRules((Rule("b", Missing()), Rule("a", Missing()))), MARKETS, ManualClock(5.0))

    assert ["a", "b"] == [rule.name for rule in book.current.rules]
    assert (Series("SIM:AAA", Measure.PRICE), Series("SIM:BBB", Measure.PRICE)) == book.current.expected
    assert 5.0 == book.current.loaded_at


def test_a_file_is_read_anew_when_it_has_changed(tmp_path: Path) -> None:
    """And not otherwise: `loaded_at` says when."""
    path, clock = tmp_path / "rules", ManualClock(5.0)
    path.write_text("one")
    book = RuleBook(FileRules(path, read_names), MARKETS, clock)

    clock.advance(60)
    assert 5.0 == book.refresh().loaded_at
    path.write_text("one\ntwo")
    assert ["one", "two"] == [rule.name for rule in book.refresh().rules]
    assert 65.0 == book.current.loaded_at


def test_a_bad_file_leaves_the_last_good_rules_in_force(tmp_path: Path) -> None:
    """With the reason, until it is good again; a file that has gone is one that is bad."""
    path = tmp_path / "rules"
    path.write_text("one")
    book = RuleBook(FileRules(path, read_names), MARKETS, ManualClock(5.0))

    path.write_text("not a name")
    assert "'not a name'" in book.refresh().error
    assert "'not a name'" in book.refresh().error
    path.unlink()
    assert "No such file" in book.refresh().error
    assert ["one"] == [rule.name for rule in book.current.rules]
    path.write_text("three")
    assert "" == book.refresh().error
    assert ["three"] == [rule.name for rule in book.current.rules]


def test_a_catalog_that_fails_for_a_while_is_an_error_for_as_long() -> None:
    """What was expected stays expected, and the error ends with its cause."""
    catalog = FailingCatalog()
    book = RuleBook(FixedRules(), catalog, ManualClock(5.0))
    catalog.problem = "gone"

    assert "catalog: gone" == book.refresh().error
    assert 2 == len(book.current.expected)
    catalog.problem = ""
    assert "" == book.refresh().error


def test_what_is_wrong_at_first_is_an_error(tmp_path: Path) -> None:
    """There is nothing to go on with."""
    path = tmp_path / "rules"
    path.write_text("not a name")

    with pytest.raises(InvalidInputError, match="'not a name'"):
        RuleBook(FileRules(path, read_names), MARKETS, ManualClock(5.0))
