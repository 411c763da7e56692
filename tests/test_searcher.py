"""The study behind Tune: how trials end in it, and that an interrupted one goes on."""

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


def test_after_an_interruption_what_ran_is_asked_for_again_and_nothing_else_is(space, journal):
    searcher = StudySearch(space, journal, 0, 0, first_point={"curriculum.hardness.start": 0.25})
    for trial_id in ("baseline", "other baseline", "ended", "interrupted"):
        searcher.suggest(trial_id)
    interrupted = searcher.study.trials[3]
    searcher.on_trial_complete("ended", report(70.0, 200, 1.0))
    searcher.on_trial_complete("other baseline", report(60.0, 200, 1.0))
    asked = searcher.study.ask()  # killed between two suggestions of one trial
    kind = asked.suggest_categorical("curriculum.hardness.kind", ["constant", "linear"])

    resumed = StudySearch(space, journal, 0, 0, first_point={"curriculum.hardness.start": 0.25})
    assert resumed.ended == 2
    suggestions = [resumed.suggest(f"again {i}") for i in range(4)]
    assert suggestions[0]["label"] == BASELINES[0]
    assert suggestions[1] == {"label": "trial-003", "overrides": interrupted.params}
    assert suggestions[2]["label"] == "trial-004"
    assert suggestions[2]["overrides"]["curriculum.hardness.kind"] == kind
    assert suggestions[3]["label"] == "trial-005"
    points = [trial.params for trial in load_study(journal).trials if "arm" not in trial.user_attrs]
    assert len({tuple(sorted(point.items())) for point in points}) == len(points) == 4

    for i in range(4):
        resumed.on_trial_complete(f"again {i}", report(60.0, 200, 1.0))
    assert StudySearch(space, journal, 0, 0).ended == 6
    assert all(trial.state == TrialState.COMPLETE for trial in load_study(journal).trials)


def test_a_report_that_is_told_again_is_recorded_once(space, journal):
    searcher = StudySearch(space, journal, 0, 4, baselines=())
    searcher.suggest("a")
    searcher.on_trial_result("a", report(70.0))
    resumed = StudySearch(space, journal, 0, 4, baselines=())
    resumed.suggest("a")
    resumed.on_trial_result("a", report(70.0))
    resumed.on_trial_complete("a", report(80.0, 200, 1.0))
    (trial,) = load_study(journal).trials
    assert trial.intermediate_values == {100: 70.0, 200: 80.0}
    assert trial.value == 80.0


def test_a_line_that_a_full_disk_cut_off_is_no_part_of_the_study(space, journal):
    StudySearch(space, journal, 0, 4, baselines=()).suggest("a")
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":4,"worker_id"')
    continued = StudySearch(space, journal, 0, 4, baselines=())
    continued.suggest("a")
    continued.on_trial_complete("a", report(80.0, 200, 1.0))
    assert journal.read_bytes().startswith(whole)
    assert [trial.value for trial in load_study(journal).trials] == [80.0]


def test_an_extended_study_draws_anew(space, journal):
    first = StudySearch(space, journal, 0, 10, baselines=())
    first.suggest("a")
    first.on_trial_complete("a", report(70.0, 200, 1.0))
    continued = StudySearch(space, journal, 0, 10, baselines=()).suggest("b")
    trials = load_study(journal).trials
    assert trials[0].params != continued["overrides"]
    assert continued["label"] == "trial-001"
