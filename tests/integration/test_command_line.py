"""The commands as people type them: what they print, what they refuse, how they end."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import termios
from pathlib import Path

import click
import pytest

from services.cli import cli
from services.core.words import MEASURES
from tests.support import commands
from tests.support.exchanges import running_exchange
from tests.support.needs import require_influxdb

UP = r"gRPC +(\S+)"
ANYWHERE = ("--listen", "127.0.0.1:0", "--alerts", "127.0.0.1:0")
NOWHERE = {"TICKWATCH_EXCHANGES__KRAKEN__BASE_URL": "http://127.0.0.1:9"}
"""Kraken at a port where nobody listens: a machine without the internet."""


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    """Everything in one process on the simulated market, up and with its first day."""
    store = f"sqlite:{tmp_path_factory.mktemp('up')}/tickwatch.db"
    arguments = ("--store", store, "up", "--exchange", "simulated", *ANYWHERE)
    with commands.running(*arguments, announces=UP, settings={}) as service:
        yield service


def ask(service: commands.Service, *words: str) -> str:
    """Ask the service by a command and return what it prints; it must not fail or complain."""
    done = commands.tickwatch(*words, "--server", service.address, settings={})
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_list_prints_a_table_and_rows(market):
    """`list` names every metric, in a table for people and one row a measure for pipes."""
    table = ask(market, "list")
    rows = list(csv.DictReader(ask(market, "list", "--output", "csv").splitlines()))
    as_json = json.loads(ask(market, "list", "--output", "json"))

    assert all(name in table for name in ("SIM:BTCUSD", "SIM:ETHUSD", "SIM:XRPUSD"))
    assert {(row["metric"], row["measure"]) for row in rows} == {(row["metric"], row["measure"]) for row in as_json}
    assert len(as_json) == 15


def test_the_breaches_of_the_day_are_there_at_once(tmp_path):
    """Whoever starts it for the first time finds a day of breaches, none of them late, and nobody missing."""
    arguments = ("--store", f"sqlite:{tmp_path}/t.db", "up", "--exchange", "simulated", *ANYWHERE)
    with commands.running(*arguments, announces=r"alerts +(\S+)", settings={}) as service:
        words = ("breaches", "--since", "1d", "--limit", "1000", "--alerts", service.address, "--output", "json")
        done = commands.tickwatch(*words, settings={})
    events = json.loads(done.stdout)
    hours = {event["slot_time"][:13] for event in events}

    assert (done.returncode, done.stderr) == (0, "")
    assert {event["rule"] for event in events} == {"three-times-the-hour"}
    assert {event["metric"] for event in events} == {"SIM:BTCUSD", "SIM:ETHUSD", "SIM:XRPUSD"}
    assert len(hours) >= 24
    assert not any(event["late"] for event in events)


def test_history_prints_a_plot_and_every_value(market):
    """`history` plots for people and prints every minute for pipes, null where there is none."""
    plot = ask(market, "history", "SIM:BTCUSD", "price")
    rows = json.loads(ask(market, "history", "SIM:BTCUSD", "price", "--output", "json"))
    hour = ask(market, "history", "SIM:BTCUSD", "price", "--since", "1h", "--interval", "5m", "--output", "csv")

    assert "hours before the end" in plot
    assert "mean" in plot
    assert len(rows) == 1440
    assert {"time", "value"} == rows[0].keys()
    assert len(hour.splitlines()) == 1 + 12


@pytest.mark.parametrize("output", ["table", "json"])
def test_no_answer_waits_for_numpy(market, output):
    """Nobody who asks from a shell waits for a library that takes longer to be imported than the answer to come."""
    for words in (["list"], ["history", "SIM:BTCUSD", "price"], ["rank", "price"]):
        code, imported = commands.imported_by(*words, "--output", output, "--server", market.address)

        assert code == 0
        assert {"numpy", "rich"}.isdisjoint(imported)


@pytest.mark.parametrize(
    ("settings", "coloured"), [({"TERM": "xterm"}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_a_terminal_has_colours_unless_it_wants_none(market, settings, coloured):
    """On a terminal names are bold and changes coloured, unless NO_COLOR is set or TERM is dumb; the words stay."""
    plain = ask(market, "list").splitlines()
    ours, theirs = pty.openpty()
    command = [commands.PYTHON, "-m", "services.cli", "list", "--server", market.address]
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        try:
            subprocess.run(command, stdout=theirs, env=commands.environment(settings), timeout=120, check=True)
            shown = terminal.read(1 << 16).decode()
        finally:
            os.close(theirs)

    assert ("\x1b[1mSIM:BTCUSD\x1b[0m" in shown) == coloured
    assert ("\x1b[" in shown) == coloured
    assert [line.split("   ")[0] for line in click.unstyle(shown).splitlines()] == [
        line.split("   ")[0] for line in plain
    ]


def listed_to(sink, service: commands.Service, output: str) -> tuple[int, str]:
    """List the metrics to a file that takes nothing; return the exit code and what standard error has."""
    command = [commands.PYTHON, "-m", "services.cli", "list", "--output", output, "--server", service.address]
    done = subprocess.run(
        command, stdout=sink, stderr=subprocess.PIPE, text=True, env=commands.environment({}), timeout=120, check=False
    )
    return done.returncode, done.stderr


def on_a_terminal(columns: int, *words: str) -> str:
    """Run a command on a terminal with so many columns; return what it shows, without colours."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    command = [commands.PYTHON, "-m", "services.cli", *words]
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        try:
            subprocess.run(command, stdout=theirs, env=commands.environment({}), timeout=120, check=True)
            return click.unstyle(terminal.read(1 << 16).decode())
        finally:
            os.close(theirs)


def test_a_narrow_terminal_gets_what_matters_most_on_whole_lines(market):
    """Forty columns have every metric with its price and change; what does not fit is left out, not wrapped."""
    shown = on_a_terminal(40, "list", "--server", market.address)
    wide = on_a_terminal(100, "list", "--server", market.address)

    assert max(map(len, shown.splitlines())) <= 40
    assert all(word in shown for word in ("SIM:BTCUSD", "Price", "24 h"))
    assert "Points" not in shown
    assert "Points" in wide


def test_an_exchange_without_metrics_is_no_trouble_of_the_collector(market):
    """Whoever mistypes an exchange is told that it has nothing, not that nothing is collected."""
    shown = ask(market, "list", "--exchange", "KRAKN")

    assert "No metric of KRAKN" in shown
    assert "collector" not in shown


@pytest.mark.parametrize("output", ["table", "json", "csv"])
def test_a_full_disk_is_told(market, output):
    """An answer that cannot be written is an error in one line, and the exit code says so."""
    with Path("/dev/full").open("w") as full:
        said = listed_to(full, market, output)

    assert said == (1, "Error: the answer cannot be written: No space left on device\n")


@pytest.mark.parametrize("output", ["table", "json", "csv"])
def test_a_reader_that_has_gone_is_nothing_to_tell(market, output):
    """`| head -1` ends the command without a word on standard error."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as gone:
        said = listed_to(gone, market, output)

    assert said == (1, "")


@pytest.mark.parametrize("name", ["history", "rank", "top", "explain"])
def test_help_names_the_measures(name):
    """Whoever has to name a measure finds all five in the command's help."""
    shown = commands.tickwatch(name, "--help", settings={}).stdout

    assert all(re.search(rf"\b{measure}\b", shown) for measure in MEASURES)


def test_rank_prints_places(market):
    """`rank` puts the most restless first; of prices in dollars that is Bitcoin's."""
    table = ask(market, "rank", "price")
    rows = json.loads(ask(market, "rank", "price", "--output", "json", "--limit", "2"))

    assert "SIM:BTCUSD" in table
    assert [(row["rank"], row["metric"]) for row in rows] == [(1, "SIM:BTCUSD"), (2, "SIM:ETHUSD")]


def test_ctrl_c_ends_everything_cleanly(tmp_path):
    """SIGINT stops `up` with exit code 0, without a traceback, and the file is whole."""
    arguments = ("--store", f"sqlite:{tmp_path}/t.db", "up", "--exchange", "simulated", *ANYWHERE)
    with commands.running(*arguments, announces=UP, settings={}) as service:
        code = service.stop(signal.SIGINT)
        rest = service.process.stdout.read()

    assert (code, "Traceback" in rest) == (0, False)
    with sqlite3.connect(tmp_path / "simulated.db") as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
    database.close()


def test_without_an_exchange_up_plays_a_market_in_a_file_of_its_own(tmp_path):
    """Where Kraken cannot be reached and nobody insisted, `up` says so loudly and keeps the real file untouched."""
    arguments = ("--store", f"sqlite:{tmp_path}/real.db", "up", *ANYWHERE)
    with commands.running(*arguments, announces=r"(SIMULATED)", settings=NOWHERE) as service:
        service.stop()

    assert [path.name for path in tmp_path.glob("*.db")] in ([], ["simulated.db"])


def test_an_exchange_that_was_insisted_on_is_waited_for(tmp_path):
    """`up --exchange kraken` never falls back to the simulated market: it runs, and reports that nothing answers."""
    arguments = ("--store", f"sqlite:{tmp_path}/real.db", "up", "--exchange", "kraken", *ANYWHERE)
    with commands.running(*arguments, announces=r"KRAKEN: 0 points.*(failed)", settings=NOWHERE) as service:
        service.stop()

    assert [path.name for path in tmp_path.glob("*.db")] == ["real.db"]


def test_up_fills_in_the_day_of_a_real_exchange(tmp_path):
    """With an exchange that answers, `up` has the candles' reach at once and the older half of the day soon after."""
    arguments = ("--store", f"sqlite:{tmp_path}/t.db", "up", *ANYWHERE)
    with running_exchange() as exchange:
        settings = {
            "TICKWATCH_EXCHANGES__KRAKEN__BASE_URL": exchange.url,
            "TICKWATCH_EXCHANGES__KRAKEN__CALLS_PER_SECOND": "1000",
        }
        with commands.running(*arguments, announces=UP, settings=settings) as service:
            at_once = json.loads(ask(service, "history", "KRAKEN:BTCUSD", "price", "--output", "json"))
            for line in service.process.stdout:
                if "are filled in" in line:
                    break
            whole = commands.until(
                lambda: json.loads(ask(service, "history", "KRAKEN:BTCUSD", "price", "--output", "json")),
                lambda rows: rows[0]["value"] is not None,
            )

    assert sum(row["value"] is not None for row in at_once) >= 700
    assert sum(row["value"] is not None for row in whole) >= 1380


WRONG = [
    (["history", "BTCUSD", "price"], 2, "'BTCUSD' is not a metric name"),
    (["history", "SIM:BTCUS", "price"], 1, "did you mean SIM:BTCUSD"),
    (["history", "SIM:BTCUSD", "prize"], 2, "'prize' is not a measure; did you mean 'price'?"),
    (
        ["history", "SIM:BTCUSD", "price", "--since", "1x"],
        2,
        "'1x' is not a duration; give whole minutes, hours or days",
    ),
    (["history", "SIM:BTCUSD", "price", "--start", "now"], 2, "'now' is not a time; give ISO 8601"),
    (["history", "SIM:BTCUSD", "price", "--start", "2026-01-01T00:00:30"], 2, "is not on a whole minute"),
    (["history", "SIM:BTCUSD", "price", "--since", "1h", "--start", "2026-01-01"], 2, "give either --since or --start"),
    (["history", "SIM:BTCUSD", "price", "--start", "2026-01-02", "--end", "2026-01-01"], 2, "end_time"),
    (["history", "SIM:BTCUSD", "price", "--end", "tomorrow"], 2, "'tomorrow' is not a time; give ISO 8601"),
    (["history", "SIM:BTCUSD", "price", "--interval", "90s"], 2, "'90s' is not a duration"),
    (["history", "SIM:BTCUSD", "price", "--interval", "2d"], 2, "interval: 172800 s is outside 1 to 1440 minutes"),
    (["history", "SIM:BTCUSD", "price", "--aggregation", "sum"], 2, "'sum' is not one of"),
    (["history", "SIM:BTCUSD", "price", "--output", "yaml"], 2, "'yaml' is not one of 'table', 'json', 'csv'"),
    (["history", "SIM:BTCUSD"], 2, "Missing argument 'MEASURE'"),
    (["rank", "price", "--window", "1m"], 2, "window"),
    (["rank", "price", "--window", "2d"], 2, "window"),
    (["rank", "price", "--statistic", "variance"], 2, "'variance' is not one of"),
    (["rank", "price", "--limit", "0"], 2, "0 is not in the range"),
    (["rank", "price", "--limit", "1_0"], 2, "'1_0' is not a whole number; give digits alone, as in 20"),
    (["rank", "price", "--limit", " 10"], 2, "' 10' is not a whole number"),
    (["rank", "price", "--limit", "10001"], 2, "10001 is not in the range 1<=x<=10000"),
    (["rank", "price", "--output", "xml"], 2, "'xml' is not one of"),
    (["rank", "prices"], 2, "'prices' is not a measure; did you mean 'price'?"),
    (["list", "--exchange", "sim"], 2, "'sim' is not an exchange (upper case, as in KRAKEN)"),
    (["list", "--output", "xml"], 2, "'xml' is not one of"),
    (["list", "--tls"], 1, "does not speak TLS: leave out --tls"),
]


@pytest.mark.parametrize(("words", "code", "message"), WRONG)
def test_a_wrong_question_is_answered_with_what_would_be_right(market, words, code, message):
    """Each mistake gets its exit code and a message that quotes it, without a traceback and nothing on stdout.

    What would be right is said once, though the service says it in its message and beside it.
    """
    done = commands.tickwatch(*words, "--server", market.address, settings={})

    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert not re.search(r"(\([^()]+\)) \1", done.stderr)
    assert "Traceback" not in done.stderr


REFUSED = [
    (["--store", "postgres://x", "collect"], 2, "sqlite:PATH"),
    (["--store", "influxdb+http://127.0.0.1:1/o/b", "collect"], 2, "InfluxDB needs a token"),
    (["--store", "sqlite:{tmp}/t.db", "collect", "--at", "2026-01-01T00:00:01Z"], 2, "is not on a whole minute"),
    (["--store", "sqlite:{tmp}/t.db", "collect", "--at", "2036-01-01T00:00Z"], 2, "has not ended yet"),
    (["--store", "sqlite:{tmp}/t.db", "collect", "--loop", "--at", "2026-01-01"], 2, "leave it out with --loop"),
    (["--store", "sqlite:{tmp}/t.db", "collect", "--shard", "2/2"], 2, "give I/N with I from 0 to N-1"),
    (["--store", "sqlite:{tmp}/t.db", "backfill"], 2, "give either --since DURATION or --from FILE"),
    (["--store", "sqlite:{tmp}/t.db", "backfill", "--since", "90d"], 2, "30 days"),
    (["--store", "sqlite:{tmp}/t.db", "backfill", "--from", "{tmp}/none.csv"], 2, "No such file"),
    (["--store", "sqlite:{tmp}/t.db", "backfill", "--since", "1h", "--metric", "A:B"], 2, "give --from FILE with it"),
    (["--store", "sqlite:{tmp}/t.db", "query", "--listen", "nowhere"], 2, "HOST:PORT"),
    (
        ["--store", "sqlite:{tmp}/t.db", "up", "--exchange", "simulated", *ANYWHERE[:2], "--alerts", "nowhere"],
        2,
        "HOST:PORT",
    ),
    (["--config", "{tmp}/none.yaml", "collect"], 2, "none.yaml: cannot be read: No such file"),
    (["--store", "sqlite:{tmp}/t.db", "collect", "--at", "soon"], 2, "'soon' is not a time; give ISO 8601"),
    (["--store", "sqlite:{tmp}/t.db", "collect", "--shard", "first"], 2, "'first' is not a shard; give I/N"),
    (["--store", "sqlite:{tmp}/t.db", "backfill", "--since", "day"], 2, "'day' is not a duration"),
    (["--store", "sqlite:{tmp}/t.db", "backfill", "--from", "{tmp}", "--metric", "A:B"], 2, "is a directory"),
    (["--store", "sqlite:{tmp}/t.db", "backfill", "--from", "README.md", "--metric", "btc"], 2, "EXCHANGE:PAIR"),
    (["up", "--exchange", "bitmex"], 2, "'bitmex' is not one of 'binance', 'coinbase', 'kraken', 'simulated'"),
    (["--store", "memory:", "up", "--exchange", "simulated", "--listen", "here"], 2, "'here' is not an address"),
    (["--store", "memory:", "up", "--exchange", "simulated", "--alerts", "here"], 2, "'here' is not an address"),
    (["--store", "memory:", "up", "--exchange", "simulated", *ANYWHERE, "--gateway", "here"], 2, "'here' is not an ad"),
    (["list", "--server", "nowhere"], 2, "'nowhere' is not HOST:PORT or dns:///NAME:PORT, as in 127.0.0.1:50051"),
    (["history", "A:B", "price", "--server", "127.0.0.1:99999"], 2, "'127.0.0.1:99999' is not HOST:PORT"),
    (["rank", "price", "--server", "http://127.0.0.1:50051"], 2, "'http://127.0.0.1:50051' is not HOST:PORT"),
    (["list", "--server", "127.0.0.1:9"], 1, "is one running at 127.0.0.1:9? `tickwatch up` starts one"),
    (["lst"], 2, "No such command 'lst'"),
]


@pytest.mark.parametrize(("words", "code", "message"), REFUSED)
def test_what_cannot_be_done_is_refused_in_one_line(tmp_path, words, code, message):
    """Each wrong flag, setting or address gets its exit code and says what would be right; nothing is written."""
    done = commands.tickwatch(*(word.format(tmp=tmp_path) for word in words), settings={})

    assert done.returncode == code
    assert message in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_the_tables_have_every_option():
    """No option of these is without a wrong value above; the alerter's, and what servers are shown, have their own."""
    names = ("up", "collect", "backfill", "query", "list", "history", "rank")
    rows = [words for words, _, _ in (*WRONG, *REFUSED)]
    tried = {(name, word) for words in rows for name in names if name in words for word in words}

    known = {
        (name, option)
        for name in names
        for parameter in cli.commands[name].params
        if isinstance(parameter, click.Option) and parameter.expose_value
        for option in parameter.opts
    }
    assert known <= tried
    assert {option for parameter in cli.params for option in parameter.opts} - {"--version"} <= {
        word for words in rows for word in words
    }


def test_a_store_out_of_reach_has_an_exit_code_of_its_own():
    """Exit code 3 tells a CronJob that the store, not the exchange or the configuration, is the trouble."""
    settings = {"INFLUXDB_V2_TOKEN": "t", "TICKWATCH_INFLUXDB__TIMEOUT_SECONDS": "2", **NOWHERE}

    done = commands.tickwatch("--store", "influxdb+http://127.0.0.1:9/o/b", "collect", settings=settings)

    assert (done.returncode, json.loads(done.stdout)["exit_code"]) == (3, 3)


def test_a_query_service_that_its_store_refuses_ends(tmp_path):
    """A token that is not valid ends `tickwatch query` with exit code 2 and the remedy, instead of serving nothing."""
    influxdb = require_influxdb()
    store = f"influxdb+{influxdb.url}/{influxdb.org}/{influxdb.bucket}"

    done = commands.tickwatch(
        "--store", store, "query", "--listen", "127.0.0.1:0", settings={"INFLUXDB_V2_TOKEN": "wrong-token"}
    )

    assert done.returncode == 2
    assert "set INFLUXDB_V2_TOKEN" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_is_loaded_and_its_bad_rows_are_told(tmp_path):
    """`backfill --from` loads what is right, names what is not by line, and exits with 1."""
    minute = f"{commands.minute(-5):%Y-%m-%dT%H:%MZ}"
    file = tmp_path / "points.csv"
    rows = ["metric,measure,time,value", f"KRAKEN:BTCUSD,price,{minute},1.5", f"KRAKEN:BTCUSD,prize,{minute},1.5"]
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")

    done = commands.tickwatch("--store", f"sqlite:{tmp_path}/t.db", "backfill", "--from", str(file), settings={})

    assert done.returncode == 1
    assert "line 3" in done.stderr
    report = json.loads(done.stdout)
    assert (report["points"], report["bad_rows"]) == (1, 1)


def test_the_module_is_the_command():
    """The installed command and `python -m services.cli` are one."""
    assert (Path(commands.PYTHON).parent / "tickwatch").exists()
    assert "tickwatch rank price" in commands.tickwatch("--help", settings={}).stdout
