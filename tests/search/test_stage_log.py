"""What a search shows of its trials, and what it does not end for."""

import io
from types import SimpleNamespace

import pytest
from PIL import Image
from small_trainer import tiny_config
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from synthcl.core.errors import UserError
from synthcl.runs import checkpoint_store
from synthcl.runs.storage import Storage
from synthcl.search.outlook import Outlook
from synthcl.search.stage_log import StageLog


def outlook():
    return Outlook({"search": (2000.0, 0.0), "confirm": (4000.0, 0.0)}, ["search"], at_a_time=2)


@pytest.fixture
def log(tmp_path):
    stage = StageLog(tiny_config(), Storage(str(tmp_path), "run"), "search-1", outlook())
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
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard" / "search" / "trial-000")).Reload()
    assert [event.step for event in events.Scalars("encoder/variance")] == [16, 32]


def test_a_rollback_is_told_once_and_does_not_end_the_trial(log, capsys):
    log.on_trial_result(0, [], trial(), report(rolled_back="loss/contrast became nan by step 4; back to step 2"))
    log.on_trial_result(0, [], trial(), report(score=50.0))
    shown = capsys.readouterr().out
    assert shown.count("loss/contrast became nan by step 4; back to step 2") == 1
    assert "50.00" in shown


def test_of_two_objectives_both_are_shown(tmp_path, capsys):
    base = tiny_config().with_overrides({"search.objective": "pareto", "evaluation.transfer": ["digits"]})
    stage = StageLog(base, Storage(str(tmp_path), "run"), "search-1", outlook())
    stage.on_trial_start(0, [], trial())
    stage.on_trial_result(0, [], trial(), report(score=50.0) | {"val/transfer-ridge/mean": 61.25})
    whole = {"val/transfer/mean": 62.5, "val/early-transfer-ridge/mean": 61.0}
    stage.on_trial_result(0, [], trial(), report(score=51.0, progress=1.0) | whole)
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[-2:] for line in shown] == [["50.00", "61.25"], ["51.00", "62.50"]]


def test_a_copy_is_told_and_its_parents_images_are_not_counted_again(log, capsys):
    log.setup()
    copying = trial()
    copying.config = {"label": "trial-009", "overrides": {}, "heard": 0, "until": 64, "parent": "trial-000"}
    log.on_trial_start(0, [], copying)
    advanced = []
    log._progress.advance = advanced.append
    log.on_trial_result(0, [], copying, report(score=50.0))
    log.on_trial_result(0, [], copying, report(score=60.0, images=96))
    assert "copies trial-000" in capsys.readouterr().out
    assert advanced == [0.032]


@pytest.fixture
def shown_note(log):
    log.setup()
    return lambda: log._progress.note


def test_best_is_among_trials_that_spent_their_budget(log, shown_note):
    """A score at an earlier rung has another measure."""
    log.on_trial_result(0, [], trial(), report(score=90.0))
    log.on_trial_complete(0, [], trial(progress=0.5))
    assert shown_note() == ""
    log.on_trial_start(0, [], trial())
    log.on_trial_result(0, [], trial(), report(score=75.2, progress=1.0))
    log.on_trial_complete(0, [], trial(progress=1.0))
    assert shown_note() == "best 75.20 (trial-000)"


def test_labels_of_confirm_runs_do_not_break_the_columns(tmp_path, capsys):
    stage = StageLog(tiny_config(), Storage(str(tmp_path), "run"), "confirm-1", outlook())
    for name in ("joint-seed1000", "real-only-009-seed1000"):
        run = SimpleNamespace(trial_id=name, config={"run": {"label": name, "overrides": {}}})
        stage.on_trial_start(0, [], run)
        stage.on_trial_result(0, [], run, report(score=50.0))
    assert len({line.index("kimg") for line in capsys.readouterr().out.splitlines()}) == 1


def test_the_hours_of_every_stage_are_told_once_when_the_first_leg_has_ended(log, capsys):
    for images, seconds in ((64, 6.4), (128, 12.8)):
        log.on_trial_result(0, [], trial(), report(score=50.0, images=images, seconds=seconds))
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("time")]
    assert told == ["time       search 2 min, confirm 3 min; about 5 min in all, 2 runs at a time"]


def png():
    buffer = io.BytesIO()
    Image.new("L", (8, 4)).save(buffer, "png")
    return buffer.getvalue()


@pytest.mark.parametrize("fault", ["away", "cut short"])
def test_a_sample_grid_that_cannot_be_read_is_told_once_and_does_not_end_the_search(
    log, monkeypatch, capsys, tmp_path, fault
):
    def failing(place):
        if fault == "away":
            raise OSError("When reading information for key 'a' in bucket 'b': AWS Error NETWORK_CONNECTION")
        return png()[:-20]

    monkeypatch.setattr(checkpoint_store, "samples", failing)
    for images in (64, 128):
        log.on_trial_result(0, [], trial(), report(score=50.0, sound=True, images=images))
    assert capsys.readouterr().out.count("sample grids may be missing: that of trial-000 cannot be read") == 1
    assert not list(tmp_path.rglob("*.png"))
    monkeypatch.setattr(checkpoint_store, "samples", lambda place: png())
    log.on_trial_result(0, [], trial(), report(score=50.0, sound=True, images=192))
    assert [file.stem for file in tmp_path.rglob("*.png")] == [f"{192:012d}"]


def test_a_bucket_that_is_away_is_told_and_does_not_end_the_search(log, monkeypatch, capsys):
    def away():
        raise UserError("compute.storage 's3://bucket' cannot be written (gone)")

    monkeypatch.setattr(log.storage, "push", away)
    log.on_trial_complete(0, [], trial(progress=1.0))
    assert "cannot be written (gone)" in capsys.readouterr().out


def test_a_terminal_is_shown_who_trains_and_then_who_is_furthest_and_best(tmp_path):
    stage = StageLog(tiny_config(), Storage(str(tmp_path), "run"), "search-1", outlook())
    scores = {"trial-000": (0.5, 70.0), "trial-001": (0.5, 75.0), "trial-002": (1.0, 72.0), "trial-003": (0.25, 80.0)}
    for name, (progress, score) in scores.items():
        run = SimpleNamespace(trial_id=name, config={"label": name, "overrides": {}})
        stage.on_trial_start(0, [], run)
        stage.on_trial_result(0, [], run, report(score=score, progress=progress))
        if name != "trial-003":
            stage.on_trial_complete(0, [], run)
    stage.on_trial_start(0, [], SimpleNamespace(config={"label": "trial-004", "overrides": {}}))
    shown = [list(column.cells) for column in stage.standing().columns]
    assert [str(cell) for cell in shown[0]] == ["trial-003", "trial-004", "trial-002", "trial-001", "trial-000"]
    assert [str(cell) for cell in shown[3]] == ["80.00", "", "72.00", "75.00", "70.00"]
    assert [str(cell) for cell in shown[4]] == ["trains", "trains", "", "", ""]
