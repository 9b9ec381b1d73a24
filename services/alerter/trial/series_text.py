"""Series as short text, for tests of rules: values one slot after the other, separated by blanks.

    5           a point
    _           no point
    5x10        ten points of 5
    _x3         three slots without a point
    1+2x4       a progression: 1 3 5 7
    9-2x4       a progression: 9 7 5 3

`xN` always stands for N slots (promtool's `5x10` are eleven).
"""

from __future__ import annotations

import math
import re

import numpy as np

from services.core.errors import InvalidInputError
from services.core.model import Floats

MOST_SLOTS = 100_000
"""Two months: a slip of the finger should not fill the memory."""

_NUMBER = r"[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?"
_ITEM = re.compile(rf"(?P<first>_|[+-]?(?:{_NUMBER}))(?:(?P<step>[+-](?:{_NUMBER}))?x(?P<count>[0-9]{{1,6}}))?")
_HINT = "a number, _ for no point, 5x10 for ten points of 5, 1+2x4 for 1 3 5 7"


def series_values(text: str, field: str = "values") -> Floats:
    """Return the values of a text, NaN where there is no point; raise InvalidInputError naming what it cannot read."""
    values: list[float] = []
    for item in text.split():
        found = _ITEM.fullmatch(item)
        if found is None or (found["first"] == "_" and found["step"]):
            raise InvalidInputError(field, f"{item!r} is not a value", _HINT)
        count = int(found["count"] or 1)
        if not count or len(values) + count > MOST_SLOTS:
            raise InvalidInputError(field, f"{item!r} is {count} slots", f"1 to {MOST_SLOTS} slots in all")
        first = math.nan if found["first"] == "_" else float(found["first"])
        step = float(found["step"] or 0)
        values += [first + step * place for place in range(count)]
    if any(math.isinf(value) for value in values):
        raise InvalidInputError(field, "a value is infinite", "finite numbers")
    return np.array(values, np.float64)
