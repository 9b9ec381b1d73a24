"""What h2load and wrk print is read rightly, and what they could not do is never taken for a figure."""

from __future__ import annotations

import pytest

from benchmarks.load import LoadError, grpc_frame, parse_h2load, parse_wrk

H2LOAD = """\
starting benchmark...
progress: 100% done

finished in 7.92ms, 631.07 req/s, 140.76KB/s
requests: 5 total, 5 started, 5 done, {succeeded} succeeded, {failed} failed, {failed} errored, 0 timeout
status codes: 5 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 1.12KB (1142) total, 165B (165) headers (space savings 59.26%), 525B (525) data
                     min         max         mean         sd        +/- sd
time for request:      517us      4.46ms      2.62ms      1.73ms    40.00%
"""
LOG = """\
1795494135643457\t200\t1692
1795494135643496\t200\t2049
1795494135645191\t200\t4357
1795494135645589\t200\t4459
1795494135650150\t200\t517
"""
WRK = """\
Running 1s test @ http://127.0.0.1:49335/health
  1 threads and 1 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   121.92us  229.97us   3.12ms   96.61%
    Req/Sec    11.42k     1.16k   13.67k    81.82%
  Latency Distribution
     50%   {median}
     75%  127.00us
  12480 requests in 1.10s, 1.95MB read
{failures}Requests/sec:  11351.09
"""


def test_h2load_gives_the_median_of_its_log_and_the_bytes_of_its_data():
    """Calls, seconds and body bytes come from the report, the median from the log's third column."""
    load = parse_h2load(H2LOAD.format(succeeded=5, failed=0), LOG)

    assert (5, 525) == (load.calls, load.body_bytes)
    assert pytest.approx((0.00792, 0.002049)) == (load.seconds, load.p50)
    assert pytest.approx(631.3, rel=1e-3) == load.calls_per_second


def test_h2load_with_a_failed_call_is_refused():
    """One failed call spoils a measurement, and the error quotes h2load's counts."""
    with pytest.raises(LoadError, match=r"2 of 5 calls failed: requests: 5 total"):
        parse_h2load(H2LOAD.format(succeeded=3, failed=2), LOG)


def test_h2load_with_a_shorter_log_is_refused():
    """A log that lacks calls would give the median of something else."""
    with pytest.raises(LoadError, match="made 5 calls and logged 2"):
        parse_h2load(H2LOAD.format(succeeded=5, failed=0), "".join(LOG.splitlines(keepends=True)[:2]))


@pytest.mark.parametrize(("said", "seconds"), [("82.00us", 82e-6), ("3.25ms", 3.25e-3), ("1.02s", 1.02), ("1.50m", 90)])
def test_wrk_gives_the_median_in_seconds(said, seconds):
    """Every unit that wrk prints is turned into seconds."""
    load = parse_wrk(WRK.format(median=said, failures=""))

    assert pytest.approx(seconds) == load.p50
    assert (12480, 1.10) == (load.calls, load.seconds)


@pytest.mark.parametrize(
    "failure",
    ["  Non-2xx or 3xx responses: 9094\n", "  Socket errors: connect 0, read 3, write 0, timeout 1\n"],
)
def test_wrk_with_failures_is_refused(failure):
    """Refusals and broken connections are fast; they never become a figure."""
    with pytest.raises(LoadError, match=failure.strip()):
        parse_wrk(WRK.format(median="82.00us", failures=failure))


def test_wrk_without_an_answer_is_refused():
    """A run that ended before the first answer has no median."""
    with pytest.raises(LoadError, match="no answer"):
        parse_wrk(WRK.format(median="0.00us", failures="").replace("12480 requests", "0 requests"))


def test_unknown_words_are_quoted():
    """What is not understood is shown, because a new version of a program may say things otherwise."""
    with pytest.raises(LoadError, match="segmentation fault"):
        parse_wrk("segmentation fault")


def test_a_frame_is_flag_length_and_message():
    """A message in gRPC is prefixed by one byte for compression and four for the length."""
    assert b"\x00\x00\x00\x00\x03abc" == grpc_frame(b"abc")
