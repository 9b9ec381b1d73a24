"""The shapes of bodies, as OpenAPI tells them.

Answers are not built from these: a day of values would be checked one by one. The tests hold every answer to them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from services.core.model import Measure
from services.gateway.arguments import RULE_NAME, SILENCE_ID, Duration, Time, shown

Severity = Literal["info", "warning", "critical"]
_TIME = "2026-11-24T12:00:00Z"

Text = Annotated[str, Field(max_length=1000)]
Word = Annotated[str, Field(max_length=100)]
Words = Annotated[list[Word], Field(max_length=100)]

_NUMBERS = (int, float, int | None, float | None)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _check_number(cls, value: object, info: ValidationInfo) -> object:
        """A number is one of JSON's: pydantic reads many a text, and true, as one."""
        kind = cls.model_fields[str(info.field_name)].annotation
        if kind in _NUMBERS and isinstance(value, str | bool):
            raise ValueError(f"{shown(value)} is not a number such as 10")
        return value


class TimeRange(_Body):
    """A half-open range of minutes, [start_time, end_time)."""

    start_time: Time = Field(examples=["2026-11-23T12:00:00Z"])
    end_time: Time = Field(examples=[_TIME])


class MeasureSummary(_Body):
    """What the last 24 hours hold of one measure of a metric."""

    measure: Measure
    last_time: Time = Field(description="The minute of the newest point.", examples=["2026-11-24T11:59:00Z"])
    last_value: float | None = Field(description="In the measure's unit.", examples=[64203.5])
    point_count: int = Field(description="How many of the 1440 minutes have a point.", examples=[1440])
    coverage: float = Field(description="point_count / 1440.", examples=[1.0])


class Metric(_Body):
    """An exchange and a pair."""

    name: str = Field(examples=["KRAKEN:BTCUSD"])
    exchange: str = Field(examples=["KRAKEN"])
    pair: str = Field(examples=["BTCUSD"])
    measures: list[MeasureSummary]


class Metrics(_Body):
    """The metrics with a point in the last 24 hours, by name."""

    metrics: list[Metric]


class History(_Body):
    """One series: value i belongs to [start_time + i * interval, start_time + (i + 1) * interval)."""

    metric: str = Field(examples=["KRAKEN:BTCUSD"])
    measure: Measure
    start_time: Time = Field(examples=[_TIME])
    interval: str = Field(pattern="^[0-9]+s$", examples=["60s"])
    values: list[float | None] = Field(
        description="In the measure's unit; null where there is no point.", examples=[[64203.5, None, 64210.0]]
    )
    missing: list[TimeRange] = Field(description="The minutes without a point.", examples=[[]])
    backfilled: list[TimeRange] = Field(description="The minutes filled in later.", examples=[[]])
    coverage: float = Field(description="The share of the minutes that have a point.", examples=[0.67])


class Ranking(_Body):
    """One metric's place."""

    metric: str = Field(examples=["KRAKEN:BTCUSD"])
    rank: int = Field(description="From 1; equal values share a rank (1, 2, 2, 4).", examples=[1])
    value: float | None = Field(description="The statistic.", examples=[832.07])
    point_count: int = Field(examples=[1440])
    coverage: float = Field(examples=[1.0])


class Rankings(_Body):
    """Metrics by descending value of a statistic."""

    measure: Measure
    statistic: str = Field(examples=["stddev"])
    window: TimeRange
    rankings: list[Ranking]
    ranked_count: int = Field(description="How many are ranked, those beyond the limit included.", examples=[1])
    unranked: list[str] = Field(description="Metrics with too few points for the statistic.", examples=[[]])


class Event(_Body):
    """Something that happened to a series under a rule, with the evidence; null where it does not apply."""

    id: str = Field(description="The same wherever it is evaluated or sent.")
    kind: Literal["breach", "resolved", "stale", "withdrawn"]
    rule: str = Field(examples=["three-times-the-hour"])
    rule_version: str
    severity: Severity
    labels: dict[str, str]
    exchange: str = Field(examples=["KRAKEN"])
    metric: str = Field(description="Empty where all of an exchange is missing.", examples=["KRAKEN:BTCUSD"])
    measure: Measure | None
    slot_time: Time = Field(description="The minute of the point.", examples=[_TIME])
    episode_id: str
    opened_time: Time = Field(examples=[_TIME])
    opening: bool = Field(description="Whether it opens its episode.")
    late: bool = Field(description="Whether a point found it that came late.")
    value: float | None = Field(examples=[412.5])
    baseline: float | None = Field(examples=[101.25])
    ratio: float | None = Field(examples=[4.07])
    threshold: float | None = Field(examples=[303.75])
    point_count: int = Field(examples=[60])
    resolved_reason: str | None = Field(examples=[None])
    withdrawn_id: str | None = Field(examples=[None])
    message: str = Field(examples=["KRAKEN:BTCUSD volume_1m is 4.1 times its average of the last hour"])
    silenced: bool


class Breaches(_Body):
    """A page of events, the newest first."""

    events: list[Event]
    next_page_token: str = Field(description="Gets the next page; empty on the last, and only there.")


class Selector(_Body):
    """Which series, by globs of the shell's kind (* and ?); an empty list selects all."""

    exchanges: Words = []
    metrics: Words = Field(default=[], examples=[["KRAKEN:*USD"]])
    measures: Words = Field(default=[], examples=[["volume_1m"]])


class Ratio(_Body):
    """A value strictly above `factor` times the mean of the same series over the window before it."""

    factor: float | None = Field(default=None, gt=0, allow_inf_nan=False, examples=[3.0])
    window: Duration | None = Field(default=None, examples=["1h"])
    min_points: int | None = Field(default=None, ge=1, le=1440, examples=[10])
    mode: Literal["magnitude", "literal"] | None = None
    resolve_after: int | None = Field(default=None, ge=1, le=1440, examples=[5])
    resolve_factor: float | None = Field(default=None, gt=0, allow_inf_nan=False, examples=[2.0])
    min_delta: float | None = Field(default=None, ge=0, allow_inf_nan=False, examples=[0.0])


class Threshold(_Body):
    """A value strictly above or strictly below a number."""

    above: float | None = Field(default=None, allow_inf_nan=False, examples=[100_000.0])
    below: float | None = Field(default=None, allow_inf_nan=False, examples=[10_000.0])
    resolve_after: int | None = Field(default=None, ge=1, le=1440, examples=[5])


class Missing(_Body):
    """A tracked series without a point for so many minutes in a row."""

    slots: int | None = Field(default=None, ge=1, le=1440, examples=[3])


class Frozen(_Body):
    """So many equal points in a row."""

    points: int | None = Field(default=None, ge=2, le=1440, examples=[30])


class Rule(_Body):
    """What counts as a breach: one of ratio, threshold, missing and frozen."""

    name: str = Field(pattern=RULE_NAME, examples=["volume-burst"])
    selector: Selector = Selector()
    severity: Severity | None = None
    labels: Annotated[dict[str, Text], Field(max_length=100)] = {}
    message: Text = ""
    for_points: int | None = Field(default=None, ge=1, le=1440, examples=[1])
    ratio: Ratio | None = None
    threshold: Threshold | None = None
    missing: Missing | None = None
    frozen: Frozen | None = None
    version: str = Field(default="", max_length=100, description="Of the service's making; ignored in requests.")


class RuleTestRequest(_Body):
    """A rule to try out, or the name of one in force, and over which history."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "rule": {
                        "name": "volume-burst",
                        "selector": {"measures": ["volume_1m"]},
                        "ratio": {"factor": 4, "window": "30m"},
                    }
                }
            ]
        },
    )

    rule: Rule | None = None
    rule_name: Word | None = None
    start_time: Time | None = Field(default=None, description="Left out: 24 hours before the end.")
    end_time: Time | None = Field(default=None, description="Left out: the end of the last complete minute.")
    max_events: int | None = Field(default=None, ge=1, le=10_000, description="How many events to return; 1000.")

    @model_validator(mode="after")
    def _one_subject(self) -> RuleTestRequest:
        if (self.rule is None) == (self.rule_name is None):
            raise ValueError("give either rule or rule_name")
        return self


class RuleTest(_Body):
    """What a rule would have fired over stored history."""

    events: list[Event] = Field(description="In the order in which they would have been found.")
    breach_count: int
    episode_count: int
    breaches_per_day: float | None
    episodes_per_day: float | None
    point_count: int = Field(description="How many points were evaluated.")
    series_count: int
    window: TimeRange


class RuleStatus(_Body):
    """A rule in force and how it fares."""

    rule: Rule
    series_count: int
    open_count: int = Field(description="How many episodes are open.")
    last_breach_time: Time | None = Field(examples=[None])
    breach_count_24h: int
    silence_ids: list[str]


class Silence(_Body):
    """A selection whose breaches are not notified for a while."""

    id: str = Field(pattern=SILENCE_ID, examples=["5e2f6a6c2f0e5a53"])
    rules: list[str]
    selector: Selector
    start_time: Time = Field(examples=[_TIME])
    end_time: Time = Field(examples=["2026-11-24T13:00:00Z"])
    comment: str


class SilenceRequest(_Body):
    """What to keep silent from now on, and for how long."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"duration": "2h", "selector": {"metrics": ["KRAKEN:*"]}, "comment": "Kraken is in maintenance"}
            ]
        },
    )

    duration: Duration = Field(description="From 1 minute to 30 days.", examples=["2h"])
    rules: Words = Field(default=[], description="By name or by glob; empty: all.", examples=[[]])
    selector: Selector = Selector()
    comment: Text = ""


class Rules(_Body):
    """The rules in force, and the silences."""

    rules: list[RuleStatus]
    silences: list[Silence]
    loaded_time: Time = Field(examples=[_TIME])
    load_error: str = Field(description="Why a later reading of the rules failed; empty if it did not.")


class Nothing(_Body):
    """It is done."""


class Explanation(_Body):
    """Why a rule did or did not fire on a series at a minute; null where it does not apply."""

    slot_time: Time = Field(examples=[_TIME])
    state: str = Field(examples=["ok"])
    state_before: str = Field(examples=["ok"])
    breached: bool
    value: float | None
    baseline: float | None
    ratio: float | None
    threshold: float | None
    point_count: int
    rule_version: str
    explanation: str = Field(description="For people, in a sentence.")
    episode_id: str | None


class Error(_Body):
    """What went wrong (https://google.aip.dev/193)."""

    code: int = Field(description="The HTTP status.", examples=[404])
    status: str = Field(description="The gRPC status.", examples=["NOT_FOUND"])
    message: str = Field(description="For people.")
    details: list[dict[str, Any]] = Field(
        examples=[
            [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "METRIC_NOT_FOUND",
                    "domain": "tickwatch",
                    "metadata": {"metric": "KRAKEN:BTCEUR", "similar": "KRAKEN:BTCUSD"},
                }
            ]
        ]
    )


class ErrorBody(_Body):
    """The body of every answer that is no success."""

    error: Error
