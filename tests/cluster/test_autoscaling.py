"""A search on a cluster that has no worker yet: Ray's own autoscaler launches the nodes, in cluster.yaml's shape."""

import json
import subprocess
import sys

import pytest
from autoscaled import AutoscaledCluster
from optuna.trial import TrialState
from program import ROOT
from tiny_run import TINY, arguments

from synthcl import load_encoder
from synthcl.runs.export import load_any
from synthcl.search.study import load_study

SECONDS = 500


@pytest.fixture
def cluster(tmp_path):
    """Two node types of one CPU, and two nodes at most: a trial of two workers needs both."""
    started = AutoscaledCluster([1, 1], 2, tmp_path)
    yield started
    started.close()


def searched(cluster, tmp_path, overrides):
    """A search on this cluster, and the folder of its run."""
    assert cluster.workers() == 0
    own = {"name": "grown", "compute.address": cluster.address, "compute.storage": (tmp_path / "runs").as_uri()}
    search = [sys.executable, str(ROOT / "tune/search.py"), *arguments(TINY | own | overrides)]
    done = subprocess.run(search, env=cluster.environment, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    assert cluster.workers() <= 2
    run = tmp_path / "runs/grown"
    assert (run / "report.md").is_file()
    assert load_encoder(run / "encoder.safetensors").training is False
    return run, load_study(run / "study.journal").trials


def test_a_search_that_finds_no_worker_gets_nodes_and_ends_with_report_and_encoder(cluster, tmp_path):
    _, ended = searched(cluster, tmp_path, {"search.budgets": 2, "search.opponent_share": 0, "evaluation.rungs": [1.0]})
    assert [trial.state for trial in ended] == [TrialState.COMPLETE] * 2
    assert cluster.launches()[0] == 2, cluster.autoscaler_log()  # the second does not wait for the first trial to begin


def test_trials_whose_two_workers_need_a_node_each_report_to_the_search_and_leave_checkpoints(cluster, tmp_path):
    run, ended = searched(cluster, tmp_path, {"compute.workers_per_trial": 2, "training.kimg": 0.256})
    assert cluster.nodes_kept() == 2, cluster.autoscaler_log()
    assert {trial.user_attrs.get("arm") for trial in ended} == {None, "real-only"}
    whole = [trial for trial in ended if trial.state is TrialState.COMPLETE]
    assert len(whole) >= 2
    assert all(len(trial.intermediate_values) == 3 for trial in whole if not trial.number)
    assert all(trial.user_attrs["until"] in trial.intermediate_values for trial in ended)
    assert len(list((run / "search-1/workers").iterdir())) == 1  # all by the same workers
    assert len(list((run / "confirm").glob("*.json"))) == 5
    saved = json.loads((run / "confirm/real-only-seed1000.json").read_text())
    encoder, _ = load_any(run / saved["checkpoint"])
    assert encoder.training is False
