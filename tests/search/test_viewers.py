"""What TensorBoard and Optuna's dashboard show of a finished search, asked as their pages ask."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.hparams import plugin_data_pb2

from synthcl.config.presets import load_preset
from synthcl.evaluation.names import headline
from synthcl.search.study import load_study


@pytest.fixture(scope="module")
def events(smoke: Path) -> EventMultiplexer:
    return EventMultiplexer().AddRunsFromDirectory(str(smoke / "tensorboard")).Reload()


def test_runs_are_grouped_by_stage_and_every_curve_says_what_it_is(smoke: Path, events: EventMultiplexer) -> None:
    provider = MultiplexerDataProvider(events, str(smoke))
    runs = provider.list_scalars(RequestContext(), experiment_id="", plugin_name="scalars")
    labels = {trial.user_attrs["label"] for trial in load_study(smoke / "study.journal").trials}
    confirmed = {file.stem for file in (smoke / "confirm").glob("*.json")}
    assert runs.keys() == {f"search/{label}" for label in labels} | {f"confirm/{label}" for label in confirmed}
    curves = {tag: curve.description for run in runs.values() for tag, curve in run.items()}
    assert {"score", "gan/order", "knob/hardness", "test/knn/fashion-mini", "features/rank"} <= curves.keys()
    assert [tag for tag, description in curves.items() if not description] == []


def test_hyperparameters_are_what_is_searched_and_what_differs_with_all_scores(
    smoke: Path, events: EventMultiplexer
) -> None:
    config = load_preset(str(smoke / "config.json"))
    columns, metrics = set(), set()
    for run in events.Runs():
        for tag, content in events.PluginRunToTagToContent("hparams")[run].items():
            data = plugin_data_pb2.HParamsPluginData.FromString(content)
            if tag == "_hparams_/session_start_info":
                columns |= {*data.session_start_info.hparams}
            if tag == "_hparams_/experiment":
                metrics |= {info.name.tag for info in data.experiment.metric_infos}
    linear = headline(config)
    assert metrics == {"score", f"val/{linear}", f"test/{linear}", "val/transfer/mean", "test/transfer/mean"}
    trials = load_study(smoke / "study.journal").trials
    assert {field for trial in trials for field in trial.params} <= columns | {"curriculum.hardness.kind"}
    assert {"training.seed", "synthetic.gan.frozen"} <= columns
    assert not columns & {"training.precision", "training.checkpoint_minutes", "encoder.width"}
    assert len(columns) <= 30


@pytest.fixture(scope="module")
def dashboard(smoke: Path) -> Iterator[str]:
    """Its address, on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("optuna-dashboard")
    given = [str(program), str(smoke / "study.journal"), "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def asked(address: str) -> Any:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(address) as answer:
                return json.load(answer)
        except urllib.error.URLError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def test_the_dashboard_has_the_runs_name_its_metric_and_the_confirmed_score(smoke: Path, dashboard: str) -> None:
    studies = {study["study_name"]: study for study in asked(f"{dashboard}/api/studies")["study_summaries"]}
    assert studies.keys() == {smoke.name, f"{smoke.name} (real-only)"}
    study = asked(f"{dashboard}/api/studies/{studies[smoke.name]['study_id']}?after=0")
    assert study["objective_names"] == ["validation linear, %"]
    board = json.loads((smoke / "leaderboard.json").read_text())
    attributes = {attribute["key"]: attribute["value"] for attribute in study["user_attrs"]}
    assert attributes["winner"] == board["winner"]
    assert attributes["preset"] == "fashion-mini"
    assert board["verdict"] in study["note"]["body"]
    trial = next(row["name"] for row in board["rows"] if not row["baseline"])
    notes = {label_of(trial): trial["note"]["body"] for trial in study["trials"]}
    row = next(row for row in board["rows"] if row["name"] == trial)
    score = row["scores"][f"test/{headline(load_preset(str(smoke / 'config.json')))}"]
    assert f"{score['mean']:.2f}" in notes[trial]
    assert sum(bool(note) for note in notes.values()) <= 3


def label_of(trial: dict[str, Any]) -> str:
    return next(each["value"] for each in trial["user_attrs"] if each["key"] == "label")


def test_the_commands_stand_before_the_first_work(smoke: Path) -> None:
    out = (smoke.parent / "stdout.txt").read_text()
    before, _, _ = out.partition("trial-000")
    for command in (
        f"tensorboard --logdir {smoke}/tensorboard",
        f"optuna-dashboard {smoke}",
        f"synthcl report {smoke}",
    ):
        assert command in before
