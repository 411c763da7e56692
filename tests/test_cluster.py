"""`python tune/train.py` on real Ray Train workers, and trials of several workers inside a search."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import program
import pytest
import ray
import torch
from optuna.trial import TrialState
from tiny_run import TINY, arguments

from synthcl import cluster, load_encoder, load_preset
from synthcl.data import open_split
from synthcl.export import load_any
from synthcl.search import records, run
from synthcl.search.searcher import load_study
from synthcl.search.space import load_space
from synthcl.storage import Storage
from synthcl.training import Trainer
from synthcl.warmup import cached_gan

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")


def command(program, overrides):
    return [sys.executable, str(ROOT / f"tune/{program}.py"), *arguments(overrides)]


def test_two_workers_train_the_encoder_one_process_trains(tmp_path):
    """Float32 sums in another order, nothing else: Adam's epsilon keeps rounding from being amplified."""
    overrides = TINY | {"compute.storage": str(tmp_path), "compute.workers_per_trial": 2, "training.kimg": 0.256}
    done = subprocess.run(command("train", overrides), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("kimg") == 3
    trained = load_encoder(tmp_path / "fashion-mini/train-joint.safetensors").state_dict()

    config = load_preset("fashion-mini").with_overrides(overrides)
    images = open_split(config.data, "unlabelled", CPU).images
    alone = Trainer(config, images, cached_gan(config, images, tmp_path / "gan", CPU), CPU)
    alone.advance(config.training.steps)
    for name, value in alone.networks.encoder.state_dict().items():
        torch.testing.assert_close(trained[name], value, rtol=1e-2, atol=1e-3, msg=name)


def test_a_killed_training_goes_on_and_a_finished_one_says_so(tmp_path):
    overrides = TINY | {"compute.storage": str(tmp_path), "training.kimg": 4.096, "evaluation.rungs": [0.1, 0.2, 1.0]}
    process = subprocess.Popen(command("train", overrides), stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert any("20%" in line for line in process.stdout)  # waits for the second rung
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(1)

    again = subprocess.run(command("train", overrides), capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    assert " 10%" not in again.stdout
    assert "100%" in again.stdout
    assert "complete" in program.run("train", *arguments(overrides)).stdout
    other = program.run("train", *arguments(overrides | {"training.kimg": 5}))
    assert other.returncode == 2
    assert "training.kimg=4.096" in other.stderr


@pytest.fixture
def local_ray():
    yield
    ray.shutdown()


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two half-CPU workers and their driver need two CPUs")
def test_trials_of_two_workers_report_to_the_search_and_leave_checkpoints(tmp_path, monkeypatch, local_ray):
    overrides = {"compute.storage": str(tmp_path), "compute.workers_per_trial": 2, "compute.cpus_per_worker": 0.5}
    config = load_preset("fashion-mini").with_overrides(TINY | overrides | {"training.kimg": 0.256, "search.trials": 1})
    space = load_space(ROOT / "tune/spaces/curriculum.yaml", config)
    storage = Storage(config.compute.storage, config.name)
    storage.folder.mkdir(parents=True)
    monkeypatch.setattr(run, "BASELINES", ("real-only",))
    cluster.connect(config, driver_cpus=1)
    gan = cluster.warmed_gan(config, open_split(config.data, "unlabelled", CPU).images, storage)

    run._search(config, space, storage, gan, {"name": "search-1", "kind": "search", "trials": 1})
    ended = load_study(storage.folder / "study.journal").trials
    assert [trial.state for trial in ended] == [TrialState.COMPLETE] * 2
    assert all(len(trial.intermediate_values) == 3 for trial in ended)
    monkeypatch.setattr(records, "chosen_names", lambda trials, config: ["real-only"])
    run._confirm(config, storage, gan, {"name": "confirm-1", "kind": "confirm"})
    saved = json.loads((storage.folder / "confirm/real-only-seed1000.json").read_text())
    encoder, _ = load_any(storage.folder / saved["checkpoint"])
    assert encoder.training is False
