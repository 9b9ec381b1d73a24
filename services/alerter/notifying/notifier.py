"""Tells receivers of breaches by HTTP, and a dead man's switch that all is well; in the one process that notifies.

It follows the log alone, so it does not matter who evaluates. The only module of the alerter that knows HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http.cookiejar
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

import httpx

from services.alerter.notifying.dead_letters import DeadLetters
from services.alerter.notifying.delivering import Deliverer
from services.alerter.notifying.heartbeat import Heartbeat, Switch
from services.alerter.notifying.webhooks import Answer, Outcome, Receiver
from services.core.clock import Clock
from services.core.errors import StoreError
from services.core.http_text import retry_after_seconds, status_words
from services.core.store.base import BreachLog
from services.core.telemetry import NotifierMetrics

POLL_INTERVAL_SECONDS = 5.0
"""How often the log and the queue of dead letters are read without a `poke`."""

_LATER = {408, 425, 429}
_READ_BYTES = 4096
"""As much of an answer is read, for its words."""

_log = logging.getLogger(__name__)


class HttpSender:
    """Sends requests, one connection pool for all receivers; a context manager in the loop that uses it.

    Redirects are not followed and cookies not kept: what is sent goes where the settings say, and nowhere else.
    """

    def __init__(self, clock: Clock, secret_urls: Sequence[str] = ()) -> None:
        self._clock = clock
        self._unsaid = _Unsaid(secret_urls)
        self._client = httpx.AsyncClient(
            headers={"User-Agent": "tickwatch", "Accept-Encoding": "identity"},
            cookies=http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(allowed_domains=[])),
            follow_redirects=False,
            timeout=None,  # noqa: S113  each request has a time limit as a whole, below
        )

    async def __aenter__(self) -> Self:
        logging.getLogger("httpx").addFilter(self._unsaid)
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        await self._client.aclose()
        logging.getLogger("httpx").removeFilter(self._unsaid)

    async def __call__(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout_seconds: float
    ) -> Answer:
        """Send one request; the status alone decides how it ended, the answer's text only explains it."""
        answer: Answer | None = None
        try:
            async with (
                asyncio.timeout(timeout_seconds),
                self._client.stream(method, url, headers=dict(headers), content=body) as response,
            ):
                answer = self._judge(response, "")
                answer = self._judge(response, await _beginning(response))
        except TimeoutError:
            words = f"no answer within {timeout_seconds:g} s"
        except httpx.RequestError as error:
            words = _transport_words(error)
        except Exception as error:  # noqa: BLE001  an address that the library takes apart differently must not stop us
            words = f"no request could be made: {type(error).__name__}"
        return answer or Answer(Outcome.LATER, words)

    def _judge(self, response: httpx.Response, text: str) -> Answer:
        if response.is_success:
            return Answer(Outcome.DELIVERED)
        if response.is_redirect:
            text = "redirects are not followed"
        words = status_words(response.status_code, response.reason_phrase, text)
        if response.status_code in _LATER or response.is_server_error:
            after = retry_after_seconds(response.headers.get("Retry-After", ""), self._clock.now())
            return Answer(Outcome.LATER, words, after)
        return Answer(Outcome.REFUSED, words)


class Notifier:
    """A thread that notifies. It may be stopped and started again, as the right to notify comes and goes.

    `healthy` says whether evaluation keeps up: as long as it does, `switch` gets its sign of life. `letters` may be
    anybody's on the same log; what was queued there for sending anew is sent. Nothing is sent while `leads` says no.
    """

    def __init__(
        self,
        log: BreachLog,
        receivers: Sequence[Receiver],
        *,
        clock: Clock,
        metrics: NotifierMetrics,
        switch: Switch | None = None,
        healthy: Callable[[], bool] = lambda: True,
        leads: Callable[[], bool] = lambda: True,
        poll_interval_seconds: float = POLL_INTERVAL_SECONDS,
    ) -> None:
        self._log = log
        self._receivers = tuple(receivers)
        self._clock = clock
        self._metrics = metrics
        self._switch = switch
        self._healthy = healthy
        self._leads = leads
        self._interval = poll_interval_seconds
        self._letters = DeadLetters(log, clock, on_dropped=metrics.dropped_letters.inc)
        self._thread: threading.Thread | None = None
        self._course: _Course | None = None

    def start(self) -> None:
        """Begin to notify in a thread of its own; does nothing while there is one."""
        if self._thread is not None:
            return
        course = self._course = _Course()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._notify(course)), name="tickwatch-notifier", daemon=True
        )
        self._thread.start()

    def stop(self, grace_seconds: float = 5.0) -> None:
        """End the thread: requests that are under way may take so long to end, and are else made again by the next."""
        thread, self._thread = self._thread, None
        if thread is not None and self._course is not None:
            self._course.end(grace_seconds)
            thread.join()

    def poke(self) -> None:
        """Have the log and the queue read at once: somebody has just appended to one of them. From any thread."""
        if (course := self._course) is not None:
            course.poke()

    async def _notify(self, course: _Course) -> None:
        urls = [receiver.url for receiver in self._receivers] + ([self._switch.url] if self._switch else [])
        async with HttpSender(self._clock, urls) as send:
            deliverers = [
                Deliverer(
                    receiver,
                    self._log,
                    self._letters,
                    send,
                    clock=self._clock,
                    metrics=self._metrics,
                    poll_interval_seconds=self._interval,
                    leads=self._leads,
                )
                for receiver in self._receivers
            ]
            steps = [deliverer.step for deliverer in deliverers] + [self._give_back_unknown]
            if self._switch:
                steps.append(
                    Heartbeat(self._switch, send, self._healthy, clock=self._clock, metrics=self._metrics).step
                )
            for deliverer in deliverers:
                lag = self._metrics.lag_seconds.labels(deliverer.receiver.name)
                lag.set_function(functools.partial(_lag_seconds, deliverer))

            def finish() -> None:
                for deliverer in deliverers:
                    deliverer.stop()

            try:
                await course.run(steps, finish)
            finally:
                for deliverer in deliverers:
                    self._metrics.lag_seconds.remove(deliverer.receiver.name)

    async def _give_back_unknown(self) -> float:
        """Look after what is queued for receivers that are no more."""
        try:
            await asyncio.to_thread(self._letters.give_back_unknown, [receiver.name for receiver in self._receivers])
        except StoreError as error:
            _log.debug("looking after queued dead letters: %s", error)
        except Exception:  # noqa: BLE001 - it is logged
            _log.exception("looking after queued dead letters failed")
        return self._interval


class _Course:
    """Steps repeated side by side until the end is asked for; everything but `run` may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wakes: list[asyncio.Event] = []
        self._ended = asyncio.Event()
        self._grace_seconds: float | None = None

    def poke(self) -> None:
        self._in_loop(self._wake_all)

    def end(self, grace_seconds: float) -> None:
        self._grace_seconds = grace_seconds
        self._in_loop(self._ended.set)

    def _in_loop(self, work: Callable[[], None]) -> None:
        with self._lock, contextlib.suppress(RuntimeError):  # the loop may just have been closed
            if self._loop is not None:
                self._loop.call_soon_threadsafe(work)

    async def run(self, steps: Sequence[Callable[[], Awaitable[float]]], on_end: Callable[[], None]) -> None:
        """Repeat each step, which returns after how many seconds it wants to be called again, or when poked."""
        self._wakes = [asyncio.Event() for _ in steps]
        tasks = [asyncio.create_task(self._repeat(step, wake)) for step, wake in zip(steps, self._wakes, strict=True)]
        with self._lock:
            self._loop = asyncio.get_running_loop()
        try:
            if self._grace_seconds is None:
                await self._ended.wait()
            self._ended.set()
            on_end()
            self._wake_all()
            await asyncio.wait(tasks, timeout=self._grace_seconds)
        finally:
            with self._lock:
                self._loop = None
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _wake_all(self) -> None:
        for wake in self._wakes:
            wake.set()

    async def _repeat(self, step: Callable[[], Awaitable[float]], wake: asyncio.Event) -> None:
        while not self._ended.is_set():
            seconds = await step()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await wake.wait()
            wake.clear()


class _Unsaid(logging.Filter):
    """Keeps addresses out of the HTTP library's own log: whoever knows one may post to it."""

    def __init__(self, urls: Sequence[str]) -> None:
        super().__init__()
        self._urls = tuple(urls)

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        return not any(url in message for url in self._urls)


def _lag_seconds(deliverer: Deliverer) -> float:
    return deliverer.lag_seconds


async def _beginning(response: httpx.Response) -> str:
    """Return the beginning of an answer's text; reading small ones whole lets the connection be used again."""
    read = b""
    async for chunk in response.aiter_raw():
        read += chunk
        if len(read) >= _READ_BYTES:
            break
    return read[:_READ_BYTES].decode(response.charset_encoding or "utf-8", errors="replace")


def _transport_words(error: httpx.RequestError) -> str:
    kinds: list[tuple[type[httpx.RequestError], str]] = [
        (httpx.ConnectError, "no connection"),
        (httpx.RemoteProtocolError, "the connection ended before the answer"),
        (httpx.ReadError, "the connection was cut"),
        (httpx.WriteError, "the connection was cut"),
    ]
    words = next((words for kind, words in kinds if isinstance(error, kind)), type(error).__name__)
    return f"{words}: {error}" if str(error) else words
