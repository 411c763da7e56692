"""Failing trials and notice to the driver, on Tune's callbacks without Ray."""

from types import SimpleNamespace

import pytest
from ray.tune.experiment import Trial

from synthcl.cluster import preemption
from synthcl.search.fault_tolerance import CheckpointOnPreemption, ForgiveProgress


def trial(name, status=Trial.RUNNING):
    return SimpleNamespace(trial_id=name, status=status, run_metadata=SimpleNamespace(num_failures=2))


def tell(callback, one, **result):
    callback.on_trial_result(0, [one], one, {"images": 64, "progress": 0.5, "preempted": False, **result})


def test_failures_are_forgiven_where_there_is_progress_and_only_there():
    callback, one = ForgiveProgress(), trial("a")
    tell(callback, one)
    assert one.run_metadata.num_failures == 0
    one.run_metadata.num_failures = 1
    tell(callback, one)  # told again after the failure: no progress
    assert one.run_metadata.num_failures == 1
    tell(callback, one, images=96)
    assert one.run_metadata.num_failures == 0


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
