"""The programs as their users meet them: help, a dry run, and clusters that cannot serve; see test_bad_input, too."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest
from program import ROOT, run
from tiny_run import TINY, arguments

from synthcl import UserError, load_preset
from synthcl.cluster import connect, nodes, resources
from synthcl.cluster.resources import require_resources
from synthcl.runs.storage import Storage

PROGRAMS = ("search", "train", "evaluate")


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_shows_examples(program):
    done = run(program, "--help")
    assert done.returncode == 0
    assert f"python tune/{program}.py" in done.stdout


@pytest.mark.parametrize("program", ["search", "train"])
def test_a_dry_run_prints_the_config_and_the_plan_and_writes_nothing(program, tmp_path):
    done = run(program, "--dry-run", "--storage", str(tmp_path / "runs"), "training.kimg=12.8")
    assert done.returncode == 0
    assert '"kimg": 12.8' in done.stdout
    assert "100 steps of 128 images (256 views)" in done.stdout
    assert not (tmp_path / "runs").exists()


SMALL = [*arguments(TINY | {"training.batch_images": 128})]


def the_line_of(refused):
    assert refused.returncode == 2, refused.stderr
    assert refused.stderr.startswith("error: ")
    assert refused.stderr.count("\n") == 1
    return refused.stderr


def test_a_cluster_that_is_too_small_is_found_before_any_training(tmp_path, ray_address):
    here = ["--storage", str(tmp_path / "runs"), "--address", ray_address]
    try:
        line = the_line_of(run("train", *SMALL, *here, "compute.workers_per_trial=32"))
    finally:
        connect.ray.shutdown()
    assert "compute.workers_per_trial=32 needs 32 CPUs" in line
    assert list(tmp_path.iterdir()) == []


def test_a_cluster_with_another_token_refuses_at_once(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    short = tempfile.mkdtemp(prefix="ray")  # Ray's sockets lie in it, and their paths have a limit of 107 characters
    start = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=1"]
    start += ["--node-ip-address=127.0.0.1", f"--port={address.partition(':')[2]}", f"--temp-dir={short}"]
    start += ["--include-dashboard=false", "--disable-usage-stats"]
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 32}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    head = subprocess.Popen(start, env=os.environ | token, **quiet)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", int(address.partition(":")[2])), timeout=1).close()
                break
            time.sleep(0.2)
        train = [sys.executable, str(ROOT / "tune/train.py"), *SMALL, "--storage", str(tmp_path / "runs")]
        environment = os.environ | token | {"RAY_AUTH_TOKEN": "b" * 32}
        given = {"capture_output": True, "text": True, "timeout": 120, "env": environment}
        line = the_line_of(subprocess.run([*train, "--address", address], **given))
    finally:
        os.killpg(head.pid, signal.SIGKILL)
        head.wait()
        shutil.rmtree(short, ignore_errors=True)
    assert f"compute.address '{address}': the Ray cluster there refuses (InvalidAuthToken" in line
    assert "RAY_AUTH_TOKEN" in line
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("given", "there", "line"),
    [
        ({"compute.gpus_per_worker": 99}, {"CPU": 8, "GPU": 4}, "needs 99 GPUs a trial, the cluster has 4"),
        ({"compute.cpus_per_worker": 9}, {"CPU": 8}, "needs 9 CPUs a trial, the cluster has 8"),
    ],
)
def test_what_a_trial_needs_is_compared_with_what_there_is(given, there, line):
    config = load_preset("fashion-mini")
    require_resources(config, there)
    with pytest.raises(UserError, match=line):
        require_resources(config.with_overrides(given), there)


@pytest.mark.parametrize(
    ("given", "nodes", "fit"),
    [
        ({}, [{"CPU": 3}], 3),
        ({"compute.cpus_per_worker": 0.1}, [{"CPU": 1}], 10),
        ({"compute.workers_per_trial": 2}, [{"CPU": 1}, {"CPU": 2}, {"CPU": 2}, {"CPU": 3}], 4),
        ({"compute.workers_per_trial": 2, "compute.cpus_per_worker": 2}, [{"CPU": 3}, {"CPU": 3}, {"CPU": 3}], 1),
        ({"compute.gpus_per_worker": 0.5}, [{"CPU": 8, "GPU": 1}, {"CPU": 8}], 2),
        ({"compute.workers_per_trial": 4, "compute.min_workers_per_trial": 2}, [{"CPU": 3}], 1),
    ],
)
def test_as_many_trials_run_at_a_time_as_the_nodes_can_hold(given, nodes, fit, monkeypatch):
    pretend(monkeypatch, nodes)
    assert resources.concurrent_trials(load_preset("fashion-mini").with_overrides(given)) == fit


def test_a_worker_that_fits_no_node_is_refused_where_it_would_wait_for_ever(monkeypatch):
    pretend(monkeypatch, [{"CPU": 2}, {"CPU": 2}])
    config = load_preset("fashion-mini").with_overrides({"compute.cpus_per_worker": 3})
    with pytest.raises(UserError, match="workers_per_trial=1 of 3 CPUs each: the cluster's nodes have room for 0"):
        resources.concurrent_trials(config)


def test_a_storage_that_a_node_does_not_share_is_refused_by_the_nodes_name(tmp_path, monkeypatch):
    here = Storage(str(tmp_path / "runs"), "run")
    elsewhere = Storage(str(tmp_path / "runs"), "run")
    elsewhere._base = str(tmp_path / "other")  # the same name on a machine that does not share it
    monkeypatch.setattr(nodes, "on_every_node", lambda look: [look("head", 0), sees("node-2", elsewhere, look)])

    def sees(node, storage, look):
        _, token = look.args
        return look.func(storage, token, node, 0)

    monkeypatch.setattr(nodes, "autoscaling", lambda: None)
    monkeypatch.setattr(connect.ray, "nodes", lambda: [{"Alive": True}, {"Alive": True}])
    with pytest.raises(UserError, match=r"node node-2: compute\.storage '.*runs' cannot be read.* all nodes share"):
        connect.require_storage(here)
    monkeypatch.setattr(nodes, "on_every_node", lambda look: [look("head", 0), look("node-2", 0)])
    connect.require_storage(here)
    monkeypatch.setattr(nodes, "on_every_node", lambda look: ["node-2 cannot run synthcl"])
    with pytest.raises(UserError, match="node-2 cannot run synthcl"):
        connect.require_storage(here)
    monkeypatch.setattr(connect.ray, "nodes", lambda: [{"Alive": True}, {"Alive": False}])
    connect.require_storage(here)  # one node alone is this machine, which has proved it
    assert list(tmp_path.iterdir()) == []


def pretend(monkeypatch, hosts):
    total = {kind: sum(node.get(kind, 0) for node in hosts) for kind in ("CPU", "GPU")}
    monkeypatch.setattr(resources, "resources", lambda: total)
    monkeypatch.setattr(connect.ray, "nodes", lambda: [{"Alive": True, "Resources": node} for node in hosts])
    monkeypatch.setattr(nodes, "autoscaling", lambda: None)
