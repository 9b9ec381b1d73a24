"""Between the alert client's values and AlertService's messages."""

from __future__ import annotations

from tickwatch import alert_results as results
from tickwatch.messages import choice, duration, range_of, texts, time_of, word_of, wrong
from tickwatch.v1 import alert_pb2 as wire
from tickwatch.v1 import query_pb2


def event_of(event: wire.Event, cursor: str = "") -> results.Event:
    """Return an event."""
    return results.Event(
        id=event.id,
        kind=word_of(event.kind, wire.EventKind),
        rule=event.rule,
        rule_version=event.rule_version,
        severity=word_of(event.severity, wire.Severity),
        exchange=event.exchange,
        metric=event.metric,
        measure=word_of(event.measure, query_pb2.Measure) if event.measure else None,
        time=time_of(event.slot_time),
        episode_id=event.episode_id,
        opened_time=time_of(event.opened_time),
        opening=event.opening,
        late=event.late,
        value=event.value if event.HasField("value") else None,
        baseline=event.baseline if event.HasField("baseline") else None,
        ratio=event.ratio if event.HasField("ratio") else None,
        threshold=event.threshold if event.HasField("threshold") else None,
        point_count=event.point_count,
        resolved_reason=word_of(event.resolved_reason, wire.ResolvedReason) if event.resolved_reason else None,
        withdrawn_id=event.withdrawn_id,
        message=event.message,
        silenced=event.silenced,
        labels=dict(event.labels),
        cursor=cursor,
    )


def content_of(message: wire.WatchBreachesResponse) -> results.Snapshot | results.Event | results.Bookmark | None:
    """Return what a stream's message holds; None for what only a newer service knows."""
    match message.WhichOneof("content"):
        case "snapshot":
            episodes = tuple(map(_episode, message.snapshot.episodes))
            return results.Snapshot(message.cursor, episodes, time_of(message.snapshot.evaluated_time))
        case "event":
            return event_of(message.event, message.cursor)
        case "bookmark":
            return results.Bookmark(message.cursor, time_of(message.bookmark.evaluated_time))
        case _:
            return None


def rule_message(rule: results.Rule) -> wire.Rule:
    """Return a rule's message; raises InvalidInputError for a word that is not known."""
    message = wire.Rule(
        name=rule.name,
        selector=selector_message(rule.selector),
        severity=choice("rule.severity", rule.severity, wire.Severity),
        labels=rule.labels,
        message=rule.message,
        for_points=rule.for_points or 0,
    )
    match rule.condition:
        case results.Ratio() as ratio:
            message.ratio.CopyFrom(
                wire.RatioCondition(
                    factor=ratio.factor,
                    window=duration("rule.ratio.window", ratio.window),
                    min_points=ratio.min_points,
                    mode=choice("rule.ratio.mode", ratio.mode, wire.RatioMode),
                    resolve_after=ratio.resolve_after,
                    resolve_factor=ratio.resolve_factor,
                    min_delta=ratio.min_delta,
                )
            )
        case results.Threshold() as threshold:
            message.threshold.CopyFrom(
                wire.ThresholdCondition(
                    above=threshold.above, below=threshold.below, resolve_after=threshold.resolve_after
                )
            )
        case results.Missing() as missing:
            message.missing.CopyFrom(wire.MissingCondition(slots=missing.slots))
        case results.Frozen() as frozen:
            message.frozen.CopyFrom(wire.FrozenCondition(points=frozen.points))
        case other:
            raise wrong("rule.condition", f"{other!r} is no condition", "a Ratio, Threshold, Missing or Frozen")
    return message


def selector_message(selector: results.Selector) -> wire.Selector:
    """Return a selector's message; raises InvalidInputError for a text where several belong."""
    return wire.Selector(
        exchanges=texts("selector.exchanges", selector.exchanges),
        metrics=texts("selector.metrics", selector.metrics),
        measures=texts("selector.measures", selector.measures),
    )


def rules_of(message: wire.ListRulesResponse) -> results.Rules:
    """Return the rules in force."""
    return results.Rules(
        tuple(
            results.RuleStatus(
                rule_of(status.rule),
                status.series_count,
                status.open_count,
                time_of(status.last_breach_time) if status.HasField("last_breach_time") else None,
                status.breach_count_24h,
                tuple(status.silence_ids),
            )
            for status in message.rules
        ),
        tuple(map(silence_of, message.silences)),
        time_of(message.loaded_time),
        message.load_error,
    )


def silence_of(silence: wire.Silence) -> results.Silence:
    """Return a silence."""
    return results.Silence(
        silence.id,
        tuple(silence.rules),
        _selector(silence.selector),
        time_of(silence.start_time),
        time_of(silence.end_time),
        silence.comment,
    )


def rule_test_of(message: wire.TestRuleResponse) -> results.RuleTest:
    """Return what a rule would have fired."""
    return results.RuleTest(
        tuple(map(event_of, message.events)),
        message.breach_count,
        message.episode_count,
        message.breaches_per_day,
        message.episodes_per_day,
        message.point_count,
        message.series_count,
        range_of(message.window),
    )


def explanation_of(message: wire.ExplainSeriesResponse) -> results.Explanation:
    """Return an explanation."""
    return results.Explanation(
        time=time_of(message.slot_time),
        state=word_of(message.state, wire.SeriesState),
        state_before=word_of(message.state_before, wire.SeriesState),
        breached=message.breached,
        value=message.value if message.HasField("value") else None,
        baseline=message.baseline if message.HasField("baseline") else None,
        ratio=message.ratio if message.HasField("ratio") else None,
        threshold=message.threshold if message.HasField("threshold") else None,
        point_count=message.point_count,
        rule_version=message.rule_version,
        explanation=message.explanation,
        episode_id=message.episode_id,
    )


def dead_letter_of(letter: wire.DeadLetter) -> results.DeadLetter:
    """Return a dead letter."""
    return results.DeadLetter(
        letter.id,
        letter.receiver,
        event_of(letter.event),
        letter.attempt_count,
        letter.error,
        time_of(letter.failed_time),
    )


def _episode(episode: wire.Episode) -> results.Episode:
    return results.Episode(
        episode.id,
        word_of(episode.state, wire.SeriesState),
        event_of(episode.opening),
        episode.breach_count,
        time_of(episode.last_breach_time),
    )


def _selector(selector: wire.Selector) -> results.Selector:
    return results.Selector(tuple(selector.exchanges), tuple(selector.metrics), tuple(selector.measures))


def rule_of(rule: wire.Rule) -> results.Rule:
    """Return a rule."""
    condition: results.Ratio | results.Threshold | results.Missing | results.Frozen
    match rule.WhichOneof("condition"):
        case "ratio":
            ratio = rule.ratio
            condition = results.Ratio(
                ratio.factor,
                ratio.window.ToTimedelta(),
                ratio.min_points,
                word_of(ratio.mode, wire.RatioMode) if ratio.mode else None,
                ratio.resolve_after,
                ratio.resolve_factor,
                ratio.min_delta,
            )
        case "threshold":
            threshold = rule.threshold
            condition = results.Threshold(
                threshold.above if threshold.HasField("above") else None,
                threshold.below if threshold.HasField("below") else None,
                threshold.resolve_after,
            )
        case "frozen":
            condition = results.Frozen(rule.frozen.points)
        case _:
            condition = results.Missing(rule.missing.slots)
    return results.Rule(
        rule.name,
        condition,
        _selector(rule.selector),
        word_of(rule.severity, wire.Severity),
        dict(rule.labels),
        rule.message,
        rule.for_points,
        rule.version,
    )
