"""Rows under titles: every column is as wide as what it holds, whatever colours it has."""

from __future__ import annotations

import click

from services.command_line.tables import table


def test_columns_are_as_wide_as_what_they_hold() -> None:
    """Words begin in one column, numbers end in one, titles stand over both, and no line ends in blanks."""
    drawn = table(["Metric", "Price", "Note"], [["SIM:AAAUSD", "1.5", ""], ["SIM:B", "12,000.5", "x"]], left={"Metric"})

    assert drawn == (
        "\n"
        " Metric          Price   Note\n"
        " ────────────────────────────\n"
        " SIM:AAAUSD        1.5\n"
        " SIM:B        12,000.5      x\n"
        "\n"
    )  # fmt: skip


def test_titles_stand_without_rows() -> None:
    """A table of nothing is its titles."""
    assert table(["Rank", "Metric"], []) == "\n Rank   Metric\n ─────────────\n\n"


def test_colours_take_no_room() -> None:
    """What is styled is aligned as if it were not."""
    rows = [["SIM:AAAUSD", "+1.5 %"], ["SIM:B", "-12.5 %"]]
    styled = [[click.style(name, bold=True), click.style(change, fg="red")] for name, change in rows]

    drawn = table(["Metric", "24 h"], styled, left={"Metric"})

    assert click.unstyle(drawn) == table(["Metric", "24 h"], rows, left={"Metric"})
    assert "\x1b[1mSIM:B\x1b[0m" in drawn


def test_what_is_too_wide_loses_its_spare_columns() -> None:
    """A narrow terminal gets fewer columns, the least needed gone first, and whole ones; a wide one gets all."""
    titles, row = ["Metric", "Price", "Note", "Age"], ["SIM:AAAUSD", "12,000.5", "of May", "1 min"]

    def titles_at(width: float) -> list[str]:
        return table(titles, [row], spare=("Note", "Age"), width=width).split("\n")[1].split()

    whole = len(table(titles, [row]).split("\n")[2])
    assert titles == titles_at(whole)
    assert ["Metric", "Price", "Age"] == titles_at(whole - 1)
    assert ["Metric", "Price"] == titles_at(20)
    assert ["Metric", "Price"] == titles_at(5)
