"""A catalog file is read as people write it, and every mistake in it is told with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.core.catalog.base import Market
from services.core.catalog.file import FileCatalog
from services.core.errors import InvalidSettingError
from services.core.model import MEASURES, Measure

EXCHANGES = ("KRAKEN", "SIM")


def read(tmp_path: Path, text: str) -> tuple[Market, ...]:
    """Read a catalog of this text."""
    path = tmp_path / "catalog.yaml"
    path.write_text(text)
    return FileCatalog(path, exchanges=EXCHANGES).read()


def test_markets_are_read_in_the_order_of_their_exchanges(tmp_path: Path) -> None:
    """Measures are all of them unless some are named, and stand in their own order."""
    text = """
markets:
  - exchange: SIM
    pairs: [BTCUSD]
    measures: [volume_1m, price]
  - exchange: KRAKEN
    pairs: [XRPUSD, BTCUSD]
"""
    assert (
        Market("KRAKEN", ("XRPUSD", "BTCUSD"), MEASURES),
        Market("SIM", ("BTCUSD",), (Measure.PRICE, Measure.VOLUME_1M)),
    ) == read(tmp_path, text)


def test_an_edit_counts_from_the_next_reading(tmp_path: Path) -> None:
    """A collector that stays up reads the file at each run."""
    path = tmp_path / "catalog.yaml"
    path.write_text("markets: [{exchange: KRAKEN, pairs: [BTCUSD]}]")
    catalog = FileCatalog(path)
    assert ("BTCUSD",) == catalog.read()[0].pairs
    path.write_text("markets: [{exchange: KRAKEN, pairs: [ETHUSD]}]")
    assert ("ETHUSD",) == catalog.read()[0].pairs


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("", None, "there are no markets"),
        ("markets: []", None, "there are no markets"),
        ("market: []", 1, "unknown key 'market' (did you mean 'markets'?)"),
        ("- KRAKEN", 1, "a mapping was expected, not a list"),
        ("markets: {exchange: KRAKEN}", 1, "a list was expected, not a mapping"),
        ("markets:\n- KRAKEN", 2, "a mapping was expected, not a plain value"),
        ("markets:\n- pairs: [A]", 2, "a market needs the key 'exchange'"),
        ("markets:\n- exchange: KRAKEN", 2, "a market needs the key 'pairs'"),
        ("markets:\n- exchange: KRAKN\n  pairs: [A]", 2, "unknown exchange 'KRAKN' (did you mean 'KRAKEN'?)"),
        ("markets:\n- exchange: kraken\n  pairs: [A]", 2, "unknown exchange 'kraken' (did you mean 'KRAKEN'?)"),
        ("markets:\n- exchange: [KRAKEN]\n  pairs: [A]", 2, "a plain value was expected, not a list"),
        ("markets:\n- exchange: KRAKEN\n  pairs: BTCUSD", 3, "a list was expected, not a plain value"),
        ("markets:\n- exchange: KRAKEN\n  pairs: []", 3, "there are no pairs"),
        ("markets:\n- exchange: KRAKEN\n  pairs: [btcusd]", 3, "'btcusd' is not a pair"),
        ("markets:\n- exchange: KRAKEN\n  pairs: [1]", 3, "1 is not a name"),
        ("markets:\n- exchange: KRAKEN\n  pairs: [A, B,\n   A]", 4, "the pair A is given twice"),
        ("markets:\n- exchange: KRAKEN\n  pairs: [A]\n  pairs: [B]", 4, "the key 'pairs' is given twice"),
        ("markets:\n- exchange: KRAKEN\n  pairs: [A]\n  measure: [price]", 4, "did you mean 'measures'?"),
        ("markets:\n- exchange: KRAKEN\n  pairs: [A]\n  measures: [prices]", 4, "did you mean 'price'?"),
        ("markets:\n- exchange: KRAKEN\n  pairs: [A]\n  measures: [price, price]", 4, "price is given twice"),
        ("markets:\n- exchange: KRAKEN\n  pairs: [A]\n  measures: []", 4, "there are no measures"),
        ("markets:\n- {exchange: SIM, pairs: [A]}\n- {exchange: SIM, pairs: [B]}", 3, "SIM is given twice"),
        ("markets: [", 2, "is not YAML"),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, text: str, line: int | None, problem: str) -> None:
    """And with what would be right."""
    with pytest.raises(InvalidSettingError) as refused:
        read(tmp_path, text)
    assert problem in str(refused.value)
    if line:
        assert f"{tmp_path / 'catalog.yaml'}:{line}: " in str(refused.value)


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    """In the order of their lines, so that one edit mends them all."""
    text = "markets:\n- exchange: KRAKN\n  pairs: [BTCUSD, btc, BTCUSD]\n  measure: x\n  measures: [prices]\n- 7\n"
    with pytest.raises(InvalidSettingError) as refused:
        read(tmp_path, text)
    lines = [int(line.split(":")[1]) for line in str(refused.value).splitlines()]
    assert [2, 3, 3, 4, 5, 6] == lines


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """By its name."""
    with pytest.raises(InvalidSettingError, match=r"none\.yaml: cannot be read"):
        FileCatalog(tmp_path / "none.yaml").read()
