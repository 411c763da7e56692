"""Configurations that earlier versions recorded are read as what was done then, or refused by name."""

from __future__ import annotations

import copy

import pytest
from pydantic import ValidationError

from synthcl.config.presets import load_preset
from synthcl.config.schema import Config
from synthcl.config.upgrade import ADDED, REMOVED, upgrade


@pytest.fixture
def today() -> Config:
    return load_preset("cifar10-weak-views")


def recorded_long_ago(config: Config) -> dict[str, dict[str, object]]:
    """Every removed field with the value that is done today, and no field that was added since."""
    tree = config.model_dump(mode="json")
    for path, value in REMOVED.items():
        section, field = path.split(".")
        tree[section][field] = value
    for path in ADDED:
        section, field = path.split(".")
        del tree[section][field]
    return tree


def test_a_configuration_of_the_first_version_is_that_of_today(today: Config) -> None:
    tree = recorded_long_ago(today)
    before = copy.deepcopy(tree)
    assert Config.model_validate(tree) == today
    assert tree == before  # what was read stays as it was
    assert upgrade(upgrade(tree)) == upgrade(tree) == today.model_dump(mode="json")


@pytest.mark.parametrize("path", REMOVED)
def test_what_is_not_done_any_more_is_refused_by_name(today: Config, path: str) -> None:
    tree = recorded_long_ago(today)
    section, field = path.split(".")
    tree[section][field] = "another"
    with pytest.raises(ValidationError, match=rf"{section}\.{field}"):
        Config.model_validate(tree)


@pytest.mark.parametrize("tree", [None, [], "text", {"method": 3}, {"method": None, "name": "x"}])
def test_what_is_no_configuration_is_left_to_be_refused(tree: object) -> None:
    assert upgrade(tree) == tree
