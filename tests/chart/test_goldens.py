"""What each values file renders to is written down, so that a change of the chart shows in a review as what it does."""

from __future__ import annotations

import os

import pytest

from tests.support.chart import GOLDENS, golden_path, rendered_text, scenario_names

UPDATE = "UPDATE_GOLDENS=1 python -m pytest tests/chart/test_goldens.py"


@pytest.mark.parametrize("scenario", scenario_names())
def test_a_scenario_renders_to_its_golden(scenario):
    """The chart renders a values file to exactly the objects that were reviewed."""
    text = rendered_text(scenario)

    if os.environ.get("UPDATE_GOLDENS"):
        golden_path(scenario).write_text(text, encoding="utf-8")
    assert golden_path(scenario).exists(), f"there is no golden yet: {UPDATE}"
    assert text == golden_path(scenario).read_text(encoding="utf-8"), f"if it is meant so: {UPDATE}"


@pytest.mark.parametrize("scenario", scenario_names())
def test_two_renders_are_the_same(scenario):
    """Nothing is random and nothing comes from the cluster: who renders twice, as GitOps does, changes nothing."""
    assert rendered_text(scenario) == rendered_text(scenario)


def test_there_is_no_golden_without_a_scenario():
    """A golden whose scenario has gone is not kept."""
    assert sorted(path.stem for path in GOLDENS.glob("*.yaml")) == scenario_names()
