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
