"""A search on a cluster that has no worker yet: Ray's own autoscaler launches the nodes, in cluster.yaml's shape."""

import json
import subprocess
import sys
import time

import pytest
from autoscaled import AutoscaledCluster
from optuna.trial import TrialState
from program import ROOT
from tiny_run import TINY, arguments

from synthcl import load_encoder
from synthcl.search.searcher import load_study

SECONDS = 300
MOST_NODES = 4


@pytest.fixture(scope="module")
def clusters(tmp_path_factory):
    """Starts clusters, and ends those it started."""
    started = []

    def start():
        started.append(AutoscaledCluster([1, 1], MOST_NODES, tmp_path_factory.mktemp("cluster")))
        return started[-1]

    yield start
    for cluster in started:
        cluster.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_search_that_finds_no_worker_gets_nodes_and_ends_with_report_and_encoder(workers, clusters, tmp_path):
    cluster = clusters()
    assert cluster.workers() == 0
    own = {
        "name": "grown",
        "compute.address": cluster.address,
        "compute.storage": tmp_path.as_uri(),
        "compute.workers_per_trial": workers,
        "search.trials": 4 // workers,
    }
    seen = [0]
    log = tmp_path / "search.log"
    with log.open("w") as printed, subprocess.Popen(
        [sys.executable, str(ROOT / "tune/search.py"), *arguments(TINY | own)],
        stdout=printed, stderr=subprocess.STDOUT, env=cluster.environment,
    ) as search:  # fmt: skip
        deadline = time.monotonic() + SECONDS
        while search.poll() is None:
            if (now := cluster.workers()) != seen[-1]:
                seen.append(now)
            if time.monotonic() > deadline:
                search.terminate()
            time.sleep(0.2)
    assert search.returncode == 0, log.read_text()[-3000:]
    assert 2 <= max(seen) <= MOST_NODES
    # All at once, as soon as trials wait for them: not one after the other, each when the last trial has begun.
    assert max(seen) >= min(MOST_NODES, workers * (own["search.trials"] + 2)), seen

    run = tmp_path / "grown"
    ended = load_study(run / "study.journal").trials
    assert len([trial for trial in ended if trial.state is TrialState.COMPLETE]) >= 1
    assert all(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in ended)
    assert (run / "report.md").is_file()
    assert json.loads((run / "encoder.json").read_text())
    assert load_encoder(run / "encoder.safetensors").training is False
