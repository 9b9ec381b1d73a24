"""Numbers in text are those in the digits 0 to 9, and nothing that only a program would read as one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.numbers import number, whole

WIDE = "\uff11\uff10"  # 10 in the digits of East Asian type
NO_NUMBERS = [
    "",
    " ",
    " 10",
    "10 ",
    "10\n",
    "1_0",
    WIDE,
    "0x10",
    "1:30",
    "10m",
    "--1",
    "1 0",
    "1,5",
    "nan",
    "inf",
    "ten",
]


@given(st.integers(-(10**18) + 1, 10**18 - 1))
def test_whole_numbers_are_read_as_they_are_written(value: int):
    """What is written in plain digits is that number, as a whole one and as any."""
    assert (whole(str(value)), number(str(value))) == (value, float(value))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_read_to_the_last_bit(value: float):
    """What Python writes of a number is that number."""
    assert number(repr(value)) == value


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_what_is_no_number(text: str):
    """Blanks, underscores, other scripts' digits and other bases are refused, though Python reads some of them."""
    assert whole(text) is None
    assert number(text) is None


@pytest.mark.parametrize("text", ["10.0", "10.", "+10", "1e1", "010", "-.5"])
def test_what_is_no_whole_number(text: str):
    """A fraction's point, an exponent, a plus and a leading zero do not belong into one; numbers have them."""
    assert whole(text) is None
    assert number(text) == float(text)
