"""What counts as a breach: rules as values, with every default filled in.

Pure: it knows neither files nor wire formats, and not how rules are evaluated. Constructing a rule checks it: each
wrong value raises InvalidInputError with the field's path as it stands in a rules file.
"""

from __future__ import annotations

import difflib
import enum
import functools
import hashlib
import json
import math
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Self

from services.core import names
from services.core.breaches import Severity
from services.core.errors import InvalidInputError
from services.core.words import DAY_SLOTS, SIGNED_MEASURES, Measure, Series

PLACEHOLDERS = (
    "metric",
    "measure",
    "value",
    "baseline",
    "ratio",
    "threshold",
    "points",
    "time",
    "rule",
    "severity",
)
"""What a message's template may hold, in braces."""

_NAME = re.compile(names.RULE)
_EXCHANGE = re.compile(r"[A-Z0-9_.*?-]{1,64}")
_METRIC = re.compile(r"[A-Z0-9_.:*?-]{1,128}")
_MOST_LABELS = 32
MOST_GLOBS = 100

_FACTOR = 3.0
_RESOLVE_FACTOR = 2.0


def check_name(name: str, field: str) -> None:
    """Raise InvalidInputError of this field for what cannot be a rule's name."""
    if not _NAME.fullmatch(name):
        raise InvalidInputError(field, f"{name!r} is not a rule's name", names.RULE_FORM)


class RatioMode(enum.StrEnum):
    """How a ratio treats the sign of values."""

    AUTO = "auto"
    """MAGNITUDE for measures that may be negative, LITERAL for the others."""
    MAGNITUDE = "magnitude"
    """The value's magnitude against the mean of magnitudes."""
    LITERAL = "literal"
    """The value against the mean; not applicable while the mean is not above zero."""


def check_globs(field: str, globs: Sequence[str], pattern: re.Pattern[str], right: str) -> None:
    """Raise InvalidInputError for too many globs, and for one that could fit nothing; `right` says what would do."""
    if len(globs) > MOST_GLOBS:
        raise InvalidInputError(field, f"{len(globs)} globs", f"at most {MOST_GLOBS}")
    for place, glob in enumerate(globs):
        if not pattern.fullmatch(glob):
            raise InvalidInputError(f"{field}[{place}]", f"{glob!r} does not fit", right)


@dataclass(frozen=True, slots=True)
class Selector:
    """Which series, by globs of the shell's kind (* and ?), case-sensitive; an empty tuple selects all."""

    exchanges: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    measures: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_globs("selector.exchanges", self.exchanges, _EXCHANGE, "an exchange or a glob of one, such as KRAKEN")
        check_globs("selector.metrics", self.metrics, _METRIC, "a metric or a glob of one, such as KRAKEN:*USD")
        if len(self.measures) > MOST_GLOBS:
            raise InvalidInputError("selector.measures", f"{len(self.measures)} globs", f"at most {MOST_GLOBS}")
        known = [measure.value for measure in Measure]
        for glob in self.measures:
            if not any(fnmatchcase(name, glob) for name in known):
                raise InvalidInputError(
                    "selector.measures", f"{glob!r} fits no measure", f"the measures are {', '.join(known)}"
                )

    def selects(self, series: Series) -> bool:
        """Whether a series is among them."""
        exchange = series.metric.partition(":")[0]
        return self.selects_metric(exchange, series.metric) and _fits(series.measure.value, self.measures)

    def selects_metric(self, exchange: str, metric: str) -> bool:
        """Whether a metric is among them, by any of its measures."""
        return _fits(exchange, self.exchanges) and _fits(metric, self.metrics)


@dataclass(frozen=True, slots=True)
class Ratio:
    """Breached by a value strictly above `factor` times the mean of the series over the window before it."""

    factor: float = _FACTOR
    window: int = 60
    """In slots; the new point is not in it."""
    min_points: int = 10
    """How many points the window must hold."""
    mode: RatioMode = RatioMode.AUTO
    resolve_after: int = 5
    """How many points in a row resolve an episode."""
    resolve_factor: float = _RESOLVE_FACTOR
    """They are at or below this many times the mean that held when the episode opened."""
    min_delta: float = 0.0
    """By how much a value must differ from the mean besides, in the measure's unit."""

    def __post_init__(self) -> None:
        _check_number("ratio.factor", self.factor, above=0)
        _check_whole("ratio.window", self.window, 2, DAY_SLOTS, "minutes")
        _check_whole("ratio.min_points", self.min_points, 1, self.window, "points, at most the window's")
        _check_whole("ratio.resolve_after", self.resolve_after, 1, DAY_SLOTS, "points")
        _check_number("ratio.resolve_factor", self.resolve_factor, above=0)
        if self.resolve_factor > self.factor:
            raise InvalidInputError(
                "ratio.resolve_factor", f"{self.resolve_factor:g} is above the factor {self.factor:g}", "at most that"
            )
        _check_number("ratio.min_delta", self.min_delta)
        if self.min_delta < 0:
            raise InvalidInputError("ratio.min_delta", f"{self.min_delta:g} is below 0", "0 or more")

    @classmethod
    def of(cls, **given: Any) -> Self:  # noqa: ANN401  # the fields of the class
        """Build one of the fields that somebody has given; `resolve_factor` left out is never above `factor`."""
        factor = given.get("factor", _FACTOR)
        if math.isfinite(factor) and factor > 0:  # else the factor is refused, by its own name
            given.setdefault("resolve_factor", min(_RESOLVE_FACTOR, factor))
        return cls(**given)

    def compares_magnitudes(self, measure: Measure) -> bool:
        """Whether signs are left out for this measure."""
        return self.mode is RatioMode.MAGNITUDE or (self.mode is RatioMode.AUTO and measure in SIGNED_MEASURES)


@dataclass(frozen=True, slots=True)
class Threshold:
    """Breached by a value strictly above `above` or strictly below `below`; at least one is given."""

    above: float | None = None
    below: float | None = None
    resolve_after: int = 5
    """How many points in a row, neither above nor below, resolve an episode."""

    def __post_init__(self) -> None:
        if self.above is None and self.below is None:
            raise InvalidInputError("threshold", "it has no limit", "give above or below, or both")
        for name, limit in (("above", self.above), ("below", self.below)):
            if limit is not None:
                _check_number(f"threshold.{name}", limit)
        if self.above is not None and self.below is not None and self.below >= self.above:
            raise InvalidInputError(
                "threshold.below", f"{self.below:g} is not below {self.above:g}, the limit above", "less than that"
            )
        _check_whole("threshold.resolve_after", self.resolve_after, 1, DAY_SLOTS, "points")


@dataclass(frozen=True, slots=True)
class Missing:
    """Breached by a tracked series without a point for so many slots in a row, whether or not it ever had one."""

    slots: int = 3

    def __post_init__(self) -> None:
        _check_whole("missing.slots", self.slots, 1, DAY_SLOTS, "slots")


@dataclass(frozen=True, slots=True)
class Frozen:
    """Breached by a point that ends a run of so many equal points, and by each equal point after it."""

    points: int = 30

    def __post_init__(self) -> None:
        _check_whole("frozen.points", self.points, 2, DAY_SLOTS, "points")


Condition = Ratio | Threshold | Missing | Frozen


@dataclass(frozen=True)
class Rule:
    """A condition on a selection of series."""

    name: str
    condition: Condition
    selector: Selector = Selector()
    severity: Severity = Severity.WARNING
    labels: Mapping[str, str] = field(default_factory=dict)
    message: str = ""
    """A template of the events' message; empty: a text of the condition's kind."""
    for_points: int = 1
    """How many points in a row must be out of line before an episode opens; always 1 for Missing."""

    def __post_init__(self) -> None:
        check_name(self.name, "name")
        if len(self.labels) > _MOST_LABELS:
            raise InvalidInputError("labels", f"{len(self.labels)} are too many", f"at most {_MOST_LABELS}")
        _check_message(self.message)
        _check_whole("for_points", self.for_points, 1, DAY_SLOTS, "points")
        if isinstance(self.condition, Missing) and self.for_points != 1:
            raise InvalidInputError("for_points", "a missing rule counts slots itself", "set missing.slots")

    @property
    def kind(self) -> str:
        """The condition's name: ratio, threshold, missing or frozen."""
        return type(self.condition).__name__.lower()

    @functools.cached_property
    def version(self) -> str:
        """A digest of everything the rule says, 12 hexadecimal digits."""
        text = json.dumps([self.kind, asdict(self)], sort_keys=True, default=str)
        return hashlib.blake2b(text.encode(), digest_size=6, person=b"tickwatch-rule").hexdigest()


def _fits(name: str, globs: tuple[str, ...]) -> bool:
    return not globs or any(fnmatchcase(name, glob) for glob in globs)


def _check_message(template: str) -> None:
    """Raise InvalidInputError for a template that could not be filled in as it stands."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        hint = "write {{ and }} for the braces themselves"
        raise InvalidInputError("message", f"its braces do not fit together: {error}", hint) from None
    for _, name, form, conversion in parts:
        if name is None:
            continue
        if name not in PLACEHOLDERS:
            known = ", ".join(PLACEHOLDERS)
            close = difflib.get_close_matches(name, PLACEHOLDERS, n=1)
            hint = f"did you mean {{{close[0]}}}?" if close else f"known here: {known}"
            raise InvalidInputError("message", f"unknown placeholder {{{name}}}", hint)
        if form or conversion:
            raise InvalidInputError("message", f"{{{name}}} is given a format", f"write {{{name}}} alone")


def _check_number(where: str, value: float, above: float | None = None) -> None:
    if not math.isfinite(value) or (above is not None and value <= above):
        limit = "" if above is None else f" above {above:g}"
        raise InvalidInputError(where, f"{value:g} is not usable", f"a finite number{limit}")


def _check_whole(where: str, value: int, least: int, most: int, unit: str) -> None:
    if not least <= value <= most:
        raise InvalidInputError(where, f"{value} is out of range", f"{least} to {most} {unit}")


DEFAULT_RULES = (
    Rule("three-times-the-hour", Ratio(), Selector(measures=("price", "volume_1m"))),
    Rule("missing", Missing()),
)
"""What holds where nobody wrote a rules file."""
