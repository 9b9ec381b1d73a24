"""Rules over HTTP: those in force, what one would have fired, and why one did or did not."""

from __future__ import annotations

import numpy as np

from services.core.catalog.base import Market
from services.core.model import Measure, Points, Quality, Series, Slot, Window
from services.gateway import schemas
from tests.support.gateway import reason, serve
from tests.support.query import LAST, make_market, make_store

SPIKE = Slot(LAST - 30)


def spiked_store():
    """Return a store whose SIM:AAA had ten times its price for one minute, half an hour ago."""
    market = make_market(["SIM:AAA"], measures=[Measure.PRICE])
    market.values[Series("SIM:AAA", Measure.PRICE)][:] = 100.0
    store = make_store(market)
    store.write(Points.of([(Series("SIM:AAA", Measure.PRICE), SPIKE, 1000.0, Quality.OBSERVED)]))
    return store


async def test_the_rules_in_force() -> None:
    """Rules come with their condition under its kind, defaults filled in, and how many series they select."""
    async with serve(spiked_store(), markets=[Market("SIM", ("AAA",))]) as gateway:
        answer = await gateway.http.get("/v1/rules")
    rules = schemas.Rules.model_validate(answer.json())

    assert answer.status_code == 200
    ratios = [status.rule for status in rules.rules if status.rule.ratio]
    assert {rule.ratio.factor for rule in ratios if rule.ratio} == {3.0}
    assert all(status.rule.version for status in rules.rules)
    assert (rules.silences, rules.load_error) == ([], "")


async def test_a_rule_is_tried_out() -> None:
    """A rule that is not in force is run over the last 24 hours: the one spike fires it, by the evidence it had."""
    rule = {
        "name": "trial",
        "selector": {"metrics": ["SIM:*"], "measures": ["price"]},
        "ratio": {"factor": 4, "window": "30m"},
    }
    async with serve(spiked_store(), markets=[Market("SIM", ("AAA",))]) as gateway:
        answer = await gateway.http.post("/v1/rules:test", json={"rule": rule})
        higher = await gateway.http.post("/v1/rules:test", json={"rule": {**rule, "ratio": {"factor": 11}}})
        unknown = await gateway.http.post("/v1/rules:test", json={"rule_name": "no-such-rule"})
    tested = schemas.RuleTest.model_validate(answer.json())
    breaches = [event for event in tested.events if event.kind == "breach"]

    assert (tested.breach_count, tested.episode_count, tested.series_count) == (1, 1, 1)
    assert [(event.value, event.baseline, event.ratio, event.threshold) for event in breaches] == [
        (1000.0, 100.0, 10.0, 400.0)
    ]
    assert breaches[0].slot_time.timestamp() == SPIKE * 60
    assert higher.json()["breach_count"] == 0
    assert (unknown.status_code, reason(unknown)) == (404, "RULE_NOT_FOUND")


async def test_a_series_is_explained() -> None:
    """Why a rule fired at a minute, and why it did not at another, is told with the numbers that decided."""
    async with serve(spiked_store(), markets=[Market("SIM", ("AAA",))]) as gateway:
        rules = (await gateway.http.get("/v1/rules")).json()["rules"]
        name = next(status["rule"]["name"] for status in rules if "ratio" in status["rule"])
        address = "/v1/metrics/SIM:AAA/price/explanation"
        asked = {"rule": name, "time": f"{np.datetime64(int(SPIKE) * 60, 's')}Z"}
        fired = await gateway.http.get(address, params=asked)
        unknown = await gateway.http.get(address, params={"rule": "no-such-rule"})
    explained = schemas.Explanation.model_validate(fired.json())

    assert (explained.breached, explained.value, explained.baseline, explained.ratio) == (True, 1000.0, 100.0, 10.0)
    assert explained.explanation
    assert (unknown.status_code, reason(unknown)) == (404, "RULE_NOT_FOUND")


async def test_answers_are_as_described() -> None:
    """What OpenAPI says of an answer holds of one that is full: no field more, none less, each of its type."""
    market = make_market(["SIM:AAA", "SIM:BBB"], holes=0.1)
    async with serve(make_store(market)) as gateway:
        described = {
            "/v1/metrics": schemas.Metrics,
            "/v1/metrics/SIM:AAA/price/history": schemas.History,
            "/v1/rankings/price": schemas.Rankings,
            "/v1/breaches": schemas.Breaches,
        }
        for address, model in described.items():
            body = (await gateway.http.get(address)).json()
            read = model.model_validate(body)

            assert set(body) == set(model.model_fields)
            assert read == model.model_validate_json(read.model_dump_json())
        gaps = (await gateway.http.get("/v1/metrics/SIM:AAA/price/history")).json()

    window = Window.ending(Slot(LAST + 1))
    missing = np.isnan(market.expected(Series("SIM:AAA", Measure.PRICE), window))
    assert missing.sum() == sum(value is None for value in gaps["values"])
    assert len(gaps["missing"]) > 10


async def test_a_silence_holds_until_it_is_ended() -> None:
    """A silence made here is among the rules' at once, with what it covers, and gone as soon as it is deleted."""
    asked = {"duration": "2h", "rules": ["three-*"], "selector": {"metrics": ["SIM:*"]}, "comment": "maintenance"}
    async with serve(spiked_store(), markets=[Market("SIM", ("AAA",))], kept_seconds=3600.0) as gateway:
        before = (await gateway.http.get("/v1/rules")).json()["silences"]
        made = (await gateway.http.post("/v1/silences", json=asked)).json()
        during = (await gateway.http.get("/v1/rules")).json()["silences"]
        ended = await gateway.http.delete(f"/v1/silences/{made['id']}")
        after = (await gateway.http.get("/v1/rules")).json()["silences"]
        again = await gateway.http.delete(f"/v1/silences/{made['id']}")
        too_long = await gateway.http.post("/v1/silences", json={"duration": "31d"})
    silence = schemas.Silence.model_validate(made)

    assert (before, during, after) == ([], [made], [])
    assert (silence.end_time - silence.start_time).total_seconds() == 7200
    assert (silence.rules, silence.selector.metrics, silence.comment) == (["three-*"], ["SIM:*"], "maintenance")
    assert (ended.status_code, ended.json()) == (200, {})
    assert (again.status_code, reason(again)) == (404, "SILENCE_NOT_FOUND")
    assert (too_long.status_code, reason(too_long)) == (400, "INVALID_FIELD")
