"""Numbers as people write them in text: in the digits 0 to 9.

Python reads `1_0`, ` 10` and the digits of other scripts as 10, and YAML 1.1 reads `010` as 8 and `1:30` as 90. Who
wrote one of these has mistyped, or meant something else; here they are no numbers.
"""

from __future__ import annotations

import re

_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,99})")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


def whole(text: str) -> int | None:
    """Return the whole number that is written, None where none is: 10 and -3, not 10.0, +10 or 1e1."""
    return int(text) if _WHOLE.fullmatch(text) else None


def number(text: str) -> float | None:
    """Return the number that is written, infinite where it is too large, None where none is: 10, -0.5, 1e-3."""
    return float(text) if _NUMBER.fullmatch(text) else None
