"""Failing trials and notice to the driver, on Tune's callbacks without Ray."""

from types import SimpleNamespace

import pytest
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from synthcl.cluster import preemption
from synthcl.search.fault_tolerance import CheckpointOnPreemption, Retry


def trial(name, status=Trial.RUNNING):
    return SimpleNamespace(trial_id=name, status=status)


def tell(callback, one, **result):
    callback.on_trial_result(0, [one], one, {"images": 64, "progress": 0.5, "preempted": False, **result})


class Listed(Searcher):
    """Suggests what it is given and keeps what it is told."""

    def __init__(self, *labels):
        super().__init__()
        self.left, self.told = [{"label": label} for label in labels], []

    def suggest(self, trial_id):
        return self.left.pop(0) if self.left else Searcher.FINISHED

    def on_trial_result(self, trial_id, result):
        self.told.append((trial_id, result["images"]))

    def on_trial_complete(self, trial_id, result=None, error=False):
        self.told.append((trial_id, "error" if error else "ended"))


def test_what_failed_is_suggested_again_and_is_one_trial_to_the_searcher(capsys):
    retry = Retry(searcher := Listed("one", "two"))
    assert retry.suggest("a") == {"label": "one"}
    retry.on_trial_complete("a", error=True)
    assert retry.suggest("b") == {"label": "one"}  # before what is new
    assert capsys.readouterr().out == "one is tried again, 2 of 3\n"
    assert retry.suggest("c") == {"label": "two"}
    assert retry.suggest("d") is None  # not FINISHED, after which Tune would not ask again
    retry.on_trial_result("b", {"images": 64})
    retry.on_trial_complete("b", {"images": 64})
    retry.on_trial_complete("c", {"images": 64})
    assert searcher.told == [("a", 64), ("a", "ended"), ("c", "ended")]
    assert retry.suggest("e") == Searcher.FINISHED


def test_a_trial_fails_when_it_has_failed_three_times_at_the_same_place_and_not_where_it_got_further():
    retry = Retry(searcher := Listed("one"))
    for trial_id in "abcd":
        retry.suggest(trial_id)
        retry.on_trial_result(trial_id, {"images": 64 if trial_id == "a" else 96})
        retry.on_trial_complete(trial_id, error=True)  # the first fails at 64 images, the others at 96
    assert searcher.told[-1] == ("a", "error")
    assert [told for told in searcher.told if told[1] == "error"] == [("a", "error")]
    assert len(searcher.told) == 5
    assert retry.suggest("e") == Searcher.FINISHED


def test_on_notice_the_driver_leaves_when_every_running_trial_has_its_checkpoint(monkeypatch):
    passed_on = []
    monkeypatch.setattr(preemption, "tell_job", lambda: passed_on.append(True))
    callback, trials = CheckpointOnPreemption(), [trial("a"), trial("b"), trial("waiting", Trial.PENDING)]
    tell(callback, trials[0], **{"preempted": True})  # a notice of its own, before the driver's
    callback.on_step_end(0, trials)
    monkeypatch.setattr(preemption, "signalled", lambda: True)
    callback.on_step_end(1, trials)
    tell(callback, trials[0], **{"preempted": True})
    tell(callback, trials[1])
    callback.on_step_end(2, trials)
    tell(callback, trials[1], **{"preempted": True})
    with pytest.raises(KeyboardInterrupt):
        callback.on_step_end(3, trials)
    assert passed_on == [True]


def test_the_driver_does_not_wait_for_ever(monkeypatch):
    monkeypatch.setattr(preemption, "tell_job", lambda: None)
    monkeypatch.setattr(preemption, "signalled", lambda: True)
    monkeypatch.setattr(preemption, "LEAVE_SECONDS", -1.0)
    with pytest.raises(KeyboardInterrupt):
        CheckpointOnPreemption().on_step_end(0, [trial("hangs")])
