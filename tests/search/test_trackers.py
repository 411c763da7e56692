"""Legs are one run in MLflow and Weights & Biases, and a tracker that is missing is named before any work."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.logger import LoggerCallback
from small_trainer import tiny_config

from synthcl.config.schema import Config
from synthcl.core.errors import UserError
from synthcl.runs.storage import Storage
from synthcl.search import trackers as module
from synthcl.search.sides import load_spaces
from synthcl.search.state import State
from synthcl.search.trackers import Tracker, require_trackers, trackers

SEARCHED = ["curriculum.hardness.start"]


def leg(label: str = "trial-000", hardness: float = 0.3) -> Any:
    """A trial of Ray."""
    return SimpleNamespace(config={"label": label, "overrides": {"curriculum.hardness.start": hardness}})


def result(images: int, **more: Any) -> dict[str, Any]:
    points = [{"images": images - 32, "loss/contrast": 5.0}, {"images": images, "loss/contrast": 4.0}]
    return {"images": images, "progress": images / 256, "history": points, "val/knn/fashion-mini@10": 50.0} | more


def play(tracker: Tracker) -> None:
    """Two runs, one of two legs with the other's between them, which diverges."""
    tracker.setup()
    for trial, told in (
        (leg(), result(64, score=60.0)),
        (leg("trial-001", 0.5), result(64, score=0.0, diverged=True, reason="it collapsed")),
        (leg(), result(256, score=70.0)),
    ):
        tracker.on_trial_start(0, [], trial)
        tracker.on_trial_result(0, [], trial, told)
        tracker.on_trial_complete(0, [], trial)
    tracker.on_experiment_end([])


def config_of(tmp_path: Path, *log_to: str) -> tuple[Config, Storage]:
    config = tiny_config().with_overrides({"search.log_to": list(log_to), "name": "birds"})
    return config, Storage(str(tmp_path), config.name)


class Recorder(LoggerCallback):
    """What a tracker is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def log_trial_start(self, trial: Any) -> None:
        self.heard.append(("start", str(trial), trial.config))

    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        self.heard.append(("result", str(trial), result["training_iteration"], "score" in result))

    def log_trial_end(self, trial: Any, failed: bool = False) -> None:
        self.heard.append(("end", str(trial), failed))


def test_legs_are_one_run_with_every_point_once(tmp_path: Path) -> None:
    config, storage = config_of(tmp_path)
    play(Tracker(heard := Recorder(), "wandb", config, storage.folder, "search-1", SEARCHED, all_points=True))
    own = [entry for entry in heard.heard if entry[1] == "trial-000"]
    assert own == [
        ("start", "trial-000", {"curriculum.hardness.start": 0.3}),
        ("result", "trial-000", 32, False),
        ("result", "trial-000", 64, True),
        ("result", "trial-000", 224, False),
        ("result", "trial-000", 256, True),
        ("end", "trial-000", False),
    ]
    assert ("end", "trial-001", True) in heard.heard


def test_of_many_runs_that_wait_the_longest_are_closed_and_go_on_under_their_id(tmp_path: Path) -> None:
    config, storage = config_of(tmp_path)
    tracker = Tracker(heard := Recorder(), "wandb", config, storage.folder, "search-1")
    for number in range(module.WAITING + 2):
        tracker.on_trial_start(0, [], leg(f"trial-{number:03d}"))
        tracker.on_trial_complete(0, [], leg(f"trial-{number:03d}"))
    assert [entry[1] for entry in heard.heard if entry[0] == "end"] == ["trial-000", "trial-001"]
    known = tracker._id
    tracker.on_trial_start(0, [], leg("trial-000"))
    assert tracker._open["trial-000"].trial_id == f"trial-000-{known}"
    assert Tracker(Recorder(), "wandb", config, storage.folder, "confirm-1")._id == known  # and when it goes on


def test_a_tracker_that_fails_is_told_once_and_does_not_end_the_search(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Away(Recorder):
        def log_trial_result(self, *given: Any) -> None:
            raise ConnectionError("no route to host")

    config, storage = config_of(tmp_path)
    play(Tracker(heard := Away(), "mlflow", config, storage.folder, "search-1"))
    assert capsys.readouterr().out == "mlflow may miss some of this search: ConnectionError: no route to host\n"
    assert [entry[0] for entry in heard.heard].count("end") == 2


def test_mlflow_has_an_experiment_of_the_runs_name_with_a_run_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config, storage = config_of(tmp_path, "mlflow")
    require_trackers(config)
    (tracker,) = trackers(config, storage, "search-1", SEARCHED)
    play(tracker)
    client = MlflowClient(f"sqlite:///{storage.folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("birds")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert {name: run.info.status for name, run in runs.items()} == {"trial-000": "FINISHED", "trial-001": "FAILED"}
    run = runs["trial-000"]
    assert run.data.params == {"curriculum.hardness.start": "0.3"}
    assert run.data.tags["stage"] == "search"
    history = client.get_metric_history(run.info.run_id, "score")
    assert [(point.step, point.value) for point in history] == [(64, 60.0), (256, 70.0)]
    assert run.data.metrics["val/knn/fashion-mini:10"] == 50.0
    assert run.data.metrics["loss/contrast"] == 4.0


def test_wandb_has_a_run_each_in_a_group_of_the_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_address: str
) -> None:
    import ray

    monkeypatch.setenv("WANDB_MODE", "offline")
    config, storage = config_of(tmp_path, "wandb")
    require_trackers(config)
    ray.init(ray_address, log_to_driver=False, runtime_env={"env_vars": {"WANDB_MODE": "offline"}})
    try:
        (tracker,) = trackers(config, storage, "search-1", SEARCHED)
        play(tracker)
    finally:
        ray.shutdown()
    folders = sorted((storage.folder / "wandb").glob("offline-run-*"))
    names = [folder.name.split("-", 3)[-1] for folder in folders]
    assert [name.rsplit("-", 1)[0] for name in names] == ["trial-000", "trial-001"]
    written = b"".join(file.read_bytes() for file in folders[0].glob("*.wandb"))
    for said in (b"birds search", b"curriculum.hardness.start", b"loss/contrast", b"fashion-mini@10"):
        assert said in written


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_tracker_that_is_not_installed_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked: None)
    with pytest.raises(UserError, match=rf"search\.log_to has '{name}', which is not installed; pip install {name}"):
        require_trackers(tiny_config().with_overrides({"search.log_to": [name]}))


def test_a_tracker_without_key_or_server_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("wandb.api", SimpleNamespace(api_key=None))
    with pytest.raises(UserError, match=r"'wandb': .*; type wandb login, or export WANDB_API_KEY"):
        require_trackers(tiny_config().with_overrides({"search.log_to": ["wandb"]}))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://host")
    with pytest.raises(UserError, match=r"MLFLOW_TRACKING_URI='nowhere://host' does not answer"):
        require_trackers(tiny_config().with_overrides({"search.log_to": ["mlflow"]}))


def test_what_is_logged_to_may_change_when_a_search_goes_on(tmp_path: Path) -> None:
    begun, storage = config_of(tmp_path)
    spaces = load_spaces(begun)
    State(storage, begun, spaces, fresh=True, extend=0.0).write()
    followed, _ = config_of(tmp_path, "mlflow")
    State(storage, followed, spaces, fresh=False, extend=0.0)
    with pytest.raises(UserError, match=r"training\.batch_images"):
        State(storage, followed.with_overrides({"training.batch_images": 64}), spaces, fresh=False, extend=0.0)
