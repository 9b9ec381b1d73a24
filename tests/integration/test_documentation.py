"""What the documentation tells people to type is typed here, or named with the test that types it, or with the reason.

Pages run against everything in one process on the simulated market, from a folder of their own; blocks that start
servers start them for real, at free ports. What is typed otherwise than it is written: addresses, and KRAKEN, which no
machine without the internet has.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator

import click
import pytest

from services.alerter.live.reevaluation import withdrawal
from services.cli import cli
from services.command_line.helping import Command
from services.core.catalog.rules_file import read_rules
from tests.support import commands
from tests.support.alerter import breach
from tests.support.documents import PAGES, Block, Session, blocks, differences, session
from tests.support.needs import ROOT, require_program
from tests.support.ports import free_port

RUN = ("README.md", "docs/alerts.md", "docs/coming-from.md", "docs/command-line.md", "docs/quick-start.md")
"""The pages whose blocks are run here, those below excepted."""

ELSEWHERE = [
    ("README.md", "make run", "tests/integration/test_fresh_clone.py", "def test_make_run_shows_data"),
    ("docs/quick-start.md", "make run", "tests/integration/test_fresh_clone.py", "def test_make_run_shows_data"),
    (
        "README.md",
        "helm install",
        "tests/cluster/conftest.py",
        'documented("README.md", "helm install tickwatch")',
    ),
    ("CONTRIBUTING.md", "# release", "tests/chart/test_registry.py", 'documented("CONTRIBUTING.md", "# release")'),
    (
        "charts/tickwatch/README.md",
        "# from a registry",
        "tests/chart/test_registry.py",
        'documented("charts/tickwatch/README.md", "# from a registry")',
    ),
    ("docs/operations.md", "# backup", "tests/cluster/test_release.py", 'documented("docs/operations.md", "# backup")'),
    (
        "docs/operations.md",
        "# restore",
        "tests/cluster/test_release.py",
        'documented("docs/operations.md", "# restore")',
    ),
    (
        "docs/operations.md",
        "kubectl delete pvc",
        "tests/cluster/test_release.py",
        r"kubectl delete pvc,secret",
    ),
    ("UPGRADING.md", "# upgrade", "tests/cluster/test_release.py", 'documented("UPGRADING.md", "# upgrade")'),
    ("UPGRADING.md", "# back", "tests/cluster/test_release.py", 'documented("UPGRADING.md", "# back")'),
    ("UPGRADING.md", "$ helm template", "tests/chart/test_refusals.py", 'blocks("UPGRADING.md")'),
    ("docs/rest.md", "$ curl", "tests/integration/gateway/test_docs.py", "for command in COMMANDS"),
    ("docs/security.md", "", "tests/integration/security/test_page.py", 'blocks("sh")'),
]
"""Blocks that begin thus, the test that types them, and the words by which it does."""

NOT_RUN = [
    ("CONTRIBUTING.md", "make setup", "what CI does with every commit"),
    ("CONTRIBUTING.md", "kind create cluster", "needs Docker and kind; CI runs the same tests on a cluster of its own"),
    ("CONTRIBUTING.md", "docker build", "needs Docker, and a registry that the reader may push to"),
    ("README.md", "docker build", "needs Docker and kind; the cluster tests have the image from elsewhere"),
    ("charts/tickwatch/README.md", "helm install tickwatch charts", "README.md's, with a published image"),
    ("charts/tickwatch/README.md", "kubectl create secret", "is about an InfluxDB of the reader's own"),
    ("docs/operations.md", "kubectl get cronjob", "only looks; what is looked at is held by tests/cluster"),
    (
        "docs/security.md",
        "influx auth create",
        "needs the command line tool and the names of the reader's own InfluxDB",
    ),
    ("docs/resources.md", "$ kubectl apply", "tests/cluster/test_resources.py applies such objects of its own"),
]
"""Blocks that begin thus, and why nobody types them."""

SOMETIMES = re.compile(r"opened +warning|^evaluated up to")
"""Lines of `tickwatch watch` that come with a breach, or on a terminal alone."""

ALL = [block for page in PAGES for block in blocks(page)]


def others(block: Block) -> list[tuple[str, ...]]:
    """Return the rows that are about a block, or about one of another page that is the same to the letter."""
    same = {other.page for other in ALL if other.text == block.text} | {block.page}
    return [row for row in (*ELSEWHERE, *NOT_RUN) if row[0] in same and block.text.startswith(row[1])]


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """Everything in one process, as `make run` has it where the internet is away."""
    with session(tmp_path_factory.mktemp("market"), **{"KRAKEN": "SIM", "9000": str(free_port())}) as opened:
        opened.run(Block("here", 0, "tickwatch --store sqlite:tickwatch.db up --exchange simulated", prompted=False))
        yield opened


@pytest.mark.parametrize("page", RUN)
def test_a_page_holds(page: str, market: Session, tmp_path) -> None:
    """Each of its commands succeeds, in the page's order, and shows what the page says that it shows."""
    with session(tmp_path, market) as terminals:
        for block in blocks(page):
            if others(block):
                continue
            program = block.text.removeprefix("$ ").split()[0]
            if program not in ("tickwatch", ".venv/bin/tickwatch", "export", "eval", "source"):
                terminals.variables["PATH"] += f":{require_program(program).parent}"
            terminals.run(block, unless=SOMETIMES)


def examples(command: click.Command) -> Iterator[str]:
    """Yield the examples of a command's help and of those below it."""
    assert isinstance(command, Command), command.name
    assert len(command.examples) > 1, command.name
    yield from command.examples
    for inner in getattr(command, "commands", {}).values():
        yield from examples(inner)


def test_the_examples_of_every_help_work(market: Session, tmp_path) -> None:
    """Typed as they stand, each in a folder of its own, they succeed; every command has two."""
    point = f"SIM:BTCUSD,price,{commands.minute(-5):%Y-%m-%dT%H:%MZ},1.5"
    for number, example in enumerate(sorted(set(examples(cli)))):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "points.csv").write_text(f"metric,measure,time,value\n{point}\n")
        with session(folder, market) as terminals:
            terminals.run(Block(f"help {number}", 0, example, prompted=False))


def test_the_program_runs(market: Session) -> None:
    """README's Python prints a day of 1440 values and how much of it is known, and goes on watching."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(import asyncio\nimport tickwatch\n.*?)```", text, re.DOTALL)
    process = subprocess.Popen(
        [commands.PYTHON, "-u", "-c", market.typed(program)],
        env=commands.environment({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert process.poll() is None
    finally:
        process.kill()
        _, complaints = process.communicate(timeout=60)

    count, coverage = first.split()
    assert (count, complaints) == ("1440", "")
    assert 0.4 < float(coverage) <= 1


def test_no_block_is_left_out() -> None:
    """A block that no page above, no other test and no reason covers fails here: decide where it belongs."""
    typed = {step.command for block in ALL if block.page in RUN and not others(block) for step in block.steps()}
    left = [
        block.where
        for block in ALL
        if block.page not in RUN and not others(block) and not {step.command for step in block.steps()} <= typed
    ]
    assert left == []


def test_what_is_run_elsewhere_is_run_there() -> None:
    """Each row is about a block that there is, and its test has the words by which it types it."""
    for row in (*ELSEWHERE, *NOT_RUN):
        assert any(row in others(block) for block in ALL), row
    for _, _, path, words in ELSEWHERE:
        assert words in (ROOT / path).read_text(encoding="utf-8"), path


def test_a_page_that_is_wrong_fails(market: Session, tmp_path) -> None:
    """A command that fails, one that should and does not, and an answer without a shown line or column."""
    wrong = [
        "$ tickwatch rank prize",
        "$ tickwatch rules default\nError: there is none",
        "$ tickwatch rules check rules.yaml\nrules.yaml: 2 rules, some problems",
        "$ tickwatch rank price\n Rank   Symbol       Stddev of price        Points",
    ]
    with session(tmp_path, market) as terminals:
        for text in wrong:
            with pytest.raises(AssertionError):
                terminals.run(Block("page", 1, text, prompted=True))


def test_a_receiver_by_the_page_tells_repeats_from_what_comes_again() -> None:
    """A breach that is found, withdrawn, found again and withdrawn again is four news, however often each is sent."""
    page = (ROOT / "docs" / "webhooks.md").read_text(encoding="utf-8")
    _, example = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    scope: dict[str, Callable[[dict[str, str], dict[str, str]], bool]] = {}
    exec(example, scope)  # noqa: S102  our own page
    found = breach("SIM:BTCUSD")
    back, other = withdrawal(found), breach("SIM:ETHUSD")
    sent = [found, found, other, back, back, found, found, back, other]

    last: dict[str, str] = {}
    news = [scope["is_new"]({"id": each.id, "withdrawn_id": each.withdrawn_id}, last) for each in sent]

    assert news == [True, False, True, True, False, True, False, True, False]


@pytest.mark.parametrize("page", PAGES)
def test_rules_on_pages_are_rules(page: str, tmp_path) -> None:
    """Each example of a file of rules is one without a mistake."""
    text = (ROOT / page).read_text(encoding="utf-8")
    file = tmp_path / "rules.yaml"
    for example in re.findall(r"^```yaml\n((?:# .*\n)?rules:\n.*?)^```", text, re.MULTILINE | re.DOTALL):
        file.write_text(example, encoding="utf-8")
        assert read_rules(file)


def test_figures_may_differ_and_words_may_not() -> None:
    """Shown lines are found in their order, whatever their figures."""
    assert differences(["took 1.5 k", "at 12:30", "…done"], "took 27 k\nat 04:01\nnearly done") == []
    assert differences(["b", "a"], "a\nb") == ["a"]
    assert differences(["took long"], "took 5") == ["took long"]
    assert differences(["Points", "──────", "1440"], "Points\n───────\n12 345") == ["1440"]
    assert differences(["Points", "──────", "1440"], "Points\n───────\n100000") == []
    assert differences(["Points", "──────", "1440"], "Points\n1440") == ["──────"]
