"""`tickwatch watch`, `breaches` and `silence` as people type them, against a real server."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import json
import os
import pty
import signal
import subprocess
import sys

import pytest
import tickwatch

from services.core.breach_documents import event_document
from services.core.breaches import Severity, Subject
from services.core.streaming import WatchTimes
from tests.support import commands
from tests.support.alerter import LogWriter, breach, many, resolved, serve
from tests.support.query import LAST, make_store


@pytest.fixture
def store():
    """A memory store at `NOW`."""
    return make_store()


@pytest.fixture
def writer(store):
    """The writer of the store's log."""
    return LogWriter(store.breach_log)


async def run(service, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command against a service, which goes on answering meanwhile."""
    settings = {"TICKWATCH_ALERTS": service.server.address}
    return await asyncio.to_thread(commands.tickwatch, *words, settings=settings)


async def ask(service, *words: str) -> str:
    """Run a command that must neither fail nor complain, and return what it prints."""
    done = await run(service, *words)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@contextlib.asynccontextmanager
async def watching(service, *words: str, output=subprocess.PIPE, terminal="xterm"):
    """Run `watch` until the context ends; then Ctrl-C has to end it with exit code 0."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-u", "-m", "services.cli", "watch", "--alerts", service.server.address, *words),
        env=commands.environment({"TERM": terminal}),
        stdout=output,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(60):
            _, complaints = await process.communicate()
        assert (process.returncode, complaints) == (0, b"")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def line(process) -> str:
    """Return the next line of a command's output."""
    async with asyncio.timeout(60):
        return (await process.stdout.readline()).decode().rstrip("\n")


async def test_watch_prints_a_line_an_event(store, writer):
    """In a pipe: what is open, then one plain line for every event, without colours and without a pulse."""
    writer.append(breach("SIM:OPEN", LAST - 5), evaluated=LAST)
    times = WatchTimes(bookmark_seconds=0.02)
    async with serve(store, watch_times=times) as service, watching(service) as process:
        lines = [await line(process), await line(process)]
        opening = breach("SIM:AAA", severity=Severity.CRITICAL, message="SIM:AAA price is red\x1b[31m alert\r")
        writer.append(opening, resolved(opening, LAST + 3, message="calm again"), evaluated=LAST + 3)
        writer.append(breach(subject=Subject("SIM"), rule="missing", message="all of it", silenced=True))
        lines += [await line(process) for _ in range(3)]

    assert lines == [
        f"watching {service.server.address}: 1 episode open",
        (
            "2026-11-24 05:54  open       warning   SIM:OPEN price: 1 breach, the last at 2026-11-24 05:54  "
            "[three-times-the-hour]"
        ),
        "2026-11-24 05:59  opened     critical  SIM:AAA price is red [31m alert   [three-times-the-hour]",
        "2026-11-24 06:02  resolved   critical  SIM:AAA price: calm again  [three-times-the-hour]",
        "2026-11-24 05:59  opened     warning   SIM: all of it  [missing, silenced]",
    ]


async def test_watch_prints_json_lines(store, writer):
    """With --output json every line is an object with a cursor, from which --cursor goes on."""
    writer.append(breach("SIM:OPEN"))
    times = WatchTimes(bookmark_seconds=0.02)
    first = breach("KRAKEN:AAA", rule="other")
    async with serve(store, watch_times=times) as service:
        async with watching(service, "--output", "json", "--metric", "KRAKEN:*", "--rule", "other") as process:
            snapshot, bookmark = json.loads(await line(process)), json.loads(await line(process))
            writer.append(first, breach("SIM:ELSE"))
            while "event" not in (event := json.loads(await line(process))):
                pass
        second = breach("KRAKEN:BBB", rule="other")
        writer.append(second)
        async with watching(service, "--output", "json", "--rule", "other", "--cursor", event["cursor"]) as process:
            while "event" not in (resumed := json.loads(await line(process))):
                pass

    assert snapshot["snapshot"] == {"episodes": [], "evaluated_time": "2026-11-24T06:00:00Z"}
    assert bookmark["bookmark"] == {"evaluated_time": "2026-11-24T06:00:00Z"}
    assert event["event"] == event_document(first)
    assert resumed["event"] == event_document(second)


async def test_watch_writes_no_signs_to_a_terminal_that_has_none(store, writer):
    """TERM=dumb gets whole lines alone, without colours and without a line that is written over."""
    ours, theirs = pty.openpty()
    seen = ""
    try:
        async with (
            serve(store, watch_times=WatchTimes(bookmark_seconds=0.02)) as service,
            watching(service, output=theirs, terminal="dumb"),
        ):
            writer.append(breach("SIM:AAA", severity=Severity.CRITICAL), evaluated=LAST + 1)
            async with asyncio.timeout(60):
                while "SIM:AAA" not in seen:
                    seen += (await asyncio.to_thread(os.read, ours, 65536)).decode()
    finally:
        os.close(ours)
        os.close(theirs)

    assert "\x1b" not in seen
    assert "evaluated up to" not in seen


async def test_watch_on_a_terminal_has_colours_and_a_pulse(store, writer):
    """A terminal gets the severity's colour, and a last line that says how far rules have been evaluated."""
    ours, theirs = pty.openpty()
    times = WatchTimes(bookmark_seconds=0.02)
    seen = ""

    async def until(words: str) -> None:
        nonlocal seen
        async with asyncio.timeout(60):
            while words not in seen:
                seen += (await asyncio.to_thread(os.read, ours, 65536)).decode()

    try:
        async with serve(store, watch_times=times) as service, watching(service, output=theirs):
            await until("evaluated up to 2026-11-24 06:00 UTC")
            writer.append(breach("SIM:AAA", severity=Severity.CRITICAL), evaluated=LAST + 1)
            await until("\x1b[31mcritical")
            await until("evaluated up to 2026-11-24 06:01 UTC")
    finally:
        os.close(ours)
        os.close(theirs)

    assert "nothing is open" in seen


async def test_watch_outlives_its_server(store, writer):
    """When the server stops and another takes its place, the watch goes on and misses nothing."""
    async with serve(store) as first:
        address = first.server.address
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-u", "-m", "services.cli", "watch", "--alerts", address),
            env=commands.environment({}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        await line(process)
    writer.append(*many(3))
    async with serve(store, listen=address):
        lines = [await line(process) for _ in range(3)]
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(60):
        await process.communicate()

    assert [f"SIM:P{number:05d} price" in text for number, text in enumerate(lines)] == [True] * 3
    assert process.returncode == 0


async def test_breaches_lists_the_past(store, writer):
    """`breaches` prints the newest first: lines for people, all evidence for pipes, as much as --limit says."""
    opening = breach("SIM:AAA", LAST - 5, labels={"team": "desk"})
    writer.append(opening, *many(30, LAST - 3), resolved(opening, LAST), evaluated=LAST)
    async with serve(store) as service:
        table = await ask(service, "breaches")
        rows = json.loads(await ask(service, "breaches", "--metric", "SIM:AAA", "--output", "json"))
        sheet = list(csv.DictReader((await ask(service, "breaches", "--output", "csv", "--limit", "500")).splitlines()))
        ranged = await ask(service, "breaches", "--start", "2026-11-24T05:54Z", "--end", "2026-11-24T05:55Z")
        none = await ask(service, "breaches", "--severity", "critical")

    assert len(table.splitlines()) == 20
    assert table.startswith("2026-11-24 05:59  resolved   warning   SIM:AAA price")
    assert rows == [event_document(resolved(opening, LAST)), event_document(opening)]
    assert len(sheet) == 32
    assert json.loads(sheet[-1]["labels"]) == {"team": "desk"}
    assert len(ranged.splitlines()) == 1
    assert none == "No breach is in the log.\n"


def test_json_is_the_same_everywhere():
    """What commands print of an event has the keys that webhooks and the store have."""
    event = tickwatch.Event(
        *("id", "breach", "rule", "v", "info", "SIM", "SIM:A", "price"),
        time=commands.minute(),
        episode_id="e",
        opened_time=commands.minute(),
        opening=True,
        late=False,
        value=1.0,
        baseline=None,
        ratio=None,
        threshold=None,
        point_count=1,
        resolved_reason=None,
        withdrawn_id="",
        message="",
        silenced=False,
        labels={},
    )

    assert event.to_document().keys() == event_document(breach()).keys()


WRONG = [
    (["watch", "--severity", "bad"], 2, "'bad' is not one of"),
    (["watch", "--output", "csv"], 2, "'csv' is not one of"),
    (["watch", "--metric", "btcusd"], 2, "'btcusd' is neither a metric's name nor a glob (KRAKEN:BTCUSD, or KRAKEN:*"),
    (
        ["watch", "--rule", "a b"],
        2,
        "'a b' is not a rule's name (letters, digits, - and _, at most 64, a letter or a digit first)",
    ),
    (["watch", "--cursor", "x"], 2, "cursor: is not one that a stream has sent (open the stream without a cursor)"),
    (["breaches", "--since", "1h", "--start", "2026-01-01"], 2, "give either --since or --start"),
    (["breaches", "--start", "2026-01-02", "--end", "2026-01-01"], 2, "end_time: the range would end at 2026-01-01"),
    (["breaches", "--limit", "0"], 2, "0 is not in the range"),
    (["watch", "--alerts", "nowhere"], 2, "'nowhere' is not HOST:PORT or dns:///NAME:PORT"),
    (["silence", "--rule", "x"], 2, "say for how long: --for DURATION"),
    (["silence", "--for", "1x"], 2, "'1x' is not a duration"),
    (["silence", "--expire", "x", "--for", "2h"], 2, "--expire ends a silence; give it alone"),
    (["silence", "--output", "yaml"], 2, "'yaml' is not one of 'table', 'json'"),
]


async def test_a_wrong_question_is_answered_with_what_would_be_right(store, writer):
    """Each mistake gets its exit code and a message that quotes it, without a traceback and nothing on stdout."""
    async with serve(store) as service:
        for words, code, message in WRONG:
            done = await run(service, *words)

            assert (done.returncode, done.stdout) == (code, ""), words
            assert message in done.stderr
            assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [["watch"], ["breaches"], ["silence"]])
def test_nobody_there_is_said_with_what_to_do(words):
    """Where nobody listens, each command ends with exit code 1 and says how to start or name a service."""
    done = commands.tickwatch(*words, "--alerts", "127.0.0.1:9", settings={})

    assert done.returncode == 1
    assert "is one running at 127.0.0.1:9? `tickwatch up` starts one; --alerts names another" in done.stderr
    assert "Traceback" not in done.stderr
