"""`ray up cluster.yaml` brings up a cluster that searches, loses a host in the middle, and finishes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks.reliability import intact
from benchmarks.support.hosts import Host, missing, wait_for
from benchmarks.support.ray_up import RayCluster, finish, hosts_for_ray
from synthcl.config.presets import load_preset
from synthcl.search.results import JOURNAL, chosen_names, confirm_records, open_study, trials_frame

pytestmark = [pytest.mark.cluster, pytest.mark.skipif(bool(reason := missing()), reason=reason)]

SEARCH = (
    "cd ~/synthcl && python tune/search.py --smoke-test --address auto --storage /mnt/runs"
    " search.confirm_seeds=1 search.opponent_share=0"
)
UNASKED = """
import urllib.error, urllib.request
try:
    urllib.request.urlopen("http://127.0.0.1:8265/api/jobs/")
except urllib.error.HTTPError as error:
    print(error.code)
"""


def answer(host: Host, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(host.command(*words), capture_output=True, text=True, timeout=60)


def trains(host: Host) -> bool:
    return answer(host, "pgrep", "-f", "ray::.*(Trial|Trainable)").returncode == 0


def require_that_only_the_token_opens(cluster: RayCluster) -> None:
    assert answer(cluster.head, "python3", "-c", UNASKED).stdout == "401\n"
    dashboard = f"echo > /dev/tcp/{cluster.head.address}/8265"
    assert "refused" in answer(cluster.workers[0], "bash", "-c", dashboard).stderr
    assert answer(cluster.head, "stat", "-c", "%a", "/root/.ray/auth_token").stdout == "600\n"


def test_a_search_by_ray_up_survives_the_loss_of_a_host(tmp_path: Path) -> None:
    with hosts_for_ray(tmp_path, workers=2, cpus=1) as cluster:
        cluster.up()
        cluster.wait_for_nodes(3)
        require_that_only_the_token_opens(cluster)

        job = cluster.submit(SEARCH)
        run = cluster.shared / "runs/fashion-mini-smoke"
        wait_for("a rung", lambda: (run / JOURNAL).is_file() and _rungs(run) > 0, 180, every_seconds=1)
        wait_for("a trial on a host", lambda: any(map(trains, cluster.workers)), 60)
        lost = next(host for host in cluster.workers if trains(host))
        lost.kill()

        assert "succeeded" in finish(job, 400)
        (left,) = (host for host in cluster.workers if host is not lost)
        assert cluster.alive() == {"head", left.name}
        config = load_preset(str(run / "config.json"))
        assert intact.study_problems(run, config) == {"lost": 0, "orphans": 0, "repeated": 0, "overspent": 0}
        assert {record.arm for record in confirm_records(run, config)} == set(
            chosen_names(trials_frame(open_study(run), config), config)
        )
        assert len(confirm_records(run, config)) == 4  # one seed of the baselines, the preset's own, and the best
        assert (run / "report.md").is_file()
        assert (run / "encoder.safetensors").is_file()

        cluster.down()
        assert answer(cluster.head, "pgrep", "raylet|gcs_server").stdout == ""


def _rungs(run: Path) -> int:
    return sum(len(trial.intermediate_values) for trial in open_study(run).trials)
