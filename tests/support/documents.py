"""What the documentation tells people to type: its blocks of commands, and a shell that runs them as they stand.

A block of commands is fenced as sh, bash or console, fenced without a language and with `$ ` in it, or indented by four
spaces. In those with `$ ` the other lines are what the command shows. A block of YAML whose first line is a comment
that begins with a file's name stands for that file.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.commands import environment
from tests.support.needs import ROOT
from tests.support.ports import free_port

PAGES = sorted(
    str(page.relative_to(ROOT))
    for page in (
        *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "UPGRADING")),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("charts/*/*.md"),
    )
)
_DEADLINE_SECONDS = 120.0
_SERVER = re.compile(r"^tickwatch (?:--\S+ \S+ )*(?:up|query|alerter|gateway|collect --loop)\b")
_READY = re.compile(r"listening on|Tickwatch is up")
_FOLLOWS = re.compile(r"^python3 receiver\.py$|^tickwatch watch\b|^curl -N\b|^curl -s -N (?!--max-time)")
_SCREEN = re.compile(r"^tickwatch top\b")


@dataclass(frozen=True)
class Block:
    """Commands of a page, from this line of it on."""

    page: str
    line: int
    text: str
    prompted: bool
    """Whether commands begin with `$ ` and what they show follows."""

    @property
    def where(self) -> str:
        """PAGE:LINE."""
        return f"{self.page}:{self.line}"

    def steps(self) -> list[Step]:
        """Return the commands in their order, with what each shows."""
        if not self.prompted:
            return [Step(self.text, [])] if _is_script(self.text) else [Step(line, []) for line in _lines(self.text)]
        steps: list[Step] = []
        for line in self.text.replace("\\\n", " ").splitlines():
            if line.startswith("$ "):
                steps.append(Step(line.removeprefix("$ "), []))
            elif line.strip():
                steps[-1].shows.append(line)
        return steps


@dataclass(frozen=True)
class Step:
    """A command and the lines that the page shows of its answer, none where it shows none."""

    command: str
    shows: list[str]


def _lines(text: str) -> list[str]:
    """Return each command, those broken by a backslash joined, comments left out."""
    lines = (re.sub(r"(^|\s)# .*$", "", line).strip() for line in text.replace("\\\n", " ").splitlines())
    return [line for line in lines if line]


def _is_script(text: str) -> bool:
    """Whether lines belong together: here-documents, loops, background jobs."""
    return bool(re.search(r"<<|^(until|for|while) | &$|[|]$", text, re.MULTILINE))


def blocks(page: str) -> list[Block]:
    """Return the blocks of commands of a page."""
    found, lines, place = [], (ROOT / page).read_text(encoding="utf-8").splitlines(), 0
    while place < len(lines):
        fence = re.match(r"```(\w*)$", lines[place])
        start = place + 1
        if fence:
            end = lines.index("```", start)
            text, place = "\n".join(lines[start:end]), end + 1
            prompted = bool(re.search(r"^\$ ", text, re.MULTILINE))
            if fence[1] in ("sh", "bash", "console", "shell") or (not fence[1] and prompted):
                found.append(Block(page, start + 1, text, prompted))
        elif lines[place].startswith("    ") and (not place or not lines[place - 1].strip()):
            while place + 1 < len(lines) and lines[place + 1].startswith("    "):
                place += 1
            text, place = "\n".join(line[4:] for line in lines[start - 1 : place + 1]), place + 1
            found.append(Block(page, start, text, text.startswith("$ ")))
        else:
            place += 1
    return found


def files() -> dict[str, str]:
    """Return the files that pages show, by name; those of the same name have to say the same."""
    found: dict[str, str] = {}
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for block in re.findall(r"^```yaml\n(# [\w-]+\.yaml\b.*?)^```", text, re.MULTILINE | re.DOTALL):
            name = block[2:].split()[0].rstrip(",:;")
            assert found.setdefault(name, block) == block, f"{page} shows another {name}"
    return found


def differences(shows: list[str], answer: str) -> list[str]:
    """Return the shown lines that the answer lacks, in their order.

    Figures, times and plots differ from day to day, so lines are compared without them; `…` stands for anything.
    """
    rest, missing = [_shape(line) for line in answer.splitlines()], []
    for line in shows:
        pattern = re.compile(".*".join(map(re.escape, _shape(line).split("…"))))
        place = next((place for place, candidate in enumerate(rest) if pattern.fullmatch(candidate)), None)
        if place is None:
            missing.append(line)
        else:
            del rest[: place + 1]
    return missing


def _shape(line: str) -> str:
    line = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line)
    line = re.sub(r"[\u2800-\u28ff]+", "", line)
    line = re.sub(r"─{2,}", "RULER", line)  # as long as the figures above and below it need
    line = re.sub(r"just now|\d+ min ago", "AGE", line)
    line = re.sub(r"nothing is open|\d+ episodes? open", "OPEN", line)
    line = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", line)
    line = re.sub(r"[+-]?\d[\d.,:TZe+-]*( [kMG]\b)?", "0", line)
    return " ".join(line.split())


@dataclass
class Session:
    """A person's terminals: a folder, what was exported, and the servers that were started."""

    folder: Path
    variables: dict[str, str]
    replaced: Mapping[str, str]
    """What is typed otherwise than it is written, such as an exchange that a machine without the internet lacks."""
    ports: tuple[int, int, int] = (0, 0, 0)
    """Of query, alerter and gateway."""
    _servers: list[tuple[str, subprocess.Popen[str], Path]] = field(default_factory=list)

    def move(self) -> None:
        """Let whatever is started from here on listen at, and be asked at, ports that nobody has."""
        first = free_port(3)
        self.ports = (first, first + 1, first + 2)
        query, alerts, gateway = (f"127.0.0.1:{port}" for port in self.ports)
        self.variables |= {
            "TICKWATCH_QUERY__LISTEN": query,
            "TICKWATCH_ALERTER__LISTEN": alerts,
            "TICKWATCH_GATEWAY__LISTEN": gateway,
            "TICKWATCH_GATEWAY__QUERY": query,
            "TICKWATCH_GATEWAY__ALERTS": alerts,
            "TICKWATCH_SERVER": query,
            "TICKWATCH_ALERTS": alerts,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }

    def run(self, block: Block, unless: re.Pattern[str] | None = None) -> None:
        """Type a block; fails where a command does, or shows something else than the page says.

        Shown lines in which `unless` is found may be absent.
        """
        steps = block.steps()
        if any(_SERVER.match(self.typed(step.command)) for step in steps):
            self.move()
        for step in steps:
            answer = self._step(step, block.where)
            lacking = differences([line for line in step.shows if not (unless and unless.search(line))], answer)
            assert not lacking, f"{block.where}: {step.command}\ndoes not show {lacking}, but:\n{answer}"

    def _step(self, step: Step, where: str) -> str:
        command = self.typed(step.command)
        if exported := re.match(r"export (.+)$", command):
            for assignment in exported[1].split():
                name, _, value = assignment.partition("=")
                self.variables[name] = value
            return ""
        if _SERVER.match(command):
            return self._serve(command, where)
        if _SCREEN.match(command):
            return self._look(command, where)
        if _FOLLOWS.match(command):
            return self._follow(command, where)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.folder,
            env=environment(self.variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_DEADLINE_SECONDS,
            check=False,
        )
        refused = any(line.startswith("Error: ") for line in step.shows)
        assert (done.returncode != 0) == refused, f"{where}: {command}\nexit code {done.returncode}\n{done.stdout}"
        return done.stdout

    def typed(self, command: str) -> str:
        """Return what is typed where this is written."""
        command = command.replace(".venv/bin/tickwatch", "tickwatch")
        for written, typed in self.replaced.items():
            command = command.replace(written, typed)
        for number, port in zip((50051, 50052, 8080), self.ports, strict=True):
            command = command.replace(f"127.0.0.1:{number}", f"127.0.0.1:{port}")
        return command

    def _serve(self, command: str, where: str) -> str:
        """Start a server, wait until it says that it is there, and let it run until the page's end."""
        log = self.folder / f"server-{len(self._servers)}.log"
        process = self._start(command, log)
        self._servers.append((command, process, log))
        loop = "--loop" in command  # it says nothing before its first run
        return self._wait(
            process,
            log,
            lambda said: _minds_sigterm(process) if loop else bool(_READY.search(said)),
            f"{where}: {command}",
        )

    def _follow(self, command: str, where: str) -> str:
        """Read what never ends until something has been said, then press Ctrl-C."""
        log = self.folder / "follow.log"
        process = self._start(command, log)
        try:
            return self._wait(process, log, lambda said: len(said.splitlines()) > 0, f"{where}: {command}")
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait(timeout=_DEADLINE_SECONDS)
            assert code in (0, -signal.SIGINT), f"{where}: {command}\nexit code {code}\n{log.read_text()}"

    def _look(self, command: str, where: str) -> str:
        """Open a live view on a terminal, wait for its first picture, and press q."""
        ours, theirs = pty.openpty()
        seen = b""
        variables = environment(self.variables | {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"})
        with os.fdopen(ours, "r+b", buffering=0) as screen:
            process = subprocess.Popen(
                command.split(), cwd=self.folder, env=variables, stdin=theirs, stdout=theirs, stderr=theirs
            )
            os.close(theirs)
            deadline = time.monotonic() + _DEADLINE_SECONDS
            with contextlib.suppress(OSError):  # the terminal ends with the process
                while chunk := screen.read(65536):
                    assert time.monotonic() < deadline, f"{where}: {command} shows nothing"
                    seen += chunk
                    if b"SIM:" in seen:
                        screen.write(b"q")
        code = process.wait(timeout=_DEADLINE_SECONDS)
        assert code == 0, f"{where}: {command}\nexit code {code}\n{seen.decode(errors='replace')[-2000:]}"
        return seen.decode(errors="replace")

    def _start(self, command: str, log: Path) -> subprocess.Popen[str]:
        command = command.replace("curl -N", "curl -s -N")  # its meter is no answer
        with log.open("w") as output:
            return subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self.folder,
                env=environment(self.variables | {"PYTHONUNBUFFERED": "1"}),
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def _wait(self, process: subprocess.Popen[str], log: Path, satisfied: Callable[[str], bool], what: str) -> str:
        deadline = time.monotonic() + _DEADLINE_SECONDS
        while not satisfied(said := log.read_text(errors="replace")):
            assert process.poll() is None, f"{what} ended with {process.returncode}:\n{said}"
            assert time.monotonic() < deadline, f"{what} says nothing but:\n{said}"
            time.sleep(0.05)
        return said

    def close(self) -> None:
        """Stop the servers as Ctrl-C does; each must have lived until now, and end with 0."""
        codes = []
        for command, process, log in reversed(self._servers):
            lived = process.poll() is None
            if lived:
                process.send_signal(signal.SIGINT)
            codes.append((command, lived, process.wait(timeout=_DEADLINE_SECONDS), log.read_text(errors="replace")))
        wrong = [entry for entry in codes if entry[1:3] != (True, 0)]
        assert not wrong, wrong


def _minds_sigterm(process: subprocess.Popen[str]) -> bool:
    """Whether a process has set itself up to be stopped in good order."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught & 1 << (signal.SIGTERM - 1))


@contextlib.contextmanager
def session(folder: Path, other: Session | None = None, **replaced: str) -> Iterator[Session]:
    """Give terminals in a folder that has the files which pages show.

    From them the servers of another session are asked until a block starts servers of its own.
    """
    opened = (
        Session(folder, dict(other.variables), other.replaced, other.ports) if other else Session(folder, {}, replaced)
    )
    for name, text in files().items():
        for written, typed in opened.replaced.items():
            text = text.replace(written, typed)  # noqa: PLW2901
        (folder / name).write_text(text, encoding="utf-8")
    try:
        yield opened
    finally:
        opened.close()
