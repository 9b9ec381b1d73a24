"""The methods of AlertService about rules, on the wire: ListRules, TestRule, ExplainSeries."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.timestamp_pb2 import Timestamp
from tickwatch.v1 import alert_pb2 as wire

from services.alerter.rules.evidence import Evidence, RuleStatus
from services.alerter.servicer_notifying import to_wire_silence
from services.alerter.streams.following import LogFollower
from services.alerter.trial.explanations import Standing
from services.core.errors import InvalidInputError
from services.core.model import Metric, Series, Slot
from services.core.rpc import convert_alerts
from services.core.rpc.convert import (
    from_wire_measure,
    from_wire_message,
    from_wire_time,
    to_wire_moment,
    to_wire_range,
    to_wire_time,
)
from services.core.rpc.convert_alerts import to_wire_number
from services.core.rpc.interceptors import Context, UnaryBehavior
from services.core.rpc.paging import page_size

DEFAULT_EVENTS = 1000
MOST_EVENTS = 10_000
"""So many of the largest events stay below the 16 MB that the client takes."""

_STANDING_TO_WIRE: dict[Standing, wire.SeriesState.ValueType] = {
    Standing.OK: wire.SERIES_STATE_OK,
    Standing.PENDING: wire.SERIES_STATE_PENDING,
    Standing.OPEN: wire.SERIES_STATE_OPEN,
    Standing.STALE: wire.SERIES_STATE_STALE,
    Standing.INSUFFICIENT_DATA: wire.SERIES_STATE_INSUFFICIENT_DATA,
    Standing.NOT_APPLICABLE: wire.SERIES_STATE_NOT_APPLICABLE,
    Standing.NO_POINT: wire.SERIES_STATE_NO_POINT,
    Standing.NOT_SELECTED: wire.SERIES_STATE_NOT_SELECTED,
}


class RuleMethods:
    """The methods, each from bytes to bytes."""

    def __init__(self, evidence: Evidence, follower: LogFollower) -> None:
        self._evidence = evidence
        self._follower = follower

    @property
    def methods(self) -> Mapping[str, UnaryBehavior]:
        """The methods by name."""
        return {"ListRules": self.list_rules, "TestRule": self.test_rule, "ExplainSeries": self.explain_series}

    def list_rules(self, request: bytes, context: Context) -> bytes:
        """ListRules."""
        from_wire_message(wire.ListRulesRequest, request)
        found = self._evidence.statuses(self._follower.require_state(), context.time_remaining)
        response = wire.ListRulesResponse(
            rules=map(_to_wire_status, found.rules),
            silences=map(to_wire_silence, found.silences),
            loaded_time=to_wire_moment(found.loaded_at),
            load_error=found.error,
        )
        return response.SerializeToString()

    def test_rule(self, request: bytes, context: Context) -> bytes:
        """TestRule."""
        asked = from_wire_message(wire.TestRuleRequest, request)
        most = page_size(asked.max_events, field="max_events", default=DEFAULT_EVENTS, largest=MOST_EVENTS)
        start, end = (_time(asked, field) for field in ("start_time", "end_time"))
        match asked.WhichOneof("subject"):
            case "rule":
                rule = convert_alerts.from_wire_rule(asked.rule, "rule")
            case "rule_name":
                rule = self._evidence.rule(asked.rule_name)
            case _:
                raise InvalidInputError("rule", "is required", "a rule, or rule_name for one that is in force")
        live_from = self._follower.require_state().live_from
        found = self._evidence.test(rule, start, end, most, context.time_remaining, live_from=live_from)
        response = wire.TestRuleResponse(
            events=map(convert_alerts.to_wire_event, found.events),
            breach_count=found.breach_count,
            episode_count=found.episode_count,
            breaches_per_day=found.breach_count / found.days,
            episodes_per_day=found.episode_count / found.days,
            point_count=found.point_count,
            series_count=found.series_count,
            window=to_wire_range(found.window),
        )
        return response.SerializeToString()

    def explain_series(self, request: bytes, context: Context) -> bytes:
        """ExplainSeries."""
        asked = from_wire_message(wire.ExplainSeriesRequest, request)
        if not asked.rule:
            raise InvalidInputError("rule", "is required", "the name of a rule in force")
        series = Series(Metric.parse(asked.metric).name, from_wire_measure(asked.measure))
        rule, found = self._evidence.explain(
            asked.rule, series, _time(asked, "time"), self._follower.require_state(), context.time_remaining
        )
        response = wire.ExplainSeriesResponse(
            slot_time=to_wire_time(found.slot),
            state=_STANDING_TO_WIRE[found.after],
            state_before=_STANDING_TO_WIRE[found.before],
            breached=found.breached,
            value=to_wire_number(found.numbers.value),
            baseline=to_wire_number(found.numbers.baseline),
            ratio=to_wire_number(found.numbers.ratio),
            threshold=to_wire_number(found.numbers.threshold),
            point_count=found.numbers.point_count,
            rule_version=rule.version,
            explanation=found.text,
            episode_id=found.episode_id,
        )
        return response.SerializeToString()


def _to_wire_status(status: RuleStatus) -> wire.RuleStatus:
    message = wire.RuleStatus(
        rule=convert_alerts.to_wire_rule(status.rule),
        series_count=status.series_count,
        open_count=status.open_count,
        silence_ids=status.silence_ids,
    )
    if status.count is not None:
        message.last_breach_time.CopyFrom(to_wire_time(status.count.last_breach))
        message.breach_count_24h = status.count.day_count
    return message


def _time(asked: wire.TestRuleRequest | wire.ExplainSeriesRequest, field: str) -> Slot | None:
    """Return the slot that an optional field names."""
    if not asked.HasField(field):  # type: ignore[arg-type]  # a field of one of the two
        return None
    time: Timestamp = getattr(asked, field)
    return from_wire_time(time, field)
