"""`--refit all`: when the stage is due, what it trains, and what is said of its encoder; tests/face runs it whole."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from run_folder import make_run, run_config

from synthcl.core.errors import UserError
from synthcl.runs.storage import Storage
from synthcl.search.refit import chosen
from synthcl.search.refitted import described
from synthcl.search.state import State

BOTH = [("search-1", True), ("confirm-1", True)]
MORE = ["search-2", "confirm-2"]


@pytest.mark.parametrize(
    ("recorded", "refit", "extend", "left"),
    [
        (BOTH, "none", 0, []),
        (BOTH, "all", 0, ["refit-1"]),
        ([], "all", 0, ["search-1", "confirm-1", "refit-1"]),
        ([*BOTH, ("refit-1", True)], "all", 0, []),
        ([*BOTH, ("refit-1", True)], "all", 2, [*MORE, "refit-2"]),
        ([*BOTH, ("refit-1", False)], "all", 0, ["refit-1"]),
        ([*BOTH, ("refit-1", False)], "none", 0, []),
        ([*BOTH, ("refit-1", False)], "none", 2, MORE),
    ],
)
def test_it_comes_after_all_else_and_only_when_it_is_asked_for(tmp_path, recorded, refit, extend, left):
    config = run_config(tmp_path).with_overrides({"search.refit": refit})
    folder = tmp_path / config.name
    folder.mkdir()
    stages = [{"name": name, "kind": name[:-2], "begun": True, "done": done} for name, done in recorded]
    if stages:
        (folder / "state.json").write_text(json.dumps(stages))
        (folder / "config.json").write_text(run_config(tmp_path).model_dump_json())
    spaces = SimpleNamespace(written=[])
    state = State(Storage(str(tmp_path), config.name), config, spaces, fresh=False, extend=extend)
    assert [stage["name"] for stage in state.unfinished] == left
    for stage in state.unfinished:  # only what had begun goes on where it stopped
        assert stage["begun"] == any(stage["name"] == name for name, _ in recorded)


def test_the_winner_is_trained_on_every_image_and_nothing_is_scored(tmp_path):
    config = run_config(tmp_path).with_overrides({"search.objective": "transfer", "data.image_fraction": 0.5})
    name, has_won, own = chosen(config, make_run(tmp_path))
    assert (name, has_won) == ("trial-002", True)
    assert (own.data.pretrain_on, own.data.image_fraction, own.evaluation.transfer) == ("all", 1.0, ())
    assert own.curriculum.hardness.start == 0.2  # as the search proposed
    assert own.training == config.training


def test_without_a_winner_the_own_curriculum_is_trained(tmp_path):
    config = run_config(tmp_path)
    name, has_won, own = chosen(config, make_run(tmp_path, confirmed={}))
    assert (name, has_won, own.curriculum) == ("joint", False, config.curriculum)


def card(folder: Path, **note: object) -> Path:
    (folder / "encoder-refit").mkdir()
    (folder / "encoder-refit" / "encoder.json").write_text(json.dumps({"refit": note}))
    return folder


@pytest.mark.parametrize(
    ("of", "has_won", "winner", "said"),
    [
        ("trial-002", True, "trial-002", "trial-002, the winner, trained again on all 1,200 images"),
        ("trial-002", True, "trial-009", "trial-002, the winner before the search went on, trained again"),
        ("joint", False, None, "No configuration was confirmed, so the preset's own curriculum (joint) was trained"),
    ],
)
def test_what_is_said_of_the_encoder(tmp_path, of, has_won, winner, said):
    sentences = described(card(tmp_path, of=of, winner=has_won, images=1200), winner)
    assert sentences.startswith(said)
    assert "No score belongs to it" in sentences


def test_nothing_is_said_where_there_is_none_and_a_damaged_card_is_named(tmp_path):
    assert described(tmp_path, "trial-002") == ""
    with pytest.raises(UserError, match="is damaged"):
        described(card(tmp_path), "trial-002")
