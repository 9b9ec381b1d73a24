"""`tickwatch rules list` and `replay`, `explain` and `dead-letters` as people type them, against a real server."""

from __future__ import annotations

import asyncio
import json

import pytest

from services.alerter.notifying.dead_letters import DeadLetters
from services.core.catalog.base import Market
from services.core.model import Measure, Points, Quality, Series, slot_time
from services.core.rules import Missing, Ratio, Rule, Selector
from tests.support import commands
from tests.support.alerter import LogWriter, many, serve
from tests.support.query import LAST, make_store

SPIKE = LAST - 400
RULES = (Rule("hour", Ratio(), Selector(measures=("volume_1m",)), for_points=1), Rule("gone", Missing()))
MARKETS = [Market("SIM", ("AAA",), (Measure.VOLUME_1M,))]
END = f"{slot_time(LAST + 1):%Y-%m-%dT%H:%MZ}"
AT = f"{slot_time(SPIKE):%Y-%m-%dT%H:%MZ}"


@pytest.fixture
def store():
    """A day at 100 with one minute of 350."""
    store = make_store()
    store.write(
        Points.of(
            (Series("SIM:AAA", Measure.VOLUME_1M), slot, 350.0 if slot == SPIKE else 100.0, Quality.OBSERVED)
            for slot in range(LAST - 1499, LAST + 1)
        )
    )
    LogWriter(store.breach_log)
    return store


async def run(service, *words: str) -> tuple[int, str, str]:
    """Run a command against a service; return exit code, standard output and standard error."""
    settings = {"TICKWATCH_ALERTS": service.server.address}
    done = await asyncio.to_thread(commands.tickwatch, *words, settings=settings)
    return done.returncode, done.stdout, done.stderr


async def ask(service, *words: str) -> str:
    """Run a command that must neither fail nor complain, and return what it prints."""
    code, out, complaints = await run(service, *words)
    assert (code, complaints) == (0, "")
    return out


async def test_rules_are_listed(store):
    """For people and for programs; silences that hold are told."""
    async with serve(store, rules=RULES, markets=MARKETS) as service:
        made = json.loads(await ask(service, "silence", "--rule", "hour", "--for", "2h", "--output", "json"))
        silences = json.loads(await ask(service, "silence", "--output", "json"))
        table = await ask(service, "rules", "list")
        rows = json.loads(await ask(service, "rules", "list", "--output", "json"))

    (silence,) = rows["silences"]
    assert made == silences == [silence]
    assert f"silenced by {silence['id']}" in table
    assert (
        "gone  warning  missing: {slots: 3}\n    all series (1 now)\n    0 episodes open, 0 breaches in 24 h" in table
    )
    assert [status["rule"]["name"] for status in rows["rules"]] == ["gone", "hour"]
    assert rows["rules"][1]["rule"]["ratio"]["window"] == "3600s"
    assert rows["load_error"] == ""


async def test_a_rule_is_replayed(store, tmp_path):
    """One in force, or one of a file; what it would fire a day is counted."""
    file = tmp_path / "rules.yaml"
    file.write_text("rules: [{name: often, threshold: {above: 99}}]")
    async with serve(store, rules=RULES, markets=MARKETS) as service:
        hour = await ask(
            service, "rules", "replay", "hour", "--since", "1d", "--end", f"{slot_time(LAST + 1):%FT%H:%MZ}"
        )
        often = await ask(service, "rules", "replay", "often", "--file", str(file), "--limit", "2")
        as_json = json.loads(await ask(service, "rules", "replay", "hour", "--output", "json"))
        wrong = await run(service, "rules", "replay", "oftn", "--file", str(file))
        both = await run(service, "rules", "replay", "hour", "--since", "1d", "--start", AT)
        unknown = await run(service, "rules", "replay", "houre")

    assert "SIM:AAA volume_1m is 3.5 times its average of the last 1h: 350 against 100 (60 points)  [hour]" in hour
    assert "1 episode of 1 breach in 2026-11-23 06:00 to 2026-11-24 06:00 UTC; a day: episodes 1, breaches 1" in hour
    assert "… more with --limit\n1 episode of 1,440 breaches" in often
    assert [event["kind"] for event in as_json["events"]] == ["breach", "resolved"]
    assert as_json["breaches_per_day"] == 1
    assert (wrong[0], "has no rule 'oftn'; did you mean 'often'?" in wrong[2]) == (2, True)
    assert (both[0], "give either --since or --start" in both[2]) == (2, True)
    assert unknown == (1, "", "Error: no rule 'houre' is in force; did you mean hour?\n")


async def test_a_series_is_explained(store):
    """In a sentence, or with every number."""
    async with serve(store, rules=RULES, markets=MARKETS) as service:
        told = await ask(service, "explain", "hour", "SIM:AAA", "volume_1m", "--at", AT)
        row = json.loads(await ask(service, "explain", "hour", "SIM:AAA", "volume_1m", "--output", "json"))

    assert told.startswith(f"fired at {AT}: SIM:AAA volume_1m is 3.5 times its average")
    assert "before: ok, after: open" in told
    assert (row["slot_time"], row["value"], row["baseline"], row["breached"]) == (
        f"{slot_time(LAST):%Y-%m-%dT%H:%M:%SZ}",
        100,
        100,
        False,
    )


async def test_dead_letters_are_listed_and_resent(store):
    """By id or all at once; nothing is resent by mistake."""
    async with serve(store) as service:
        letters = DeadLetters(store.breach_log, service.clock)
        kept = [letters.add("desk", event, 5, "HTTP 410: gone") for event in many(2)]
        listed = await ask(service, "dead-letters", "list")
        rows = json.loads(await ask(service, "dead-letters", "list", "--output", "json"))
        nothing = await run(service, "dead-letters", "resend")
        one = await ask(service, "dead-letters", "resend", kept[0].id)
        rest = await ask(service, "dead-letters", "resend", "--all")
        empty = await ask(service, "dead-letters", "list")
        unknown = await run(service, "dead-letters", "resend", "0" * 16)

    assert f"{kept[0].id}  given up 2026-11-24 06:00 UTC  desk: tried 5 times, HTTP 410: gone" in listed
    assert {row["id"] for row in rows} == {letter.id for letter in kept}
    assert nothing[0] == 2
    assert (one, rest, empty) == ("queued 1\n", "queued 1\n", "There are no dead letters.\n")
    assert unknown == (1, "", "Error: there is no dead letter '0000000000000000'\n")
