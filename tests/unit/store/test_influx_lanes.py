"""A bulk load's connections keep the order of each metric, hold little at a time, and never hide a failure."""

from __future__ import annotations

import threading
from collections import defaultdict

import pytest

from services.core.store.influx.lanes import BODY_BYTES, LANES, Lanes

NAMES = [f"A:M{number}" for number in range(20)]
LONG = b"x" * BODY_BYTES
PATIENCE_SECONDS = 30


def test_lines_of_a_metric_are_sent_in_order_by_one_connection() -> None:
    """All lines arrive; those of one metric by one thread, in the order in which they were put."""
    sent: defaultdict[int, list[str]] = defaultdict(list)

    def send(body: bytes, precision: str) -> None:
        assert precision == "s"
        sent[threading.get_ident()] += body.decode().split()

    put = [(name, f"{name}/{number}") for number in range(50) for name in NAMES]
    with Lanes(send) as lanes:
        for number, (name, line) in enumerate(put):
            lanes.put(name, f"{line}\n".encode())
            if number % 7 == 0:
                lanes.flush()
        for sending in lanes.flush():
            sending.result(PATIENCE_SECONDS)

    assert len(sent) == LANES
    assert sorted(line for _, line in put) == sorted(line for lines in sent.values() for line in lines)
    for name in NAMES:
        (of_name,) = [
            found for lines in sent.values() if (found := [line for line in lines if line.startswith(f"{name}/")])
        ]
        assert of_name == [f"{name}/{number}" for number in range(50)]


def test_who_brings_more_than_the_server_takes_waits() -> None:
    """A lane holds two bodies, and the third is put once the first was taken."""
    answering = threading.Event()
    put: list[int] = []

    def send(_body: bytes, _precision: str) -> None:
        assert answering.wait(PATIENCE_SECONDS)

    def bring() -> None:
        with Lanes(send) as lanes:
            for number in range(3):
                lanes.put(NAMES[0], LONG)
                put.append(number)

    thread = threading.Thread(target=bring)
    thread.start()
    thread.join(0.2)
    before = len(put)
    answering.set()
    thread.join(PATIENCE_SECONDS)

    assert before <= 2
    assert len(put) == 3


def test_what_a_connection_met_is_raised() -> None:
    """A body that could not be sent raises its own error where more is put, and at the latest from what flush gave."""

    def refuse(_body: bytes, _precision: str) -> None:
        raise OSError("no space left")

    with Lanes(refuse) as lanes:
        lanes.put(NAMES[0], b"line\n")
        (sending,) = lanes.flush()
        with pytest.raises(OSError, match="no space left"):
            sending.result(PATIENCE_SECONDS)

    with Lanes(refuse) as lanes:
        lanes.put(NAMES[0], LONG)
        lanes.put(NAMES[0], LONG)
        with pytest.raises(OSError, match="no space left"):
            lanes.put(NAMES[0], LONG)


def test_what_waits_when_a_load_breaks_off_is_not_sent() -> None:
    """Leaving ends what is on its way and drops the rest."""
    answering = threading.Event()
    begun = threading.Event()
    sent: list[bytes] = []

    def send(body: bytes, _precision: str) -> None:
        begun.set()
        assert answering.wait(PATIENCE_SECONDS)
        sent.append(body[:1])

    def break_off() -> None:
        with Lanes(send) as lanes:
            lanes.put(NAMES[0], b"1" + LONG)
            assert begun.wait(PATIENCE_SECONDS)
            lanes.put(NAMES[0], b"2" + LONG)
            _, second = lanes.flush()
            second.add_done_callback(lambda _: answering.set())
            raise OSError("the file ends here")

    with pytest.raises(OSError, match="the file ends here"):
        break_off()

    assert sent == [b"1"]
