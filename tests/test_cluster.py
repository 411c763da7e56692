"""`python tune/train.py` on real Ray Train workers, and trials of several workers inside a search."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from optuna.trial import TrialState
from tiny_run import TINY, arguments

from synthcl import load_encoder, load_preset
from synthcl.data import open_split
from synthcl.search.searcher import load_study
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
    third = subprocess.run(command("train", overrides), capture_output=True, text=True, timeout=300)
    assert "complete" in third.stdout
    other = subprocess.run(command("train", overrides | {"training.kimg": 5}), capture_output=True, text=True)
    assert other.returncode == 2
    assert "training.kimg=4.096" in other.stderr


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a trial of two half-CPU workers and its driver needs two CPUs")
def test_a_search_with_two_workers_a_trial_ends_with_a_report(tmp_path):
    overrides = TINY | {
        "compute.storage": str(tmp_path),
        "compute.workers_per_trial": 2,
        "compute.cpus_per_worker": 0.5,
        "training.kimg": 0.256,
        "search.trials": 2,
        "search.reduction_factor": 4,
    }
    done = subprocess.run(command("search", overrides), capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "fashion-mini"
    ended = load_study(folder / "study.journal").trials
    assert all(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in ended)
    records = [json.loads(file.read_text()) for file in (folder / "confirm").glob("*.json")]
    assert len(records) == 3
    assert load_encoder(folder / "encoder.safetensors")
