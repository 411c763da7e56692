"""Configurations that earlier versions recorded are read as what was done then, or refused by name."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from synthcl.config.compatibility import first_difference
from synthcl.config.presets import load_preset
from synthcl.config.schema import Config
from synthcl.config.upgrade import ADDED, REMOVED, path_today, upgrade

RECORDED: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("before_families.json").read_text())
"""every preset as its runs recorded it before sections were families"""


def recorded_long_ago(preset: str) -> dict[str, dict[str, object]]:
    """The same with every removed field at the value that is done today, and no field that was added since."""
    tree = copy.deepcopy(RECORDED[preset])
    for path, value in REMOVED.items():
        section, field = path.split(".")
        tree[section][field] = value
    for path in ADDED:
        section, field = path.split(".")
        tree[section].pop(field, None)
    return tree


@pytest.mark.parametrize("preset", RECORDED)
def test_a_configuration_of_the_first_version_is_that_of_today(preset: str) -> None:
    today, tree = load_preset(preset), recorded_long_ago(preset)
    before = copy.deepcopy(tree)
    read = Config.model_validate(tree)
    assert read.model_copy(update={"search": today.search}) == today  # searches are not what they were
    assert tree == before  # what was read stays as it was
    assert first_difference(tree, today, ("search",)) is None
    assert upgrade(upgrade(tree)) == upgrade(tree) == read.model_dump(mode="json")


def test_a_search_of_the_first_version_is_read_as_what_it_did() -> None:
    search = Config.model_validate(recorded_long_ago("cifar10")).search
    assert (search.algorithm, search.budgets, search.trials, search.keep_one_in) == ("stopping", 32, 32, 2.0)
    assert search.opponent_share == 0


NUMBERS = {
    "terms": {"contrast": ("temperature", 0.17)},
    "synthetic": {"gan": ("discriminator_learning_rate", 0.003)},
}


@pytest.mark.parametrize("family", NUMBERS)
def test_a_number_recorded_before_it_was_a_schedule_is_a_constant(family: str) -> None:
    ((name, (field, value)),) = NUMBERS[family].items()
    today = load_preset("cifar10").with_overrides({f"{family}.{name}.{field}": value})
    tree = today.model_dump(mode="json")
    tree[family][name][field] = value
    before = copy.deepcopy(tree)
    assert Config.model_validate(tree) == today
    assert upgrade(tree) == today.model_dump(mode="json")
    assert first_difference(tree, today, ()) is None
    other = today.with_overrides({f"{family}.{name}.{field}.start": 2 * value})
    assert first_difference(tree, other, ()) == (f"{family}.{name}.{field}.start", value, 2 * value)
    assert tree == before


@pytest.mark.parametrize("preset", RECORDED)
def test_every_recorded_field_has_a_place_today(preset: str) -> None:
    """An override of an earlier version, in a record or a space, sets what it set then."""
    today = load_preset(preset)
    for section, fields in RECORDED[preset].items():
        for field, value in fields.items() if isinstance(fields, dict) else ():
            path = f"{section}.{field}"
            if section == "search":
                continue
            if path == "encoder.stem" and today.encoder.kind == "conv":
                continue  # was recorded for every encoder, and this one has none
            if path == "encoder.width" and today.encoder.kind != "conv":
                continue
            if section == "curriculum":
                field, value = "start", value["start"]
                path += ".start"
            assert today.with_overrides({path: value}) == today, path_today(path)


@pytest.mark.parametrize("path", REMOVED)
def test_what_is_not_done_any_more_is_refused_by_name(path: str) -> None:
    tree = recorded_long_ago("cifar10-weak-views")
    section, field = path.split(".")
    tree[section][field] = "another"
    with pytest.raises(ValidationError, match=field):
        Config.model_validate(tree)


@pytest.mark.parametrize("tree", [None, [], "text", {"method": 3}, {"method": None, "name": "x"}])
def test_what_is_no_configuration_is_left_to_be_refused(tree: object) -> None:
    assert upgrade(tree) == tree
