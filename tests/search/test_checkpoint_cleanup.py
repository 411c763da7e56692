"""Of the trials that ended, the best one's checkpoint stays until it is beaten."""

from types import SimpleNamespace

import buckets
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from small_trainer import CPU, random_images, tiny_config, untrained_gan

from synthcl.core.report import Report
from synthcl.runs import checkpoint_store
from synthcl.runs.location import below
from synthcl.search.checkpoint_cleanup import CheckpointCleanup, dropped
from synthcl.search.study import STUDY, journal
from synthcl.training.trainer import Trainer

s3, bucket = buckets.s3, buckets.bucket


@pytest.fixture(params=["folder", "bucket"])
def root(request, tmp_path):
    if request.param == "folder":
        (tmp_path / "search-1").mkdir()
        return str(tmp_path / "search-1")
    return below(request.getfixturevalue("bucket").uri, "search-1")


def test_losers_lose_their_checkpoints_and_running_trials_keep_theirs(tmp_path, root):
    config = tiny_config()
    trainer = Trainer(config, random_images(), untrained_gan(config), CPU)
    study = optuna.create_study(study_name=STUDY, storage=journal(tmp_path / "study.journal"), direction="maximize")
    labels = [f"trial-{number:03d}" for number in range(5)]
    for label in labels:
        checkpoint_store.keep(trainer, below(root, label), Report(images=0, progress=0.0))
    cleanup = CheckpointCleanup(tmp_path / "study.journal", root)

    def ends(label, state, value=None):
        study.add_trial(
            optuna.trial.create_trial(
                state=state,
                value=value,
                params={"x": 0.5},
                distributions={"x": FloatDistribution(0, 1)},
                user_attrs={"label": label},
            )
        )
        cleanup.on_trial_complete(0, [], SimpleNamespace())
        return [other for other in labels if checkpoint_store.samples(below(root, other))]

    assert ends("trial-000", TrialState.COMPLETE, 50.0) == labels
    assert ends("trial-001", TrialState.PRUNED) == ["trial-000", "trial-002", "trial-003", "trial-004"]
    assert ends("trial-002", TrialState.COMPLETE, 60.0) == ["trial-002", "trial-003", "trial-004"]
    assert ends("trial-003", TrialState.COMPLETE, 55.0) == ["trial-002", "trial-004"]
    other = Trainer(config, random_images(), untrained_gan(config), CPU)
    assert checkpoint_store.resume(other, below(root, "trial-002")) == Report(images=0, progress=0.0)
    assert checkpoint_store.resume(other, below(root, "trial-003")) is None


def test_the_journal_is_read_on_and_not_again_when_a_trial_ends(tmp_path, monkeypatch):
    file, begun = tmp_path / "study.journal", []
    study = optuna.create_study(study_name=STUDY, storage=journal(file), direction="maximize")
    study.add_trial(optuna.trial.create_trial(value=50.0, user_attrs={"label": "trial-000"}))
    read = JournalFileBackend.read_logs
    cleanup = CheckpointCleanup(file, str(tmp_path))
    monkeypatch.setattr(JournalFileBackend, "read_logs", lambda self, start: begun.append(start) or read(self, start))
    cleanup.on_trial_complete(0, [], SimpleNamespace())
    assert begun.count(0) <= 1  # to open it
    begun.clear()
    cleanup.on_trial_complete(0, [], SimpleNamespace())
    assert begun
    assert min(begun) > 0


def test_of_hundreds_of_runs_a_few_wait_for_each_other_and_none_is_left_in_the_end(tmp_path, monkeypatch):
    study = optuna.create_study(study_name=STUDY, storage=journal(tmp_path / "study.journal"), direction="maximize")
    cleanup, gone = CheckpointCleanup(tmp_path / "study.journal", str(tmp_path)), []
    monkeypatch.setattr(checkpoint_store, "forget", gone.append)
    for number in range(307):
        study.add_trial(optuna.trial.create_trial(value=1 / (1 + number), user_attrs={"label": f"trial-{number:03d}"}))
        cleanup.on_trial_complete(number, [], SimpleNamespace())
        late = number - len(gone)  # the first is the best
        assert late <= number // 100
        assert number > 99 or not late
    cleanup.on_experiment_end([])
    assert len(gone) == len(set(gone)) == 306


def test_a_checkpoint_that_cannot_be_deleted_is_told_once_and_deleted_later(tmp_path, monkeypatch, capsys):
    study = optuna.create_study(study_name=STUDY, storage=journal(tmp_path / "study.journal"), direction="maximize")
    for number, value in enumerate((50.0, 40.0, 30.0)):
        study.add_trial(optuna.trial.create_trial(value=value, user_attrs={"label": f"trial-{number:03d}"}))
    cleanup, asked = CheckpointCleanup(tmp_path / "study.journal", str(tmp_path)), []

    def away(place):
        asked.append(place)
        raise OSError("AWS Error NETWORK_CONNECTION during HeadObject")

    monkeypatch.setattr(checkpoint_store, "forget", away)
    cleanup.on_trial_complete(0, [], SimpleNamespace())
    cleanup.on_trial_complete(0, [], SimpleNamespace())
    assert len(asked) == 4
    assert capsys.readouterr().out.count("cannot be deleted now (AWS Error NETWORK_CONNECTION") == 1
    monkeypatch.setattr(checkpoint_store, "forget", asked.append)
    asked.clear()
    cleanup.on_trial_complete(0, [], SimpleNamespace())
    cleanup.on_trial_complete(0, [], SimpleNamespace())
    assert sorted(asked) == [below(str(tmp_path), label) for label in ("trial-001", "trial-002")]


def test_of_paused_runs_the_better_half_of_every_rung_keeps_its_checkpoint():
    def run(number, *scores, until=None, state=TrialState.RUNNING, **more):
        told = dict(zip((125, 250, 1000), scores, strict=False))
        attributes = {"label": f"run-{number}", "until": until or max(told, default=125), **more}
        value = scores[-1] if state is TrialState.COMPLETE else None
        return optuna.trial.create_trial(state=state, value=value, intermediate_values=told, user_attrs=attributes)

    three = [run(0, 50.0), run(1, 60.0), run(2, 40.0)]
    assert dropped(three) == set()
    assert dropped([*three, run(3, 45.0)]) == {"run-2", "run-3"}
    assert dropped([*three, run(3, 45.0, until=250)]) == {"run-2"}  # on its way
    assert dropped([*three, run(3, until=125)]) == set()  # without a score yet
    assert dropped([*three, run(3, 45.0, arm="real-only")]) == set()  # of another contest
    upper = [run(number, 70.0 + number, 60.0 - number) for number in range(4, 8)]
    assert dropped([*three, *upper]) == {"run-0", "run-1", "run-2", "run-6", "run-7"}
    assert dropped([*three, *upper], all_go_on=True) == set()  # a population's
    opponents = [run(number, 50.0 - number, arm="real-only") for number in range(20, 24)]
    assert dropped([*three, *upper, *opponents], all_go_on=True) == {"run-22", "run-23"}
    done = run(8, 80.0, 81.0, 82.0, state=TrialState.COMPLETE)
    beaten = run(9, 80.0, 81.0, 79.0, state=TrialState.COMPLETE)
    assert dropped([done, beaten]) == {"run-9"}
    two = [(50.0, 90.0), (60.0, 80.0), (40.0, 70.0), (55.0, 60.0)]
    ranked = [run(number, score, transfer={"125": transfer}) for number, (score, transfer) in enumerate(two)]
    assert dropped(ranked) == {"run-2", "run-3"}  # by score alone they would be run-0 and run-2
