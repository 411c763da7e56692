"""What a cluster holds, and what its autoscaler may add to it."""

import json
import subprocess
import sys

import pytest
import yaml
from program import ROOT

from synthcl import load_preset
from synthcl.cluster import capacity, connect, nodes, resources
from synthcl.cluster.capacity import HEAD, NODE_TYPE_LABEL, launchable, running_autoscaling, slots, total
from synthcl.core.errors import UserError
from synthcl.runs.storage import Storage

ONE_CPU, ONE_GPU, TWO_GPUS, HALF_GPU = {"CPU": 1}, {"CPU": 1, "GPU": 1}, {"CPU": 1, "GPU": 2}, {"CPU": 1, "GPU": 0.5}
L4, A10G, BIG = {"CPU": 8, "GPU": 1}, {"CPU": 16, "GPU": 1}, {"CPU": 48, "GPU": 4}


def node(resources, kind=None):
    return {"Alive": True, "Resources": resources, "Labels": {NODE_TYPE_LABEL: kind} if kind else {}}


HEAD_NODE = node({HEAD: 1})


def grows(most, **kinds):
    """What the autoscaler runs with: resources and max_workers of every node type."""
    head = {"max_workers": 0, "resources": {"CPU": 0}}
    others = {name: {"resources": resources, "max_workers": count} for name, (resources, count) in kinds.items()}
    return {"max_workers": most, "available_node_types": {"head": head} | others}


BOTH = grows(8, l4=(L4, 8), a10g=(A10G, 8))


@pytest.mark.parametrize(
    ("wanted", "nodes", "autoscaling", "workers"),
    [
        (ONE_GPU, [HEAD_NODE], None, 0),
        (ONE_GPU, [HEAD_NODE], BOTH, 8),  # 16 of two types, 8 of all
        (ONE_GPU, [HEAD_NODE], grows(8, l4=(L4, 3), a10g=(A10G, 2)), 5),
        (ONE_GPU, [HEAD_NODE, node(L4), node(A10G)], BOTH, 8),  # the living count, by what they have
        (ONE_GPU, [HEAD_NODE, *[node(L4)] * 8], BOTH, 8),
        (ONE_GPU, [HEAD_NODE, *[node(L4)] * 3], grows(8, l4=(L4, 3), a10g=(A10G, 2)), 5),
        (ONE_GPU, [HEAD_NODE, *[node(L4, "l4")] * 3], grows(8, l4=(L4, 3), other=(L4, 2)), 5),  # or by their label
        (ONE_GPU, [HEAD_NODE, *[node(L4, "other")] * 2], grows(8, l4=(L4, 3), other=(L4, 2)), 5),
        (ONE_GPU, [HEAD_NODE, node({"CPU": 4, "GPU": 1})], grows(2, l4=(L4, 2)), 2),  # one that joined by hand
        (HALF_GPU, [HEAD_NODE], BOTH, 16),
        (TWO_GPUS, [HEAD_NODE], BOTH, 0),  # a worker lies on one node
        (TWO_GPUS, [HEAD_NODE], grows(4, l4=(L4, 4), big=(BIG, 2)), 4),
        (ONE_GPU, [HEAD_NODE], grows(4, l4=(L4, 4), big=(BIG, 2)), 10),  # the largest first
        (ONE_CPU, [HEAD_NODE, node(L4)], grows(0, l4=(L4, 4)), 8),
        (ONE_CPU, [HEAD_NODE], grows(3, own=({}, 3)), 0),  # a provider of own machines says nothing of them
        (ONE_CPU, [node({HEAD: 1, "CPU": 2})], None, 2),
    ],
)
def test_workers_fit_the_living_nodes_and_those_that_may_be_launched(wanted, nodes, autoscaling, workers):
    assert slots(wanted, nodes, autoscaling) == workers


def test_what_there_is_in_all_counts_the_nodes_that_may_be_launched():
    assert total("GPU", [HEAD_NODE], BOTH) == 8
    assert total("CPU", [HEAD_NODE], BOTH) == 8 * 16
    assert total("GPU", [HEAD_NODE, node(BIG)], grows(3, l4=(L4, 3), big=(BIG, 1))) == 6
    assert total("GPU", [HEAD_NODE], None) == 0


def test_the_shipped_cluster_file_holds_eight_trials_of_one_gpu():
    described = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    kinds = described["available_node_types"]
    kinds["l4"]["resources"] = {"CPU": 8, "GPU": 1, "memory": 2e10}  # `ray up` fills this in from EC2's list
    kinds["a10g"]["resources"] = {"CPU": 8, "GPU": 1, "memory": 2e10}
    assert slots(ONE_GPU, [HEAD_NODE], described) == 8
    assert launchable(ONE_GPU, [node({HEAD: 1}), *[node(L4)] * 8], described) == []


def monitor(folder, *options):
    """A process that looks like Ray's monitor."""
    (folder / "monitor.py").write_text("import time\nprint('runs', flush=True)\ntime.sleep(60)\n")
    started = subprocess.Popen([sys.executable, str(folder / "monitor.py"), *options], stdout=subprocess.PIPE)
    assert started.stdout.readline()
    return started


def test_the_file_that_counts_is_the_one_of_the_running_autoscaler(tmp_path):
    for name in ("mine", "other"):
        (tmp_path / name).write_text(json.dumps(grows(1, **{name: (L4, 1)})))
    processes = [
        monitor(tmp_path, "--gcs-address=10.9.8.7:64001", f"--autoscaling-config={tmp_path / 'other'}"),
        monitor(tmp_path, f"--autoscaling-config={tmp_path / 'mine'}", "--gcs-address=10.9.8.7:64002"),
        monitor(tmp_path, "--gcs-address=10.9.8.7:64003"),
    ]
    try:
        assert "mine" in running_autoscaling("head.internal:64002")["available_node_types"]
        assert running_autoscaling("10.9.8.7:64003") is None  # a cluster without one
        assert running_autoscaling("10.9.8.7:64004") is None  # a file that an earlier cluster left is not looked for
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.fixture
def joined(monkeypatch):
    """Pretends to have joined a cluster."""

    def join(living, autoscaling=None):
        monkeypatch.setattr(nodes, "living_nodes", lambda: living)
        monkeypatch.setattr(nodes, "autoscaling", lambda: autoscaling)

    return join


def test_a_cluster_without_a_worker_is_large_enough_when_its_autoscaler_may_launch_some(joined):
    config = load_preset("cifar10")
    joined([HEAD_NODE], BOTH)
    resources.require_resources(config, resources.resources())
    assert resources.needs(config, resources.resources()) == {"CPU": 1, "GPU": 1}  # a GPU each, though none lives
    assert resources.concurrent_trials(config) == resources.trials_to_start(config) == 8
    joined([HEAD_NODE])
    with pytest.raises(UserError, match="needs 1 CPUs a trial, the cluster has 0"):
        resources.require_resources(config, resources.resources())
    joined([HEAD_NODE], BOTH)
    with pytest.raises(UserError, match="nodes have room for 0 such workers"):
        resources.concurrent_trials(config.with_overrides({"compute.gpus_per_worker": 2}))


def test_few_trials_of_several_workers_wait_for_nodes_at_a_time(joined):
    config = load_preset("cifar10").with_overrides({"compute.workers_per_trial": 2})
    large = grows(64, l4=(L4, 64))
    for living, started in ((0, 4), (2, 5), (40, 24), (60, 32), (64, 32)):
        joined([HEAD_NODE, *[node(L4)] * living], large)
        assert resources.trials_to_start(config) == started
    assert resources.AHEAD_TRIALS == 4
    joined([HEAD_NODE, *[node(L4)] * 4])
    assert resources.trials_to_start(config) == 2


@pytest.mark.parametrize(
    ("root", "autoscaling", "refused"),
    [
        ("{}", BOTH, True),
        ("file://{}", BOTH, False),  # says that every node has it
        ("{}", None, False),
        ("{}", grows(8, own=({}, 8)), False),  # own machines: the beacon has asked those that live
        ("{}", grows(0, l4=(L4, 8)), False),
    ],
)
def test_a_plain_folder_is_no_storage_for_nodes_that_are_still_to_be_launched(
    root, autoscaling, refused, joined, tmp_path
):
    storage = Storage(root.format(tmp_path / "runs"), "run")
    joined([HEAD_NODE], autoscaling)
    if not refused:
        connect.require_storage(storage)
        return
    with pytest.raises(UserError, match=r"is a folder.*s3://bucket/synthcl, or file:///.*/runs if every") as error:
        connect.require_storage(storage)
    assert "\n" not in str(error.value)
    joined([HEAD_NODE, *[node(L4)] * 8], autoscaling)  # nor for those that will replace the living
    with pytest.raises(UserError):
        connect.require_storage(storage)


def test_a_memory_of_the_autoscaler_belongs_to_one_cluster(monkeypatch):
    asked = []
    monkeypatch.setattr(capacity, "running_autoscaling", lambda address: asked.append(address))
    nodes._autoscaling.cache_clear()
    monkeypatch.setattr(nodes, "living_nodes", lambda: [{"NodeID": "a", **HEAD_NODE}, {"NodeID": "b", **HEAD_NODE}])
    monkeypatch.setattr(connect.ray, "get_runtime_context", lambda: context)
    for name in ("a", "a", "b"):

        class context:
            gcs_address = name

            @staticmethod
            def get_node_id(name=name):
                return name

        nodes.autoscaling()
    assert asked == ["a", "b"]
    nodes._autoscaling.cache_clear()
