"""Run the benchmarks and write their page: `python -m benchmarks`, or `make bench`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from pathlib import Path

from benchmarks import alerting, calls, delivering, gateway, loading, scaling, starting
from benchmarks.machine import versions
from benchmarks.options import FULL, QUICK
from benchmarks.report import Report, kept_remarks
from benchmarks.servers import MissingPeerError, program

SECTIONS = {
    "calls": calls.run,
    "scaling": scaling.run,
    "loading": loading.run,
    "gateway": gateway.run,
    "alerting": alerting.run,
    "delivering": delivering.run,
    "starting": starting.run,
}


def main() -> None:
    """Parse the command line, run the sections, write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure Tickwatch against its peers.")
    parser.add_argument("--section", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="only these")
    parser.add_argument("--quick", action="store_true", help="small and short, to try out; not for publishing")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="the page (default: docs/benchmarks.md for a full run, else none)"
    )
    chosen = parser.parse_args()
    for name in ("h2load", "wrk"):
        try:
            program(name, "install it (Debian: nghttp2-client, wrk)")
        except MissingPeerError as error:
            parser.exit(2, f"{error}\n")
    # Processes start as installed programs do: the warm-up leaves bytecode behind, and nothing is compiled again.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as Ctrl-C does, it stops the servers that were started
    options = QUICK if chosen.quick else FULL
    report = Report()
    for name in chosen.section:
        try:
            SECTIONS[name](options, report)
        except Exception as error:  # noqa: BLE001  # the other sections' hour of figures is worth more
            traceback.print_exc()
            report.skip(f"the rest of section {name}", error)
    full = not chosen.quick and list(chosen.section) == list(SECTIONS)
    output = chosen.output or (Path("docs/benchmarks.md") if full else None)
    if output is not None:
        command = "make bench" if full else f"python -m benchmarks --section {' '.join(chosen.section)}"
        text = report.render(versions=versions(), command=command, remarks=kept_remarks(output))
        output.write_text(text, encoding="utf-8")
        print(f"wrote {output}")


if __name__ == "__main__":
    main()
