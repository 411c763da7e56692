"""ASHA at our rungs: the cut-offs by hand, and the baselines untouched."""

from types import SimpleNamespace

import pytest
from ray.tune.schedulers import TrialScheduler

from synthcl import load_preset
from synthcl.search.asha import RungScheduler, rung_images

CONFIG = load_preset("fashion-mini").with_overrides(
    {
        "training.kimg": 10,
        "training.batch_images": 100,
        "evaluation.rungs": [0.3, 0.5, 1.0],
        "search.reduction_factor": 2,
    }
)
CONTINUE, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP


def tell(scheduler, label, images, score, **more):
    trial = SimpleNamespace(trial_id=label, config={"label": label})
    if label not in scheduler._trial_info:
        scheduler.on_trial_add(None, trial)
    return scheduler.on_trial_result(None, trial, {"images": images, "score": score, **more})


def test_rungs_are_those_of_the_config():
    assert rung_images(CONFIG) == [3000, 5000, 10000]
    scheduler = RungScheduler(CONFIG)
    assert [images for images, _ in scheduler._brackets[0]._rungs] == [5000, 3000]


def test_a_report_told_again_after_an_interruption_is_compared_with_the_others_alone():
    scheduler = RungScheduler(CONFIG, {3000: {"a": 50.0, "b": 60.0}})
    again = SimpleNamespace(trial_id="new id", config={"label": "b"})
    scheduler.on_trial_add(None, again)
    assert scheduler.on_trial_result(None, again, {"images": 3000, "score": 54.0}) == CONTINUE  # 50, not 50 and 60
    assert tell(scheduler, "c", 3000, 51.0) == STOP  # median of 50 and 54


def test_a_trial_below_the_better_half_of_those_before_it_is_stopped():
    scheduler = RungScheduler(CONFIG)
    assert tell(scheduler, "a", 3000, 50.0) == CONTINUE  # nobody to compare with
    assert tell(scheduler, "b", 3000, 60.0) == CONTINUE
    assert tell(scheduler, "c", 3000, 54.9) == STOP  # median of 50 and 60 is 55
    assert tell(scheduler, "d", 3000, 57.0) == CONTINUE  # median of 50, 54.9 and 60
    assert tell(scheduler, "b", 5000, 70.0) == CONTINUE
    assert tell(scheduler, "d", 5000, 69.0) == STOP


def test_baselines_are_never_stopped_and_set_no_bar():
    scheduler = RungScheduler(CONFIG)
    assert tell(scheduler, "real-only", 3000, 99.0) == CONTINUE
    assert tell(scheduler, "frozen-gan", 3000, 1.0) == CONTINUE
    assert tell(scheduler, "a", 3000, 50.0) == CONTINUE


def test_a_diverged_trial_lowers_nobodys_bar():
    scheduler = RungScheduler(CONFIG)
    tell(scheduler, "a", 3000, 50.0)
    tell(scheduler, "b", 3000, 0.0, diverged=True, reason="nan")
    assert tell(scheduler, "c", 3000, 49.0) == STOP


def test_a_leg_without_a_score_decides_nothing():
    scheduler = RungScheduler(CONFIG)
    tell(scheduler, "a", 3000, 50.0)
    trial = SimpleNamespace(trial_id="b", config={"label": "b"})
    scheduler.on_trial_add(None, trial)
    assert scheduler.on_trial_result(None, trial, {"images": 3000}) == CONTINUE


@pytest.mark.parametrize(("score", "decision"), [(59.0, STOP), (61.0, CONTINUE)])
def test_an_extended_search_is_held_to_the_scores_before_it(score, decision):
    scheduler = RungScheduler(CONFIG, {3000: {"trial-000": 60.0}})
    assert tell(scheduler, "trial-009", 3000, score) == decision
