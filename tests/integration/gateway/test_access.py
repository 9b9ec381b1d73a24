"""Who may ask, from where, how often; and what tells whether the gateway is well."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from prometheus_client import CollectorRegistry

from services.core.errors import InvalidSettingError
from services.gateway.limiting import MOST_CLIENTS, RateLimit, client_of
from services.gateway.server import open_gateway
from tests.support.gateway import reading, reason, serve
from tests.support.query import make_market, make_store

ORIGIN = "https://desk.example.com"


async def test_other_pages_may_not_read_answers_unless_they_are_named() -> None:
    """Without the setting no answer has a CORS header; with it, whatever those origins get has it, errors too."""
    store = make_store(make_market(["SIM:AAA"]))
    async with serve(store) as gateway:
        off = await gateway.http.get("/v1/metrics", headers={"Origin": ORIGIN})
    async with serve(store, cors_origins=(ORIGIN,)) as gateway:
        on = await gateway.http.get("/v1/metrics", headers={"Origin": ORIGIN})
        wrong = await gateway.http.get("/v1/rankings/nothing", headers={"Origin": ORIGIN})
        foreign = await gateway.http.get("/v1/metrics", headers={"Origin": "https://elsewhere.example.com"})
        preflight = await gateway.http.options(
            "/v1/rules:test",
            headers={
                "Origin": ORIGIN,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "content-type",
            },
        )

    header = "access-control-allow-origin"
    assert header not in off.headers
    assert [answer.headers.get(header) for answer in (on, wrong, preflight)] == [ORIGIN] * 3
    assert header not in foreign.headers
    assert preflight.status_code == 200


async def test_a_client_who_asks_too_often_is_refused() -> None:
    """After its burst a client is refused until it has waited; others are not, and probes never."""
    async with serve(
        make_store(make_market(["SIM:AAA"])), requests_per_second=0.001, burst=3, trusted_proxies=("127.0.0.1",)
    ) as gateway:
        answers = [await gateway.http.get("/v1/metrics") for _ in range(5)]
        other = await gateway.http.get("/v1/metrics", headers={"X-Forwarded-For": "203.0.113.7"})
        probes = [await gateway.http.get("/healthz") for _ in range(5)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert reason(answers[-1]) == "TOO_MANY_REQUESTS"
    assert int(answers[-1].headers["retry-after"]) > 900
    assert other.status_code == 200
    assert {probe.status_code for probe in probes} == {200}


async def test_nobody_can_pretend_to_be_somebody_else() -> None:
    """X-Forwarded-For counts for nothing unless its sender is a trusted proxy."""
    async with serve(make_store(make_market(["SIM:AAA"])), requests_per_second=0.001, burst=2) as gateway:
        answers = [
            await gateway.http.get("/v1/metrics", headers={"X-Forwarded-For": f"203.0.113.{number}"})
            for number in range(3)
        ]

    assert [answer.status_code for answer in answers] == [200, 200, 429]


def test_a_bucket_fills_at_its_rate() -> None:
    """A bucket regains its rate and no more than its burst, and says exactly when the next request will do."""
    now = 0.0
    limit = RateLimit(2.0, 3, lambda: now)

    assert [limit.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    now = 0.5
    assert [limit.take("a") for _ in range(2)] == [0.0, 0.5]
    now = 1000.0
    assert [limit.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_buckets_are_bounded() -> None:
    """So many clients are remembered; the one that was quiet for longest is forgotten first."""
    limit = RateLimit(1.0, 1, lambda: 0.0)
    for number in range(MOST_CLIENTS + 1):
        limit.take(str(number))

    assert limit.take("1") > 0
    assert limit.take("0") == 0


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("strange:name", "strange:name"),
    ],
)
def test_a_client_is_an_address_or_a_network_of_ipv6(address: str, client: str) -> None:
    """One household has 64 bits of IPv6 addresses, and one bucket."""
    assert client_of({"client": (address, 1)}) == client


async def test_streams_are_limited() -> None:
    """Beyond `max_streams` a stream is refused with when to come back; one that ends makes room."""
    async with serve(make_store(make_market(["SIM:AAA"])), max_streams=2) as gateway:
        async with (
            reading(gateway.http, "/v1/points/stream") as first,
            reading(gateway.http, "/v1/breaches/stream") as second,
        ):
            await first.next()
            await second.next()
            refused = await gateway.http.get("/v1/points/stream")
        for _ in range(400):
            again = await gateway.http.send(gateway.http.build_request("GET", "/v1/points/stream"), stream=True)
            await again.aclose()
            if again.status_code == 200:
                break
            await asyncio.sleep(0.05)

    assert (refused.status_code, reason(refused)) == (429, "TOO_MANY_STREAMS")
    assert refused.headers["retry-after"] == "5"
    assert again.status_code == 200


async def test_it_is_not_ready_while_it_drains() -> None:
    """During the drain delay /readyz is 503 and requests are still answered; /healthz stays 200."""
    async with serve(make_store(make_market(["SIM:AAA"])), drain_seconds=1.5) as gateway:
        before = await gateway.http.get("/readyz")
        draining = asyncio.create_task(gateway.server.drain())
        await asyncio.sleep(0)
        answers = await asyncio.gather(*(gateway.http.get(path) for path in ("/readyz", "/healthz", "/v1/metrics")))
        stream = await gateway.http.get("/v1/points/stream")
        await draining

    assert before.status_code == 200
    assert [answer.status_code for answer in answers] == [503, 200, 200]
    assert (reason(answers[0]), reason(stream)) == ("NOT_READY", "NOT_READY")


async def test_it_is_measured() -> None:
    """Requests are counted by declared address and status, never by what callers make up."""
    registry = CollectorRegistry()
    async with serve(make_store(make_market(["SIM:AAA"])), registry=registry) as gateway:
        for path in (
            "/v1/metrics/SIM:AAA/price/history",
            "/v1/metrics/SIM:AAA/price/history",
            "/made/up",
            "/v1/metrics/SIM:NO/price/history",
        ):
            await gateway.http.get(path)

    def count(route: str, status: str) -> float | None:
        return registry.get_sample_value("tickwatch_http_requests_total", {"route": route, "status": status})

    assert count("/v1/metrics/{metric}/{measure}/history", "200") == 2
    assert count("/v1/metrics/{metric}/{measure}/history", "404") == 1
    assert count("other", "404") == 1
    assert registry.get_sample_value("tickwatch_http_event_streams") == 0


async def test_an_address_that_is_taken() -> None:
    """A port that somebody else listens on is an error that names the setting, and nothing is left running."""
    async with serve(make_store(make_market(["SIM:AAA"]))) as gateway:
        with pytest.raises(InvalidSettingError, match=r"gateway\.listen: cannot listen on"):
            async with open_gateway(listen=f"127.0.0.1:{gateway.server.port}"):
                pass


async def test_every_answer_restrains_browsers() -> None:
    """Pages, data, errors and streams all have the headers that keep a browser from being used against its user."""
    async with serve(make_store(make_market(["SIM:AAA"]))) as gateway:
        answers: list[httpx.Response] = [await gateway.http.get(path) for path in ("/", "/v1/metrics", "/nowhere")]
        async with reading(gateway.http, "/v1/points/stream") as reader:
            answers.append(reader.response)

    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "server" not in answer.headers
