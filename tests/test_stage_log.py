"""What a search shows of its trials, and what it does not end for."""

from types import SimpleNamespace

import pytest
from small_trainer import tiny_config
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from synthcl.errors import UserError
from synthcl.search.log import StageLog
from synthcl.storage import Storage


@pytest.fixture
def log(tmp_path):
    stage = StageLog(tiny_config(), Storage(str(tmp_path), "run"), "search-1", 2)
    stage.on_trial_start(0, [], trial())
    return stage


def trial(**last):
    config = {"label": "trial-000", "overrides": {}}
    return SimpleNamespace(trial_id="a", config=config, last_result=last, error_file="error.txt")


def report(**changes):
    leg = {"images": 64, "progress": 0.5, "diverged": False, "sound": False, "history": []}
    return leg | changes


def test_a_failure_is_named_and_its_points_are_in_tensorboard(log, tmp_path, capsys):
    points = [{"images": images, "encoder/variance": 0.01} for images in (16, 32)]
    reason = "the encoder collapsed, all embeddings agree: encoder/variance 0.01 is below 0.02"
    failed = report(diverged=True, score=0.0, reason=reason, history=points)
    log.on_trial_result(0, [], trial(), failed)
    log.on_trial_complete(0, [], trial(**failed))
    assert f"diverged: {reason}" in capsys.readouterr().out
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard" / "trial-000")).Reload()
    assert [event.step for event in events.Scalars("encoder/variance")] == [16, 32]


def test_a_rollback_is_told_once_and_does_not_end_the_trial(log, capsys):
    log.on_trial_result(0, [], trial(), report(rolled_back="loss/contrast became nan by step 4; back to step 2"))
    log.on_trial_result(0, [], trial(), report(score=50.0))
    shown = capsys.readouterr().out
    assert shown.count("loss/contrast became nan by step 4; back to step 2") == 1
    assert "50.00" in shown


def test_a_bucket_that_is_away_is_told_and_does_not_end_the_search(log, monkeypatch, capsys):
    def away():
        raise UserError("compute.storage 's3://bucket' cannot be written (gone)")

    monkeypatch.setattr(log.storage, "push", away)
    log.on_trial_complete(0, [], trial(progress=1.0))
    assert "cannot be written (gone)" in capsys.readouterr().out
