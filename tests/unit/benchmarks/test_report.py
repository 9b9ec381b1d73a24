"""The page keeps what people wrote on it, and says what was missed and what was not measured."""

from __future__ import annotations

from benchmarks.report import Report, Table, kept_remarks, number
from benchmarks.statistics import Bound, Goal, Spread


def test_a_missed_goal_stands_out_and_an_absent_peer_is_told():
    """Goals come first, each with its limit, median, spread and verdict."""
    report = Report()
    report.goal(Goal("time / floor", Bound.AT_MOST, 1.3, Spread(1.56, 1.4, 2.0)))
    report.skip("VictoriaMetrics", "not on this machine")
    report.table(Table("Times", ["server", "ms"], [["ours", "0.5"]]))

    page = report.render(versions=[("Python", "3.11")], command="make bench")

    assert "| time / floor | at most 1.3 | 1.56 | 1.4..2 | **missed by 20 %** |" in page
    assert "- VictoriaMetrics: not on this machine" in page
    assert (
        page.index("## Goals")
        < page.index("## Figures")
        < page.index("| ours | 0.5 |")
        < page.index("| Python | 3.11 |")
    )


def test_remarks_survive_a_new_page(tmp_path):
    """The part under Remarks is taken over word by word, with its own headings and without what follows it."""
    page = tmp_path / "page.md"
    remarks = "## Remarks\n\nWhy it was missed.\n\n### In detail\n\nMore."
    page.write_text(Report().render(versions=[], command="c", remarks=remarks), encoding="utf-8")

    kept = kept_remarks(page)

    assert remarks == kept.strip()
    assert page.read_text(encoding="utf-8").count(remarks) == 1


def test_a_page_that_is_not_there_has_no_remarks(tmp_path):
    """The first page starts without any."""
    assert not kept_remarks(tmp_path / "none.md")


def test_numbers_have_three_digits_and_a_spread():
    """Small ones keep their digits, large ones are grouped."""
    assert "0.512 (0.5..0.6)" == number(Spread(0.0005123, 0.0005, 0.0006), factor=1e3)
    assert "2,908 (999..12,346)" == number(Spread(2908.4, 999, 12345.6))
