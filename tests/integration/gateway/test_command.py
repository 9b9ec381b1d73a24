"""`tickwatch gateway` as a process, the way people and clusters run it."""

from __future__ import annotations

import pathlib

import httpx

from tests.support import commands
from tests.support.ports import free_port
from tests.support.query import make_market, make_store, serve

ANNOUNCED = r"listening on (http://\S+)"


async def test_it_serves_and_stops() -> None:
    """It says where it listens, answers over the service that the settings name, and ends with 0 at SIGTERM."""
    metrics = f"127.0.0.1:{free_port()}"
    async with serve(make_store(make_market(["SIM:AAA"]))) as behind:
        settings = {"TICKWATCH_GATEWAY__QUERY": behind.server.address, "TICKWATCH_METRICS__LISTEN": metrics}
        with commands.running("gateway", announces=ANNOUNCED, settings=settings) as gateway:
            async with httpx.AsyncClient(timeout=60) as http:
                listed = await http.get(f"{gateway.address}/v1/metrics")
                scraped = await http.get(f"http://{metrics}/metrics")
            code = gateway.stop()

    assert [metric["name"] for metric in listed.json()["metrics"]] == ["SIM:AAA"]
    assert 'tickwatch_http_requests_total{route="/v1/metrics",status="200"} 1.0' in scraped.text
    assert code == 0


def test_a_wrong_setting_is_named() -> None:
    """A setting that is wrong ends the command with 2 and a line that names it."""
    done = commands.tickwatch("gateway", settings={"TICKWATCH_GATEWAY__LISTEN": "8080"})

    assert done.returncode == 2
    assert "gateway.listen" in done.stderr
    assert "Traceback" not in done.stderr


async def test_everything_in_one_process_has_its_page(tmp_path: pathlib.Path) -> None:
    """`up` says first of all where its page is, and both services answer behind it once the day has been read."""
    arguments = ("--store", f"sqlite:{tmp_path}/t.db", "up", "--exchange", "simulated")
    listening = ("--listen", "127.0.0.1:0", "--alerts", "127.0.0.1:0")
    with commands.running(
        *arguments, *listening, announces=r"\ATickwatch is at (http://\S+)", settings={}
    ) as everything:
        async with httpx.AsyncClient(base_url=everything.address, timeout=60) as http:
            page = await http.get("/")
        rules = commands.until(
            lambda: httpx.get(f"{everything.address}/v1/rules", timeout=60),
            lambda answer: answer.status_code != httpx.codes.SERVICE_UNAVAILABLE,
        )
        code = everything.stop()

    assert page.headers["content-type"].startswith("text/html")
    assert rules.status_code == 200
    assert code == 0
