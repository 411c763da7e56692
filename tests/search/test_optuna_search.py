"""The studies behind Tune: runs by legs, how they end in the journal, and that a search killed anywhere goes on."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace

import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import TrialState
from ray.tune.search import Searcher

from benchmarks.search.replay import images_of as images_of_leg
from benchmarks.search.replay import play, report
from synthcl import load_preset
from synthcl.search import proposals
from synthcl.search.contest import HOPELESS_RUNS, Contest, Field
from synthcl.search.legs import Exchange
from synthcl.search.optuna_search import StudySearch
from synthcl.search.sides import ALGORITHMS, SPACES, copying
from synthcl.search.space import load_space
from synthcl.search.study import OPPONENT_STUDY, STUDY, load_study
from synthcl.search.time_limit import TimeLimit

CONFIG = load_preset("fashion-mini")
KIND, START, END = (f"curriculum.hardness.{field}" for field in ("kind", "start", "end"))
SPACE = """
curriculum.hardness.kind: {choices: [constant, linear]}
curriculum.hardness.start: {low: 0.1, high: 1.0}
curriculum.hardness.end: {low: 0.1, high: 1.0, when: {curriculum.hardness.kind: [linear]}}
"""
RUNGS = (125, 250, 500, 1000)


@pytest.fixture
def contest(tmp_path):
    file = tmp_path / "space.yaml"
    file.write_text(SPACE)
    next_leg, is_out = ALGORITHMS["halving"]
    space = load_space(file, CONFIG)
    return Contest(STUDY, "trial", "joint", space, {START: 0.25}, next_leg, is_out, RUNGS, 8.0, None, 2, 3.0, 0, 4)


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "study.journal"


def by(algorithm, contest):
    next_leg, is_out = ALGORITHMS[algorithm]
    contest = replace(contest, next_leg=next_leg, is_out=is_out)
    if algorithm != "population":
        return contest
    space, exchange = load_space(SPACES / "population.yaml", CONFIG), Exchange(8, 0.25, 1.0, 0)
    return replace(contest, space=space, startup_trials=8, exchange=exchange, copy=copying(space, CONFIG))


def easy(label, overrides, images):
    """Better where hardness begins higher, and later; no two runs alike."""
    return 50 + 10 * overrides.get(START, 0.0) + images / 1000 + int(label[-3:]) / 1e4


def opposed(label, overrides, images):
    """A second objective that falls where the first rises."""
    return 60 - 10 * overrides.get(START, 0.0) ** 2 + images / 1000 - int(label[-3:]) / 1e4


def images_of(legs):
    return sum(map(images_of_leg, legs))


def states(journal):
    return Counter(trial.state.name for trial in load_study(journal).trials)


@pytest.mark.parametrize(("workers", "pareto"), [(1, False), (2, False), (4, False), (1, True), (4, True)])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_search_spends_what_it_promised_and_ends_with_enough_complete_runs(
    contest, journal, algorithm, workers, pareto
):
    contest = replace(by(algorithm, contest), pareto=pareto)
    legs = play(StudySearch([contest], journal), easy, workers, transfer=opposed if pareto else None)
    assert 8000 - 1000 < images_of(legs) <= 8000
    complete = [trial for trial in load_study(journal).trials if trial.state is TrialState.COMPLETE]
    assert len([trial for trial in complete if trial.number]) >= contest.finish
    reached = Counter()
    for leg in legs:
        assert leg["heard"] == reached[leg["label"]]  # every leg begins where the run's last one ended
        reached[leg["label"]] = leg["until"]
    if algorithm == "halving":
        assert states(journal)["RUNNING"] > 5  # paused
        assert len(reached) > 12
    else:
        assert not states(journal)["RUNNING"]


def test_the_first_run_is_the_configurations_own(contest, journal):
    searcher = StudySearch([contest], journal)
    first, second = searcher.suggest("a"), searcher.suggest("b")
    assert first == {"label": "trial-000", "overrides": first["overrides"], "heard": 0, "until": 125}
    assert first["overrides"][START] == 0.25
    assert second["label"] == "trial-001"
    assert second["overrides"][START] != 0.25


@pytest.mark.parametrize("pareto", [False, True], ids=["score", "pareto"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("cut", [1, 2, 5, 11])
def test_a_search_that_is_killed_goes_on_as_the_unbroken_one(contest, tmp_path, algorithm, cut, pareto):
    contest, transfer = replace(by(algorithm, contest), pareto=pareto), opposed if pareto else None
    unbroken = play(StudySearch([contest], tmp_path / "unbroken.journal"), easy, transfer=transfer)
    journal, told = tmp_path / "broken.journal", []
    while True:
        legs = play(StudySearch([contest], journal), easy, legs=cut, transfer=transfer)
        told += legs[:cut]
        if len(legs) < cut or legs[cut:] == []:
            rest = play(StudySearch([contest], journal), easy, transfer=transfer)
            told += rest
            break
    assert [leg | {"score": 0} for leg in told] == [leg | {"score": 0} for leg in unbroken]


def copies(journal):
    return [trial for trial in load_study(journal).trials if "parent" in trial.user_attrs]


def test_a_copy_begins_with_its_parents_checkpoint_and_has_its_whole_lineage(contest, journal):
    legs = play(StudySearch([by("population", contest)], journal), easy, workers=2)
    began = {leg["label"]: leg for leg in legs if not leg["heard"]}
    assert 2 <= len(copies(journal)) <= 4
    for trial in copies(journal):
        parent = load_study(journal).trials[trial.user_attrs["parent"]]
        leg, at = began[trial.user_attrs["label"]], trial.user_attrs["inherited"]
        assert (leg["parent"], leg["until"]) == (parent.user_attrs["label"], at)
        assert at in parent.intermediate_values
        before, after = (CONFIG.with_overrides(began[run.user_attrs["label"]]["overrides"]) for run in (parent, trial))
        then = [config.knobs_at(at / 1000 - 0.001) for config in (before, after)]
        now = [config.knobs_at(at / 1000) for config in (before, after)]
        assert then[0] == then[1]
        assert now[0] != now[1]
        assert now[1].hardness == pytest.approx(trial.params[START])
    last = {at: max(n for n, leg in enumerate(legs) if leg["until"] == at) for at in (250, 500)}
    assert all(leg["until"] == 250 for leg in legs[: last[250]])  # nobody of a generation before the last one is over
    assert states(journal) == {"COMPLETE": 8, "PRUNED": len(copies(journal))}


def test_a_search_that_is_killed_between_a_copy_and_the_end_of_whom_it_replaces_ends_that(
    contest, journal, monkeypatch
):
    contest = by("population", contest)
    with monkeypatch.context() as killed:
        killed.setattr(Field, "_settle", lambda *given: None)
        play(StudySearch([contest], journal), easy, legs=8)
    (copy, *_) = copies(journal)
    assert states(journal)["PRUNED"] == 0
    StudySearch([contest], journal)
    assert load_study(journal).trials[copy.user_attrs["replaces"]].state is TrialState.PRUNED
    assert states(journal)["PRUNED"] == len(copies(journal))


def test_what_was_under_way_is_given_out_again_first_and_nothing_else_twice(contest, journal):
    searcher = StudySearch([contest], journal)
    begun = [searcher.suggest(f"id{i}") for i in range(3)]
    searcher.on_trial_complete("id1", report(125, 60.0))
    again = StudySearch([contest], journal)
    found = [again.suggest(f"again{i}") for i in range(3)]
    assert found[:2] == [begun[0], begun[2]]
    assert found[2]["label"] == "trial-003"


def test_two_contests_share_the_workers_in_proportion_to_their_budgets(contest, journal):
    opponent = replace(contest, study=OPPONENT_STUDY, prefix="real-only", arm="real-only", budgets=4.0)
    legs = play(StudySearch([contest, opponent], journal), easy, workers=2)
    mine, others = ([leg for leg in legs if leg["label"].startswith(prefix)] for prefix in ("trial-", "real-only-"))
    assert 7000 < images_of(mine) <= 8000
    assert 3000 < images_of(others) <= 4000
    half = [leg["label"][:4] for leg in legs[: len(legs) // 2]]
    assert 0.2 < half.count("real") / len(half) < 0.5
    assert all(
        leg["overrides"]["curriculum.synthetic_fraction"] == {"kind": "constant", "start": 0.0} for leg in others
    )
    alone = play(StudySearch([contest], journal.with_name("alone.journal")), easy)
    beside = play(StudySearch([contest, opponent], journal.with_name("b.journal")), easy)
    assert [leg for leg in beside if leg["label"].startswith("trial")] == alone


def test_an_extended_search_goes_on_with_paused_runs_too(contest, journal):
    play(StudySearch([contest], journal), easy)
    paused = {t.user_attrs["label"] for t in load_study(journal).trials if t.state is TrialState.RUNNING}
    more = play(StudySearch([replace(contest, budgets=12.0)], journal), easy)
    assert 3000 < images_of(more) <= 4001
    assert paused & {leg["label"] for leg in more}
    assert play(StudySearch([replace(contest, budgets=12.0)], journal), easy) == []


def test_paused_runs_are_shown_to_tpe_as_pruned_at_their_rung(contest, journal):
    searcher = StudySearch([contest], journal)
    for name, score in (("a", 60.0), ("b", 50.0)):
        searcher.suggest(name)
        searcher.on_trial_complete(name, report(125, score))
    searcher.suggest("c")
    field = searcher._fields[0]
    seen = [proposals.view_of(field._frozen[run.number], run) for run in proposals.laid_out(field.game)]
    assert [trial.state for trial in seen] == [TrialState.PRUNED, TrialState.PRUNED, TrialState.RUNNING]
    assert [trial.intermediate_values for trial in seen] == [{125: 60.0}, {125: 50.0}, {}]


@pytest.mark.parametrize("pareto", [False, True])
def test_runs_that_are_shared_and_not_copied_are_proposed_from_alike_and_stay_as_they_are(contest, journal, pareto):
    contest = replace(contest, pareto=pareto)
    play(StudySearch([contest], journal), easy, transfer=opposed if pareto else None)
    field = StudySearch([contest], journal)._fields[0]
    shown = proposals.laid_out(field.game)
    values = proposals.levels(shown) if pareto else {}
    seen = [field._view(run, values.get(run.number)) for run in shown]
    plain = [
        optuna.trial.create_trial(
            state=view.state,
            values=view.values,
            params=dict(view.params),
            distributions=dict(view.distributions),
            intermediate_values=dict(view.intermediate_values),
        )
        for view in seen
    ]
    before = [copy.deepcopy(vars(view)) for view in seen]
    given = (contest.space, seen, ("a", 1, 2), 2, {})
    drawn = proposals.propose(*given, pareto=pareto)
    assert drawn == proposals.propose(contest.space, plain, *given[2:], pareto=pareto)
    assert drawn != proposals.propose(contest.space, [], *given[2:], pareto=pareto)  # they matter
    assert [vars(view) for view in seen] == before


def test_tpe_is_asked_on_the_best_and_the_latest_alone(contest):
    from synthcl.search.legs import Game, Run

    runs = [Run(n, {125: float(n % 97)}, 125, "paused", 125) for n in range(500)]
    game = Game(runs, RUNGS, 1e6, None, 1, 3.0)
    shown = proposals.laid_out(game)
    assert len(shown) <= proposals.BEST + proposals.LATEST
    assert [run.number for run in shown[-proposals.LATEST :]] == list(range(500 - proposals.LATEST, 500))
    assert {run.number for run in runs if run.scores[125] == 96} <= {run.number for run in shown}
    failed = replace(runs[-1], failed=True)
    assert failed not in proposals.laid_out(replace(game, runs=[*runs[:-1], failed]))


def test_tpe_is_shown_two_objectives_in_which_no_run_of_a_lower_rung_beats_one_of_a_higher(contest, journal):
    searcher = StudySearch([replace(contest, pareto=True)], journal)
    told = [(60.0, 40.0), (50.0, 45.0), (90.0, 95.0)]
    for name, (score, transfer) in zip("abc", told, strict=True):
        searcher.suggest(name)
        searcher.on_trial_complete(name, report(125, score) | {"val/transfer-ridge/mean": transfer})
    leg = searcher.suggest("c on")
    assert (leg["label"], leg["until"]) == ("trial-002", 250)  # it beats the others in both
    searcher.on_trial_complete("c on", report(250, 30.0) | {"val/transfer-ridge/mean": 20.0})
    searcher.suggest("d")
    diverged = report(60, 0.0) | {"diverged": True, "reason": "loss became nan"}
    searcher.on_trial_complete("d", diverged)
    searcher.suggest("e")
    field = searcher._fields[0]
    shown = proposals.laid_out(field.game)
    values = proposals.levels(shown)
    assert values == {0: (1.0, 0.0), 1: (0.0, 1.0), 2: (2.0, 2.0)}
    seen = [proposals.view_of_two(field._frozen[run.number], values.get(run.number), run) for run in shown]
    states = [TrialState.COMPLETE] * 3 + [TrialState.PRUNED, TrialState.RUNNING]
    assert [trial.state for trial in seen] == states
    again = StudySearch([replace(contest, pareto=True)], journal)._fields[0]
    assert [run.transfer for run in again.runs] == [{125: 40.0}, {125: 45.0}, {125: 95.0, 250: 20.0}, {}, {}]


def test_a_search_with_two_objectives_has_both_of_every_rung_after_any_line_of_its_journal(contest, journal):
    contest = replace(contest, pareto=True, budgets=3.0)
    play(StudySearch([contest], journal), easy, workers=2, transfer=opposed)
    lines = journal.read_bytes().splitlines(keepends=True)
    told = Counter()
    for end in range(len(lines)):
        cut = journal.with_name(f"cut-{end}.journal")
        cut.write_bytes(b"".join(lines[:end]))
        runs = StudySearch([contest], cut)._fields[0].runs
        assert all(run.scores.keys() == run.transfer.keys() for run in runs)
        if begun := [run for run in runs if run.standing == "training"]:  # first what was under way
            again = StudySearch([contest], cut).suggest("again")
            assert (again["label"], again["heard"]) == (f"trial-{begun[0].number:03d}", begun[0].reached)
            told[begun[0].number] += 1
    assert len(told) > 5


def test_tpe_asked_with_two_objectives_looks_where_the_front_is(contest, journal):
    """Both objectives are best at 0.1 of one field, so that nothing is traded for it."""

    def better(label, overrides, images):
        return 50 - 10 * overrides[START]

    contest = by("random", replace(contest, first_point={}, pareto=True, budgets=30.0))
    starts = [leg["overrides"][START] for leg in play(StudySearch([contest], journal), better, transfer=better)]
    assert sum(starts[20:]) / 10 < 0.35 < sum(starts[:4]) / 4


@pytest.mark.parametrize("startup", [0, 1, 4])
def test_as_many_runs_are_random_as_asked_for_beside_the_presets_own(contest, journal, monkeypatch, startup):
    contest = by("random", replace(contest, startup_trials=startup, budgets=12.0))
    tpe = [leg["overrides"] for leg in play(StudySearch([contest], journal), easy)]
    monkeypatch.setattr(proposals, "tpe", lambda seed, startup_trials: RandomSampler(seed=seed))
    random = [leg["overrides"] for leg in play(StudySearch([contest], journal.with_name("r.journal")), easy)]
    same = [a == b for a, b in zip(tpe, random, strict=True)]
    assert same[: startup + 1] == [True] * (startup + 1)
    assert not any(same[startup + 1 :])


def test_runs_end_in_the_journal_as_they_ended(contest, journal):
    contest = by("stopping", replace(contest, keep_one_in=2.0, budgets=20.0))
    searcher = StudySearch([contest], journal)
    for name in ("good", "stopped", "diverged", "broken"):
        searcher.suggest(name)
    searcher.on_trial_complete("good", report(125, 60.0))
    searcher.on_trial_complete("stopped", report(125, 50.0))
    diverged = report(125, 0.0) | {"diverged": True, "reason": "loss became nan"}
    searcher.on_trial_complete("diverged", diverged)
    searcher.on_trial_complete("broken", None, error=True)
    for until in (250, 500, 1000):
        leg = searcher.suggest(f"good {until}")
        assert (leg["label"], leg["until"]) == ("trial-000", until)
        searcher.on_trial_complete(f"good {until}", report(until, 60.0 + until / 1000))
    good, stopped, diverged, broken = load_study(journal).trials
    assert (good.state, good.value) == (TrialState.COMPLETE, 61.0)
    assert good.intermediate_values == {125: 60.0, 250: 60.25, 500: 60.5, 1000: 61.0}
    assert good.user_attrs["metrics"] == {"score": 61.0, "val/ridge/x": 61.0}
    assert (stopped.state, stopped.intermediate_values) == (TrialState.PRUNED, {125: 50.0})
    assert stopped.user_attrs["images"] == 125
    assert (diverged.state, diverged.user_attrs["diverged"]) == (TrialState.PRUNED, "loss became nan")
    assert broken.state is TrialState.FAIL


@pytest.mark.parametrize("pareto", [False, True], ids=["score", "pareto"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_search_that_is_killed_between_a_score_and_what_follows_from_it_settles_it(
    contest, journal, algorithm, pareto
):
    contest = replace(by(algorithm, contest), pareto=pareto)
    searcher = StudySearch([contest], journal)
    for name, told in {
        "whole": report(1000, 70.0) | {"val/transfer/mean": 60.0},
        "diverged": report(60, 0.0) | {"diverged": True, "reason": "loss became nan"},
    }.items():
        searcher.suggest(name)
        searcher.on_trial_result(name, told)  # and nothing more is heard of it
    again = StudySearch([contest], journal)
    whole, diverged = load_study(journal).trials
    assert (whole.state, whole.value) == (TrialState.COMPLETE, 70.0)
    assert (diverged.state, diverged.user_attrs["diverged"]) == (TrialState.PRUNED, "loss became nan")
    assert again.suggest("next")["label"] == "trial-002"


def test_a_report_between_rungs_says_nothing_and_one_told_again_is_known(contest, journal):
    searcher = StudySearch([contest], journal)
    searcher.suggest("a")
    searcher.on_trial_result("a", report(60))
    assert load_study(journal).trials[0].intermediate_values == {}
    searcher.on_trial_result("a", report(125, 70.0))
    again = StudySearch([contest], journal)
    assert again.suggest("b")["label"] == "trial-001"  # its leg had ended, though nobody had said so
    (first, _) = load_study(journal).trials
    assert first.intermediate_values == {125: 70.0}


def test_a_score_that_is_no_number_fails_its_run_and_not_the_search(contest, journal):
    searcher = StudySearch([by("random", contest)], journal)
    searcher.suggest("a")
    searcher.on_trial_complete("a", report(1000, float("nan")))
    assert [trial.state for trial in load_study(journal).trials] == [TrialState.FAIL]


def test_a_search_in_which_all_that_begins_fails_is_over_soon(contest, journal):
    searcher = StudySearch([contest], journal)
    for number in range(HOPELESS_RUNS):
        assert searcher.suggest(f"id{number}") != Searcher.FINISHED
        searcher.on_trial_complete(f"id{number}", None, error=True)
    assert searcher.suggest("more") == Searcher.FINISHED


def test_when_the_time_is_over_what_is_to_be_confirmed_is_completed_and_nothing_else_begins(contest, journal):
    limit = TimeLimit(hours=1.0, following_images=4000, at_a_time=1)
    assert not limit.is_over(None, 1000)  # nothing has been measured
    searcher = StudySearch([contest], journal, limit)
    for number in range(9):
        leg = searcher.suggest(f"id{number}")
        score = easy(leg["label"], leg["overrides"], leg["until"])
        searcher.on_trial_complete(f"id{number}", report(leg["until"], score, seconds=0.1 * leg["until"]))
    assert searcher._fields[0].seconds_an_image == pytest.approx(0.1)
    limit.began -= 3600 - 600  # ten minutes left, and 4,000 images alone take seven
    legs = play(searcher, easy)
    assert [leg["until"] for leg in legs] == [1000, 1000]
    assert states(journal)["COMPLETE"] == 2


def test_time_is_over_when_the_rest_is_needed():
    limit = TimeLimit(hours=1.0, following_images=9000, at_a_time=3)
    assert not limit.is_over(1.0, 0.0)  # 3,000 s of the hour, and a tenth more
    assert limit.is_over(1.0, 1000.0)


def test_the_warm_ups_of_confirm_runs_are_paid_for_too():
    limit = TimeLimit(hours=1.0, following_images=9000, at_a_time=3, following_seconds=240)
    assert not limit.is_over(1.0, 0.0)  # 3,240 s of the hour, and a tenth more
    assert TimeLimit(hours=1.0, following_images=9000, at_a_time=3, following_seconds=300).is_over(1.0, 0.0)


def test_tune_keeps_nothing_of_the_searcher_beside_the_journal(contest, journal, tmp_path):
    folder = tmp_path / "experiment"
    folder.mkdir()
    StudySearch([contest], journal).save_to_dir(str(folder))
    assert list(folder.iterdir()) == []


def test_a_journal_without_a_study_holds_no_runs(journal):
    assert load_study(journal).trials == []


def test_a_line_that_a_full_disk_cut_off_is_no_part_of_the_study(contest, journal):
    StudySearch([contest], journal).suggest("a")
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":4,"worker_id"')
    continued = StudySearch([contest], journal)
    assert continued.suggest("a")["label"] == "trial-000"
    continued.on_trial_complete("a", report(125, 80.0))
    assert journal.read_bytes().startswith(whole)
    assert [trial.intermediate_values for trial in load_study(journal).trials] == [{125: 80.0}]


def test_what_a_journal_of_an_earlier_version_holds_is_still_shown(journal):
    from synthcl.search.study import BASELINE_STUDY
    from synthcl.search.study import journal as store

    for name, label in ((BASELINE_STUDY, "real-only"), (STUDY, "trial-000")):
        study = optuna.create_study(study_name=name, storage=store(journal), direction="maximize")
        attributes = {"label": label} | ({"arm": label} if name == BASELINE_STUDY else {})
        study.add_trial(optuna.trial.create_trial(value=70.0, user_attrs=attributes))
    assert [trial.user_attrs["label"] for trial in load_study(journal).trials] == ["real-only", "trial-000"]
