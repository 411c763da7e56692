"""The study behind Tune: how trials end in it, and that an interrupted one goes on."""

import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from synthcl import load_preset
from synthcl.comparison.arms import BASELINES
from synthcl.search.optuna_search import STUDY, StudySearch, load_study
from synthcl.search.optuna_search import journal as store
from synthcl.search.space import load_space

CONFIG = load_preset("fashion-mini")
KIND, START, END = (f"curriculum.hardness.{field}" for field in ("kind", "start", "end"))
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


def test_baselines_have_a_study_of_their_own_and_are_listed_first(space, journal):
    searcher = StudySearch(space, journal, 0, 4, first_point={"curriculum.hardness.start": 0.25})
    labels = [searcher.suggest(f"id{i}")["label"] for i in range(4)]
    searcher.on_trial_complete("id1", report(70.0, 200, 1.0))
    assert labels == ["real-only", "frozen-gan", "trial-000", "trial-001"]
    assert [trial.user_attrs["label"] for trial in load_study(journal).trials] == labels
    assert [trial.user_attrs["label"] for trial in searcher.study.trials] == labels[2:]
    assert searcher.ended == 1


def search(searcher, trials, at_a_time=1):
    """Proposals in the order they begin; the longest running ends when all places are taken, and is told its score."""
    begun, ended = [], 0
    while len(begun) < trials:
        if len(begun) - ended == at_a_time:
            suggested = begun[ended]
            score = 99.0 if suggested["label"] in BASELINES else 50 + 10 * suggested["overrides"][START]
            searcher.on_trial_complete(f"id{ended}", report(score, 200, 1.0))
            ended += 1
        begun.append(searcher.suggest(f"id{len(begun)}"))
    return [suggested["overrides"] for suggested in begun if suggested["label"] not in BASELINES]


@pytest.mark.parametrize("at_a_time", [1, 4])
def test_what_is_proposed_does_not_depend_on_baselines_even_if_they_are_best(space, tmp_path, at_a_time):
    """TPE's good trials are trials; baselines among the trials would be its best ones and hold no parameters."""
    alone, beside = (
        StudySearch(space, tmp_path / f"{len(baselines)}.journal", 0, 4, baselines, {START: 0.25})
        for baselines in ((), BASELINES)
    )
    if at_a_time == 1:
        assert search(beside, 16 + len(BASELINES)) == search(alone, 16)
        return
    for arm in BASELINES:  # else they hold places at first, and trials begin in another order
        beside.suggest(arm)
        beside.on_trial_complete(arm, report(99.0, 200, 1.0))
    assert search(beside, 16, at_a_time) == search(alone, 16, at_a_time)


@pytest.mark.parametrize("at_a_time", [1, 2, 4])
@pytest.mark.parametrize("startup", [0, 1, 4])
@pytest.mark.parametrize("first_point", [None, {KIND: "linear", START: 0.25, END: 0.5}])
def test_as_many_trials_are_random_as_asked_for_beside_the_presets_own(
    space, tmp_path, at_a_time, startup, first_point
):
    """Those that begin before so many have ended are random, too: as many as run beside the one that ends."""

    def proposals(sampler=None):
        name = "random" if sampler else "tpe"
        searcher = StudySearch(space, tmp_path / f"{name}.journal", 3, startup, (), first_point)
        searcher.study.sampler = sampler or searcher.study.sampler
        return search(searcher, 16, at_a_time)

    tpe, random = proposals(), proposals(RandomSampler(seed=3))  # TPE draws its random trials by the same seed
    own = 0 if first_point is None else 1
    assert tpe[:own] == random[:own] == [first_point][:own]
    expected = startup + at_a_time - 1 if startup + own else 0
    same = [a == b for a, b in zip(tpe[own:], random[own:], strict=True)]
    assert same == [True] * expected + [False] * (16 - own - expected)


def old_journal(journal, *trials):
    """As it was when baselines were in the one study: the preset's point waits, and these (label, state) have begun."""
    study = optuna.create_study(study_name=STUDY, storage=store(journal), direction="maximize")
    study.enqueue_trial({START: 0.25})
    for label, state in trials:
        attributes = {"label": label} | ({"arm": label} if label in BASELINES else {})
        value = 70.0 if state is TrialState.COMPLETE else None
        study.add_trial(optuna.trial.create_trial(state=state, value=value, user_attrs=attributes))


def test_a_study_that_holds_its_baselines_is_continued_and_extended(space, journal):
    old_journal(journal, ("real-only", TrialState.COMPLETE), ("frozen-gan", TrialState.RUNNING))
    searcher = StudySearch(space, journal, 0, 4, first_point={START: 0.25})
    assert searcher.ended == 1
    suggested = [searcher.suggest(f"id{i}") for i in range(3)]
    assert [each["label"] for each in suggested] == ["frozen-gan", "trial-000", "trial-003"]
    assert suggested[1]["overrides"][START] == 0.25
    for i in range(3):
        searcher.on_trial_complete(f"id{i}", report(60.0 + i, 200, 1.0))
    trials = load_study(journal).trials
    assert [trial.user_attrs["label"] for trial in trials] == ["trial-000", "real-only", "frozen-gan", "trial-003"]
    assert [trial.value for trial in trials] == [61.0, 70.0, 60.0, 62.0]
    extended = StudySearch(space, journal, 0, 4, first_point={START: 0.25})
    assert extended.ended == 4
    assert extended.suggest("more")["label"] == "trial-004"


def test_a_baseline_that_an_old_study_lacks_is_run_once(space, journal):
    old_journal(journal, ("real-only", TrialState.COMPLETE))
    assert StudySearch(space, journal, 0, 4).suggest("a")["label"] == "frozen-gan"
    searcher = StudySearch(space, journal, 0, 4)
    assert [searcher.suggest(trial_id)["label"] for trial_id in "abc"] == ["frozen-gan", "trial-000", "trial-002"]


def test_a_score_that_is_no_number_fails_its_trial_and_not_the_search(space, journal):
    searcher = StudySearch(space, journal, 0, 4, baselines=())
    searcher.suggest("a")
    with pytest.warns(UserWarning, match="nan is not acceptable"):
        searcher.on_trial_complete("a", report(float("nan"), 200, 1.0))
    assert [trial.state for trial in load_study(journal).trials] == [TrialState.FAIL]


def test_tune_keeps_nothing_of_the_searcher_beside_the_journal(space, journal, tmp_path):
    folder = tmp_path / "experiment"
    folder.mkdir()
    StudySearch(space, journal, 0, 4).save_to_dir(str(folder))
    assert list(folder.iterdir()) == []


def test_a_journal_without_a_study_holds_no_trials(journal):
    assert load_study(journal).trials == []


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
    interrupted = searcher.study.trials[1]
    searcher.on_trial_complete("ended", report(70.0, 200, 1.0))
    searcher.on_trial_complete("other baseline", report(60.0, 200, 1.0))
    asked = searcher.study.ask()  # killed between two suggestions of one trial
    kind = asked.suggest_categorical("curriculum.hardness.kind", ["constant", "linear"])

    resumed = StudySearch(space, journal, 0, 0, first_point={"curriculum.hardness.start": 0.25})
    assert resumed.ended == 2
    suggestions = [resumed.suggest(f"again {i}") for i in range(4)]
    assert suggestions[0]["label"] == BASELINES[0]
    assert suggestions[1] == {"label": "trial-001", "overrides": interrupted.params}
    assert suggestions[2]["label"] == "trial-002"
    assert suggestions[2]["overrides"]["curriculum.hardness.kind"] == kind
    assert suggestions[3]["label"] == "trial-003"
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
