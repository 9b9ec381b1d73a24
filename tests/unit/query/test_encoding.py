"""Rows put together by hand are protobuf's own bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tickwatch.v1 import query_pb2 as wire

from services.core.model import DAY_SLOTS, MEASURES, Slot
from services.core.rpc.convert import MEASURE_TO_WIRE, to_wire_time
from services.query.encoding import MetricsEncoder, encode_rankings
from services.query.questions import ListedMetric, MeasureSummary, Ranking

names = st.from_regex(r"[A-Z0-9][A-Z0-9_-]{0,31}:[A-Z0-9][A-Z0-9._-]{0,31}", fullmatch=True)
values = st.floats(allow_nan=False) | st.sampled_from([0.0, -0.0])
summaries = st.builds(
    MeasureSummary,
    st.sampled_from(MEASURES),
    st.integers(1, 68_374_080).map(Slot),
    values,
    st.integers(1, DAY_SLOTS),
)
metrics = st.builds(ListedMetric, names, st.lists(summaries, min_size=1, max_size=5).map(tuple))


@given(st.lists(metrics, max_size=5))
def test_a_list_is_what_protobuf_writes(listed: list[ListedMetric]) -> None:
    """Byte for byte, zeros left out, whatever the names, slots and counts."""
    message = wire.ListMetricsResponse(
        metrics=[
            wire.Metric(
                name=metric.metric,
                exchange=metric.metric.partition(":")[0],
                pair=metric.metric.partition(":")[2],
                measures=[
                    wire.MeasureSummary(
                        measure=MEASURE_TO_WIRE[summary.measure],
                        last_time=to_wire_time(summary.last_slot),
                        last_value=summary.last_value,
                        point_count=summary.point_count,
                        coverage=summary.point_count / DAY_SLOTS,
                    )
                    for summary in metric.measures
                ],
            )
            for metric in listed
        ]
    )

    assert MetricsEncoder().encode(listed) == message.SerializeToString()


@given(st.lists(metrics, max_size=5), st.lists(metrics, max_size=5))
def test_what_is_kept_of_one_list_never_shows_in_another(first: list[ListedMetric], second: list[ListedMetric]) -> None:
    """An encoder that has encoded other lists, of the same names too, writes what a new one writes."""
    encoder = MetricsEncoder()
    renamed = [ListedMetric(old.metric, new.measures) for old, new in zip(first, second, strict=False)]

    for listed in (first, second, renamed, first):
        assert encoder.encode(listed) == MetricsEncoder().encode(listed)


rankings = st.builds(Ranking, names, st.integers(1, 20_000), values, st.integers(2, DAY_SLOTS))


@given(st.lists(rankings, max_size=5))
def test_a_ranking_is_what_protobuf_writes(ranked: list[Ranking]) -> None:
    """Byte for byte, zeros left out, whatever the names, ranks and counts."""
    message = wire.RankMetricsResponse(
        rankings=[
            wire.Ranking(
                metric=ranking.metric,
                rank=ranking.rank,
                value=ranking.value,
                point_count=ranking.point_count,
                coverage=ranking.point_count / DAY_SLOTS,
            )
            for ranking in ranked
        ]
    )

    assert encode_rankings(ranked, DAY_SLOTS) == message.SerializeToString()
