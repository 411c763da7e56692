"""The study behind Tune: how trials end in it, and that an interrupted one goes on."""

import cloudpickle
import pytest
from optuna.trial import TrialState

from synthcl import load_preset
from synthcl.arms import BASELINES
from synthcl.search.searcher import StudySearch, load_study
from synthcl.search.space import load_space

CONFIG = load_preset("fashion-mini")
SPACE = """
curriculum.hardness.kind: {choices: [constant, linear]}
curriculum.hardness.start: {low: 0.1, high: 1.0}
curriculum.hardness.end: {low: 0.1, high: 1.0, when: {curriculum.hardness.kind: [linear]}}
"""


@pytest.fixture
def space(tmp_path):
    file = tmp_path / "space.yaml"
    file.write_text(SPACE)
    return load_space(file, CONFIG)


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "study.journal"


def report(score, images=100, progress=0.5, **more):
    return {"score": score, "images": images, "progress": progress, "diverged": False, "val/ridge/x": score, **more}


def test_baselines_come_first_without_parameters_and_then_the_presets_own_point(space, journal):
    point = {"curriculum.hardness.kind": "constant", "curriculum.hardness.start": 0.25}
    searcher = StudySearch(space, journal, 0, 4, first_point=point)
    suggestions = [searcher.suggest(f"id{i}") for i in range(4)]
    assert [s["label"] for s in suggestions[:2]] == list(BASELINES)
    assert suggestions[2]["overrides"] == point
    assert suggestions[3]["overrides"] != point
    for trial in load_study(journal).trials:
        assert bool(trial.params) == ("arm" not in trial.user_attrs)


def test_only_a_trial_that_spent_its_budget_is_complete(space, journal):
    searcher = StudySearch(space, journal, 0, 4, baselines=())
    for trial_id in ("whole", "stopped", "diverged", "broken"):
        searcher.suggest(trial_id)
    searcher.on_trial_result("whole", report(70.0))
    searcher.on_trial_complete("whole", report(80.0, 200, 1.0))
    searcher.on_trial_result("stopped", report(60.0))
    searcher.on_trial_complete("stopped", report(60.0))
    searcher.on_trial_complete(
        "diverged", report(0.0, 40, 0.2, diverged=True, reason="loss became nan") | {"diverged": True}
    )
    searcher.on_trial_complete("broken", None, error=True)

    whole, stopped, diverged, broken = load_study(journal).trials
    assert whole.state == TrialState.COMPLETE
    assert whole.value == 80.0
    assert whole.intermediate_values == {100: 70.0, 200: 80.0}
    assert whole.user_attrs["metrics"] == {"score": 80.0, "val/ridge/x": 80.0}
    assert stopped.state == TrialState.PRUNED
    assert stopped.intermediate_values == {100: 60.0}
    assert stopped.user_attrs["images"] == 100
    assert diverged.state == TrialState.PRUNED
    assert diverged.user_attrs["diverged"] == "loss became nan"
    assert broken.state == TrialState.FAIL


def test_a_leg_that_ends_between_rungs_reports_nothing(space, journal):
    searcher = StudySearch(space, journal, 0, 4, baselines=())
    searcher.suggest("a")
    searcher.on_trial_result("a", {"images": 50, "progress": 0.2, "diverged": False})
    assert load_study(journal).trials[0].intermediate_values == {}


def test_after_an_interruption_the_study_has_no_orphans_and_repeats_no_point(space, journal, tmp_path):
    searcher = StudySearch(space, journal, 0, 0, baselines=())
    resumed = cloudpickle.loads(cloudpickle.dumps(searcher))  # as Tune keeps it; its state is written later
    first = searcher.suggest("a")["overrides"]
    searcher.on_trial_complete("a", report(70.0, 200, 1.0))
    searcher.suggest("b")
    searcher.save(str(tmp_path / "state"))
    lost = searcher.suggest("lost")["overrides"]  # asked for after Tune last wrote its state

    resumed.restore(str(tmp_path / "state"))
    states = [trial.state for trial in load_study(journal).trials]
    assert states == [TrialState.COMPLETE, TrialState.RUNNING, TrialState.FAIL, TrialState.WAITING]
    resumed.on_trial_complete("b", report(60.0, 200, 1.0))
    later = [resumed.suggest(f"later{i}")["overrides"] for i in range(3)]
    assert later[0] == lost
    assert all(point != first for point in later)
    assert len({tuple(sorted(point.items())) for point in later}) == 3


def test_an_extended_study_draws_anew(space, journal, tmp_path):
    first = StudySearch(space, journal, 0, 10, baselines=())
    first.suggest("a")
    first.on_trial_complete("a", report(70.0, 200, 1.0))
    continued = StudySearch(space, journal, 0, 10, baselines=()).suggest("b")
    trials = load_study(journal).trials
    assert trials[0].params != continued["overrides"]
    assert continued["label"] == "trial-001"
