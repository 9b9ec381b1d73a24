"""Section `alerting`: rules evaluated live and over history, beside vmalert's replay of the same rule.

Both replays are given the same data, series without a gap, and must find the same points out of line.
"""

from __future__ import annotations

import json
import subprocess
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.data import BLOCK_METRICS, EXCHANGE
from benchmarks.options import Options
from benchmarks.report import Report, Table, number
from benchmarks.servers import MissingPeerError, Victoria, bodies, fetch, program, scratch, victoria
from benchmarks.statistics import Bound, Goal, Spread, ratios
from services.alerter.evaluation.columns_of import block_of
from services.alerter.evaluation.steps import Block
from services.alerter.live.evaluator import Evaluator, slots_kept
from services.alerter.live.recent import Recent
from services.alerter.trial.replaying import replay
from services.core.breach_documents import AlertState
from services.core.model import (
    DAY_SLOTS,
    SLOT_SECONDS,
    Floats,
    Measure,
    Points,
    Quality,
    Series,
    Slot,
    Window,
    WindowColumns,
    last_complete_slot,
    slot_time,
)
from services.core.rules import Missing, Ratio, Rule, Selector
from services.core.store.memory import MemoryMetricStore

LIVE_MS = 20
LIVE_GROWTH = 12
"""How much more ten times as many series may cost: linear, and something for noise and caches."""
REPLAYED_PER_SECOND = 20_000_000

HOUR = Rule("hour", Ratio(), Selector(measures=("volume_1m",)))
LIVE_RULES = (HOUR, Rule("missing", Missing()))
LIVE_SLOTS = 40
_HOUR_SLOTS = 60
_CALM, _BURSTS = 0.65, 1.0
"""How far volumes spread (the sigma of their logarithms): 2 and 6 % of the points are out of line."""

_CPU = "Tickwatch, values at hand, processor time"
_BURSTS_CPU = "the same, where 6 % of the points fire"
_STORE = "Tickwatch, from a memory store as TestRule reads it"
_VMALERT = "vmalert -replay, process start to end"
_EXPRESSION = "volume_1m > 3 * avg_over_time(volume_1m[1h] offset 1m)"


def run(options: Options, report: Report) -> None:
    """Measure live evaluation at two sizes, and replays."""
    print(f"alerting: {options.metric_count} and {options.large_count} series", flush=True)
    _live(options, report)
    _replays(options, report)


def _live(options: Options, report: Report) -> None:
    """Processor time of one slot: its points put in, the slot closed, every rule evaluated on every series."""
    sizes = (options.metric_count, options.large_count)
    done = [[_one_slot(size) for size in sizes] for _ in range(options.slow_rounds)]
    small, large = ([row[place] for row in done] for place in range(2))
    rows = [
        [f"{size:,}", number(Spread.of(column), factor=1e3), f"{Spread.of(column).median / size / 2 * 1e9:,.0f}"]
        for size, column in zip(sizes, (small, large), strict=True)
    ]
    name = f"live evaluation of a slot, {options.large_count:,} series x 2 rules: CPU ms"
    report.goal(Goal(name, Bound.AT_MOST, LIVE_MS, Spread.of(large).scaled(1e3)))
    name = f"live evaluation: CPU at {sizes[1]:,} / {sizes[0]:,} series"
    report.goal(Goal(name, Bound.AT_MOST, LIVE_GROWTH, ratios(large, small)))
    header = ["series", "CPU ms per slot, 2 rules", "ns per series and rule"]
    report.table(Table("Live evaluation, ratio and missing, from a slot's points to its events", header, rows))


def _one_slot(count: int) -> float:
    """Return the median processor seconds that a slot of so many series takes."""
    series = tuple(Series(f"{EXCHANGE}:M{number:05}", Measure.VOLUME_1M) for number in range(count))
    end = last_complete_slot(time.time())
    recent = Recent(slots_kept(LIVE_RULES), Slot(end + 1))
    values = _volumes(count, recent.end - recent.start)
    window = Window(recent.start, recent.end)
    recent.fill(WindowColumns(window, series, values, np.full(values.shape, Quality.OBSERVED, np.uint8)))
    evaluator = Evaluator(recent, AlertState(end, recent.start, {rule.name: rule.version for rule in LIVE_RULES}))
    evaluator.adopt(LIVE_RULES, series)
    places = np.arange(count, dtype=np.int32)
    qualities = np.full(count, Quality.OBSERVED, np.uint8)
    news = _volumes(count, LIVE_SLOTS, seed=2)
    taken = []
    for place in range(LIVE_SLOTS):
        slot = Slot(end + 1 + place)
        points = Points(series, places, np.full(count, slot), np.ascontiguousarray(news[:, place]), qualities)
        begun = time.process_time()
        evaluator.take(points)
        evaluator.close(slot, slot, {})
        evaluator.advance()
        taken.append(time.process_time() - begun)
        if evaluator.evaluated != slot:
            raise RuntimeError(f"slot {slot} was not evaluated")
    return float(np.median(taken[LIVE_SLOTS // 4 :]))


@dataclass(frozen=True, slots=True)
class History:
    """A day of every series, and the hour before it."""

    series: tuple[Series, ...]
    values: Floats
    window: Window
    """The day; the values begin an hour earlier."""

    @classmethod
    def of(cls, count: int, spread: float = _CALM) -> History:
        """Make a history of so many series that ends with the last complete slot."""
        window = Window.ending(last_complete_slot(time.time()) + 1)
        series = tuple(Series(f"{EXCHANGE}:M{number:05}", Measure.VOLUME_1M) for number in range(count))
        return cls(series, _volumes(count, DAY_SLOTS + _HOUR_SLOTS, spread=spread), window)

    @property
    def first(self) -> Slot:
        """The slot of the first value."""
        return Slot(self.window.start - _HOUR_SLOTS)

    @property
    def evaluated(self) -> int:
        """How many points are evaluated."""
        return len(self.series) * len(self.window)

    def read(self, window: Window) -> Block:
        """Return a part as a block; nothing was there before."""
        block = np.full((len(self.series), len(window)), np.nan)
        first = max(window.start, self.first)
        block[:, first - window.start :] = self.values[:, first - self.first : window.end - self.first]
        return Block(window.start, block)

    def out_of_line(self) -> set[tuple[str, int]]:
        """Return what breaks the rule, by plain numpy: a mean over each hour, and a comparison."""
        hours = np.lib.stride_tricks.sliding_window_view(self.values, _HOUR_SLOTS, axis=1)[:, :-1]
        series, slots = np.nonzero(self.values[:, _HOUR_SLOTS:] > 3 * hours.mean(axis=2))
        return {
            (self.series[row].metric, int(self.window.start + slot)) for row, slot in zip(series, slots, strict=True)
        }

    def points(self) -> Points:
        """Return all of it as points, for a store."""
        count, length = self.values.shape
        return Points(
            self.series,
            np.repeat(np.arange(count, dtype=np.int32), length),
            np.tile(np.arange(self.first, self.window.end, dtype=np.int64), count),
            self.values.reshape(-1),
            np.full(self.values.size, Quality.OBSERVED, np.uint8),
        )

    def line_protocol(self) -> bytes:
        """Return all of it as line protocol; VictoriaMetrics names the series volume_1m."""
        seconds = [slot * SLOT_SECONDS for slot in range(self.first, self.window.end)]
        lines = []
        for each, row in zip(self.series, self.values.tolist(), strict=True):
            name = f"volume,pair={each.metric.partition(':')[2]} 1m="
            lines += [f"{name}{value!r} {second}\n" for second, value in zip(seconds, row, strict=True)]
        return "".join(lines).encode()


def _replays(options: Options, report: Report) -> None:
    """Ours on values at hand and through a store, vmalert's on its server; in turns."""
    history = History.of(options.metric_count)
    truth = history.out_of_line()
    store = MemoryMetricStore()
    store.write(history.points())
    bursts = History.of(options.metric_count, _BURSTS)
    truth_of_bursts = bursts.out_of_line()
    runs: dict[str, Callable[[], float]] = {
        _CPU: lambda: _ours(history, truth, history.read, time.process_time),
        _BURSTS_CPU: lambda: _ours(bursts, truth_of_bursts, bursts.read, time.process_time),
        _STORE: lambda: _ours(history, truth, lambda window: block_of(store, history.series, window)),
    }
    try:
        vmalert = program("vmalert", "install VictoriaMetrics' vmalert 1.151")
        with victoria() as server:
            for body in bodies([history.line_protocol()]):
                server.write(body)
            server.flush()
            runs[_VMALERT] = lambda: _vmalert(str(vmalert), server, history, truth)
            done = _in_turns(runs, options.slow_rounds)
    except MissingPeerError as error:
        report.skip("vmalert's replay", error)
        done = _in_turns(runs, options.slow_rounds)
    rows = [
        [name, number(Spread.of(seconds), factor=1e3), number(Spread.of(history.evaluated / each for each in seconds))]
        for name, seconds in done.items()
    ]
    rates = Spread.of(history.evaluated / each for each in done[_CPU])
    name = f"replay of a day of {len(history.series):,} series: million points a second on one core"
    report.goal(Goal(name, Bound.AT_LEAST, REPLAYED_PER_SECOND / 1e6, rates.scaled(1e-6)))
    if _VMALERT in done:
        faster = ratios(done[_STORE], done[_VMALERT])
        report.goal(Goal("TestRule / vmalert's replay of the same rule: time", Bound.AT_MOST, 1, faster))
    header = ["replay", "ms", "points evaluated a second"]
    note = f"`{_EXPRESSION}`; {len(truth):,} of {history.evaluated:,} points fire, the same ones in all."
    report.table(Table("Replay of a rule over a day", header, rows, note))


def _in_turns(runs: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each, after a warm-up."""
    for each in runs.values():
        each()
    done: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, each in runs.items():
            done[name].append(each())
    return done


def _ours(
    history: History,
    truth: set[tuple[str, int]],
    read: Callable[[Window], Block],
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Replay, in this thread alone; return the seconds by this clock."""
    begun = clock()
    found = replay(HOUR, history.series, history.window, read, most_events=1000)
    seconds = clock() - begun
    if found.breach_count != len(truth) or found.point_count != history.evaluated:
        raise RuntimeError(f"{found.breach_count} breaches where numpy finds {len(truth)}")
    return seconds


def _vmalert(binary: str, server: Victoria, history: History, truth: set[tuple[str, int]]) -> float:
    """Replay with vmalert; return the seconds from start to end, after checking what it has written."""
    fetch(f"{server.url}/api/v1/admin/tsdb/delete_series?match[]=ALERTS&match[]=ALERTS_FOR_STATE", body=b"")
    fetch(f"{server.url}/internal/resetRollupResultCache")
    start, end = (f"{slot_time(slot):%Y-%m-%dT%H:%M:%SZ}" for slot in (history.window.start, history.window.end - 1))
    rules = {"groups": [{"name": "g", "interval": "1m", "rules": [{"alert": "hour", "expr": _EXPRESSION}]}]}
    with scratch() as folder:
        file = folder / "rules.yaml"
        file.write_text(json.dumps(rules), encoding="utf-8")
        url = server.url
        command = [binary, f"-rule={file}", f"-datasource.url={url}", f"-remoteWrite.url={url}"]
        command += [f"-replay.timeFrom={start}", f"-replay.timeTo={end}", "-replay.disableProgressBar"]
        command += ["-replay.maxDatapointsPerQuery=1500", "-loggerLevel=ERROR", "-replay.rulesDelay=0"]
        begun = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds = time.perf_counter() - begun
    server.flush()
    found = _alerts(server, history)
    if found != truth:
        raise RuntimeError(
            f"vmalert fires at {len(found)} points, {len(found ^ truth)} of all points differ from numpy"
        )
    return seconds


def _alerts(server: Victoria, history: History) -> set[tuple[str, int]]:
    """Return at which points the alert was firing, as vmalert has written it."""
    query = urllib.parse.urlencode(
        {
            "match[]": 'ALERTS{alertstate="firing"}',
            "start": history.window.start * SLOT_SECONDS,
            "end": history.window.end * SLOT_SECONDS - 1,
        }
    )
    found = set()
    for line in fetch(f"{server.url}/api/v1/export?{query}").splitlines():
        each = json.loads(line)
        metric = f"{EXCHANGE}:{each['metric']['pair']}"
        found |= {
            (metric, int(moment // 1000 // SLOT_SECONDS))
            for moment, value in zip(each["timestamps"], each["values"], strict=True)
            if value == 1
        }
    return found


def _volumes(count: int, slots: int, *, seed: int = 1, spread: float = _CALM) -> Floats:
    """Return volumes that now and then burst, with six decimals."""
    parts = [
        np.random.default_rng([seed, first]).lognormal(3, spread, (min(BLOCK_METRICS, count - first), slots))
        for first in range(0, count, BLOCK_METRICS)
    ]
    return np.concatenate(parts).round(6)
