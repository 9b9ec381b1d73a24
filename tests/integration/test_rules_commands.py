"""The commands for people who write rules, as they type them: what they print, how they end."""

from __future__ import annotations

import pytest

from tests.support import commands


def rules(*words: str) -> tuple[int, str, str]:
    """Run `tickwatch rules`; return exit code, standard output and standard error."""
    done = commands.tickwatch("rules", *words, settings={})
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a good file of rules and a bad one."""
    folder = tmp_path_factory.mktemp("rules")
    (folder / "good.yaml").write_text("rules: [{name: gone, missing: {slots: 3}}]")
    (folder / "bad.yaml").write_text("rules:\n- name: a\n  ratio: {factor: x,\n    windw: 1h}\n")
    return folder


def test_the_default_rules_are_a_file_without_a_problem(tmp_path):
    """`rules default` writes what `rules check` takes."""
    code, text, _ = rules("default")
    file = tmp_path / "rules.yaml"
    file.write_text(text)
    assert code == 0
    assert rules("check", str(file)) == (0, f"{file}: 2 rules, no problem\n", "")


def test_check_tells_every_problem_of_every_file(folder):
    """By file and line on standard error, and exits with 2; good files are told all the same."""
    good, bad = folder / "good.yaml", folder / "bad.yaml"
    assert rules("check", str(bad), str(good), str(folder / "none.yaml")) == (
        2,
        f"{good}: 1 rule, no problem\n",
        (
            f"{bad}:3: 'x' is not a number\n"
            f"{bad}:4: unknown key 'windw' (did you mean 'window'?)\n"
            f"{folder / 'none.yaml'}: cannot be read: No such file or directory\n"
        ),
    )


TESTS = """
rules: rules.yaml
tests:
  - name: a limit is passed
    rule: limit
    series: {SIM:AAA price: 1 3 1}
    events:
      - {minute: 1, kind: breach, value: VALUE, threshold: 2}
"""


@pytest.fixture
def tested(tmp_path):
    """A folder with rules; returns a function that writes tests which pass or fail."""
    (tmp_path / "rules.yaml").write_text("rules: [{name: limit, threshold: {above: 2}}]")

    def write(name, value):
        file = tmp_path / name
        file.write_text(TESTS.replace("VALUE", str(value)))
        return file

    return write


def test_tests_that_pass_exit_with_0(tested):
    """With what passed by name where that is asked for."""
    file = tested("good.yaml", 3)
    assert rules("test", str(file)) == (0, "1 passed, 0 failed\n", "")
    assert rules("test", "--verbose", str(file)) == (
        0,
        f"{file}:4: a limit is passed [limit]: passed\n1 passed, 0 failed\n",
        "",
    )


def test_tests_that_fail_exit_with_1_and_say_what_differs(tested):
    """By file and line; those of other files run all the same."""
    good, bad = tested("good.yaml", 3), tested("bad.yaml", 4)
    assert rules("test", str(bad), str(good)) == (
        1,
        (
            f"{bad}:4: a limit is passed [limit]: failed\n"
            "    expected:   minute 1: breach of SIM:AAA price: value 4, threshold 2\n"
            "    got:        minute 1: breach of SIM:AAA price: value 3\n"
            "1 passed, 1 failed\n"
        ),
        "",
    )


def test_tests_with_mistakes_exit_with_2(tested):
    """Every mistake is told with its line."""
    file = tested("wrong.yaml", "many")
    assert rules("test", str(file)) == (2, "0 passed, 0 failed\n", f"{file}:8: 'many' is not a number\n")
