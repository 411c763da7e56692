"""A search on a cluster that has no worker yet: Ray's own autoscaler launches the nodes, in cluster.yaml's shape."""

import subprocess
import sys

import pytest
from autoscaled import AutoscaledCluster
from optuna.trial import TrialState
from program import ROOT
from tiny_run import TINY, arguments

from synthcl import load_encoder
from synthcl.search.study import load_study

SECONDS = 500


@pytest.fixture
def cluster(request, tmp_path):
    """Two node types, each with as many CPUs as a trial has workers, and two nodes at most."""
    started = AutoscaledCluster([request.param] * 2, 2, tmp_path)
    yield started
    started.close()


@pytest.mark.parametrize(("cluster", "workers"), [(1, 1), (2, 2)], indirect=["cluster"])
def test_a_search_that_finds_no_worker_gets_nodes_and_ends_with_report_and_encoder(cluster, workers, tmp_path):
    assert cluster.workers() == 0
    own = {
        "name": "grown",
        "compute.address": cluster.address,
        "compute.storage": (tmp_path / "runs").as_uri(),
        "compute.workers_per_trial": workers,
        "search.budgets": 2,
        "search.opponent_share": 0,
        "evaluation.rungs": [1.0],
    }
    search = [sys.executable, str(ROOT / "tune/search.py"), *arguments(TINY | own)]
    done = subprocess.run(search, env=cluster.environment, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    assert cluster.workers() <= 2
    launches = cluster.launches()
    assert sum(launches) >= 2
    if workers == 1:
        assert launches[0] == 2  # at once: the second does not wait for the first trial to begin

    run = tmp_path / "runs/grown"
    ended = load_study(run / "study.journal").trials
    assert [trial.state for trial in ended] == [TrialState.COMPLETE] * 2
    assert (run / "report.md").is_file()
    assert load_encoder(run / "encoder.safetensors").training is False
