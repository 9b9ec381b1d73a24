"""What people type on the command line, as values; what they mistype, as an error that says what would be right."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from services.core.numbers import whole
from services.core.suggesting import nearest
from services.core.words import SLOT_SECONDS, Measure, Slot

if TYPE_CHECKING:
    from pathlib import Path

    from click.shell_completion import CompletionItem

_HIGHEST_PORT = 65_535
_UNITS = {"m": 1, "h": 60, "d": 1440}


class DurationType(click.ParamType[timedelta]):
    """A whole number of minutes, hours or days: 90m, 24h, 2d."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:  # noqa: ANN401  # click's signature
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"([0-9]{1,6})([mhd])", str(value))
        if not found or not int(found[1]):
            self.fail(
                f"{value!r} is not a duration; give whole minutes, hours or days, as in 90m, 24h or 2d", param, ctx
            )
        return timedelta(minutes=int(found[1]) * _UNITS[found[2]])


class TimeType(click.ParamType[datetime]):
    """A moment of UTC on a whole minute, ISO 8601: 2026-11-24T12:00Z."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:  # noqa: ANN401  # click's signature
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a time; give ISO 8601, as in 2026-11-24T12:00Z", param, ctx)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        if moment.second or moment.microsecond:
            self.fail(f"{value!r} is not on a whole minute; seconds must be zero", param, ctx)
        return moment


class MeasureType(click.ParamType[Measure]):
    """One of the measures."""

    name = "measure"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Measure:  # noqa: ANN401  # click's signature
        try:
            return Measure(str(value).lower())
        except ValueError:
            self.fail(
                f"{value!r} is not a measure; {nearest(str(value).lower(), [m.value for m in Measure])}", param, ctx
            )

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002  # click's signature
        param: click.Parameter,  # noqa: ARG002  # as above
        incomplete: str,
    ) -> list[CompletionItem[str]]:
        from click.shell_completion import CompletionItem  # for the shell alone

        return [CompletionItem(measure.value) for measure in Measure if measure.value.startswith(incomplete.lower())]


class ShardType(click.ParamType[tuple[int, int]]):
    """I/N: the part I, from 0, of N."""

    name = "shard"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:  # noqa: ANN401  # click's signature
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", str(value))
        if not found or not int(found[1]) < int(found[2]):
            self.fail(f"{value!r} is not a shard; give I/N with I from 0 to N-1, as in 0/4", param, ctx)
        return int(found[1]), int(found[2])


class CountType(click.IntRange):
    """A whole number within bounds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401  # click's signature
        if isinstance(value, str) and whole(value) is None:
            self.fail(f"{value!r} is not a whole number; give digits alone, as in 20", param, ctx)
        return super().convert(value, param, ctx)


class ServerType(click.ParamType[str]):
    """Where a service answers: HOST:PORT, or dns:///NAME:PORT for all addresses of a name."""

    name = "server"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ANN401  # click's signature
        found = re.fullmatch(r"(dns:///)?(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):([0-9]{1,5})", str(value))
        if not found or not 0 < int(found[3]) <= _HIGHEST_PORT:
            self.fail(f"{value!r} is not HOST:PORT or dns:///NAME:PORT, as in 127.0.0.1:50051", param, ctx)
        return str(value)


class FileType(click.Path):
    """The path of a file, which need not exist."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:  # noqa: ANN401  # click's signature
        from pathlib import Path  # nobody waits for it who names no file

        return Path(os.fsdecode(super().convert(value, param, ctx)))


DURATION = DurationType()
FILE = FileType()
TIME = TimeType()
MEASURE = MeasureType()
SHARD = ShardType()
SERVER = ServerType()

STATISTICS = ("stddev", "coefficient_of_variation", "log_return_stddev")
"""Those of `core.ranking.Statistic`, which is not read here because numpy comes with it."""


def to_slot(moment: datetime) -> Slot:
    """Return the slot that starts at this moment."""
    return Slot(int(moment.timestamp()) // SLOT_SECONDS)
