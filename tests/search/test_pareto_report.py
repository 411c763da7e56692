"""What a search with two objectives confirms, and what its table, verdict and picture say."""

from __future__ import annotations

import json
from statistics import mean

import pytest
from run_folder import CONFIRMED, make_run, run_config

from synthcl.comparison import plotting
from synthcl.runs.storage import Storage
from synthcl.search import figures, report, results
from synthcl.search.budget import describe
from synthcl.search.sides import load_spaces


@pytest.fixture
def pareto(tmp_path):
    def with_top(top):
        return run_config(tmp_path).with_overrides({"search.objective": "pareto", "search.confirm_top": top})

    return with_top


def test_the_ends_of_the_front_are_confirmed_and_then_what_ranks_next(tmp_path, pareto):
    folder = make_run(tmp_path)  # trial-002 leads in linear, trial-004 in transfer, and trial-008 in neither
    trials = results.trials_frame(results.open_study(folder), pareto(3))
    for top in (1, 2, 3):
        assert results.best_names(trials, pareto(top)) == ["trial-002", "trial-004", "trial-008"][:top]
    assert results.front_roles(trials, pareto(3)) == {"trial-002": "best linear", "trial-004": "best transfer"}
    assert results.front_roles(trials, run_config(tmp_path)) == {}


def test_a_compromise_between_them_is_the_knee(tmp_path, pareto):
    trials = results.trials_frame(results.open_study(make_run(tmp_path)), pareto(3))
    trials.loc[trials.label == "trial-008", ["linear", "transfer"]] = 84.0, 64.0
    assert results.front_roles(trials, pareto(3))["trial-008"] == "knee"
    assert results.best_names(trials, pareto(2)) == ["trial-002", "trial-004"]


def test_the_opponents_front_is_its_own(tmp_path, pareto):
    trials = results.trials_frame(results.open_study(make_run(tmp_path, opponents=True)), pareto(3))
    for name, transfer in (("real-only-001", 50.0), ("real-only-003", 70.0)):
        trials.loc[trials.label == name, ["linear", "transfer"]] = 80.0 - transfer / 10, transfer
    roles = results.front_roles(trials, pareto(3))
    assert roles.items() >= {"real-only-001": "best linear", "real-only-003": "best transfer"}.items()
    assert roles["trial-002"] == "best linear"


def test_table_and_verdict_name_the_front_and_judge_both_objectives(tmp_path, pareto, capsys, monkeypatch):
    monkeypatch.setattr(plotting, "save", lambda figure, file: None)
    folder, config = make_run(tmp_path), pareto(2)
    report.write(config, Storage(str(tmp_path), config.name))
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("trial-002 (best linear) ") for line in lines)
    assert any(line.startswith("trial-004 (best transfer) ") for line in lines)
    at = lines.index("Winner by mean validation score (linear, of two objectives): trial-002.")
    linear, transfer = lines[at - 2 : at]
    assert linear == "trial-002 beats the best real-only found (real-only) by 0.83 [0.12, 1.55] points on test (linear, 3 seeds)."  # fmt: skip  # noqa: E501
    # 65 - 59, 66 - 60, 67 - 64; Student's t of two degrees of freedom is 4.3027
    assert transfer == "trial-004 beats the best real-only found (real-only) by 5.00 [0.70, 9.30] points on test (transfer, 3 seeds)."  # fmt: skip  # noqa: E501
    assert json.loads((folder / "leaderboard.json").read_text())["front"] == {
        "trial-002": "best linear",
        "trial-004": "best transfer",
    }
    assert transfer in (folder / "report.md").read_text()


def test_the_picture_has_the_front_as_a_step_and_what_was_confirmed_beside_what_was_searched(tmp_path, pareto):
    trials = results.trials_frame(results.open_study(make_run(tmp_path)), pareto(2))
    confirmed = {"trial-004": tuple(mean(scores[at] for scores in CONFIRMED["trial-004"]) for at in (0, 1))}
    axes = figures.trade_off(trials, confirmed).axes[0]
    front, *others = axes.get_lines()
    assert front.get_drawstyle() == "steps-pre"
    assert front.get_xydata().tolist() == [[82.5, 64.5], [84.5, 61.5]]
    lines = [line.get_xydata().tolist() for line in others]
    assert [[83.0, 65.0]] in lines
    assert [[82.5, 64.5], [83.0, 65.0]] in lines
    assert "confirmed, mean over fresh seeds" in [text.get_text() for text in axes.get_legend().get_texts()]


@pytest.mark.parametrize(
    ("top", "said"),
    [
        (1, "best linear of each"),
        (2, "best linear, best transfer of each"),
        (3, "best linear, best transfer, knee of the front of each"),
        (5, "best linear, best transfer, knee of the front and the 2 next of each"),
    ],
)
def test_the_plan_says_what_will_be_confirmed(pareto, top, said):
    config = pareto(top).with_overrides({"search.budgets": 20})
    plan = describe(config, load_spaces(config))
    assert said in plan
    assert "by halving (one in 2), by linear and transfer" in plan
