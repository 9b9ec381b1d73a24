"""Headers that weigh what is accepted are read as RFC 9110 has them."""

from __future__ import annotations

import pytest

from services.gateway.accepting import prefers_csv, takes_gzip


@pytest.mark.parametrize(
    ("accept", "csv"),
    [
        ("", False),
        ("*/*", False),
        ("text/html, application/xhtml+xml, */*;q=0.8", False),
        ("application/xml", False),
        ("text/csv", True),
        ("TEXT/CSV", True),
        ("text/csv; header=present; q=0.5", True),
        ("text/*", True),
        ("text/csv, */*", True),
        ("text/csv;q=0.9, */*;q=0.1", True),
        ("text/csv;q=0.1, */*", False),
        ("application/json, text/csv", False),
        ("application/json, text/csv;q=0.1", False),
        ("application/json;q=0.1, text/csv", True),
        ("text/csv;q=0", False),
        ("application/json;q=0, text/csv;q=0", False),
        ("text/csvx", False),
        ("text/csv;q=much", False),
    ],
)
def test_csv_is_for_who_would_rather_have_it(accept: str, *, csv: bool) -> None:
    """By name, by range or by weight; JSON is for everybody else."""
    assert prefers_csv(accept) is csv


@pytest.mark.parametrize(
    ("encodings", "gzip"),
    [
        ("", False),
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("*", True),
        ("gzip;q=0, *", False),
        ("identity", False),
    ],
)
def test_gzip_is_for_who_takes_it(encodings: str, *, gzip: bool) -> None:
    """A weight of 0 refuses it, any other allows for it."""
    assert takes_gzip(encodings) is gzip
