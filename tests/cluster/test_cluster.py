"""Ray Train workers whose nodes come and go, what a process sees, and what a dead actor holds."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import program
import pytest
import ray
import torch
from tiny_run import TINY, arguments

from benchmarks.support.virtual_nodes import VirtualNodes
from synthcl import load_encoder, load_preset
from synthcl.cluster import train, train_workers
from synthcl.cluster.ray_internals import orphaned_placement_groups
from synthcl.comparison.arms import apply_arm
from synthcl.data import open_split
from synthcl.runs import checkpoint
from synthcl.search import fault_tolerance
from synthcl.training import trainer
from synthcl.training.step import joint_step
from synthcl.training.trainer import Trainer

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
LONG = {
    "training.kimg": 3.2,  # 100 steps
    "training.optimizer": "sgd",  # Adam turns rounding errors of vanishing gradients into whole steps
    "training.learning_rate": 0.05,
    "training.checkpoint_minutes": 0.02,
    "evaluation.rungs": [1.0],
    "compute.workers_per_trial": 2,
    "compute.min_workers_per_trial": 1,
}


@pytest.fixture
def local_ray():
    yield
    ray.shutdown()


@pytest.fixture
def nodes(local_ray):
    virtual = VirtualNodes([1])
    yield virtual
    ray.shutdown()
    virtual.close()


def slowly(settings):
    """Train as a worker does, with steps that take as long as nodes take to come and go."""

    def step(*given):
        time.sleep(1.0)
        return joint_step(*given)

    trainer.joint_step = step
    train_on_worker(settings)


train_on_worker = train_workers._train_on_worker


def test_a_training_goes_on_while_nodes_join_and_leave_and_after_an_interrupt(nodes, tmp_path, monkeypatch, capsys):
    overrides = TINY | LONG | {"compute.storage": str(tmp_path), "compute.address": nodes.address}
    config = apply_arm(load_preset("fashion-mini").with_overrides(overrides), "real-only")
    heard, kept = [], []

    class Heard(train.RunLog):
        def report(self, report):
            heard.append((report.workers, report.images))

    def in_checkpoint():
        report = checkpoint.load(tmp_path / "fashion-mini/train-real-only/checkpoint.pt", CPU)["report"]
        return report["workers"], report["images"]

    def disturb():
        # Sums in another order change the last digit; before step 10 that grows to 0.3 by the end, later to nothing.
        wait_for(lambda: heard and heard[-1] >= (1, 10 * 32))
        nodes.join(1)
        wait_for(lambda: heard[-1][0] == 2 and in_checkpoint()[0] == 2)
        nodes.drain(nodes.nodes[-1], 20)
        wait_for(lambda: kept.append(in_checkpoint()) or heard[-1][0] == 1)
        nodes.kill(nodes.nodes[-1])
        wait_for(lambda before=heard[-1]: heard[-1] > before)
        os.kill(os.getpid(), signal.SIGTERM)

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr(train, "RunLog", Heard)
    monkeypatch.setattr(train_workers, "LOOK_SECONDS", 1.0)
    monkeypatch.setattr(train_workers, "_train_on_worker", slowly)
    threading.Thread(target=disturb, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        train.run_training(config, "train-real-only")
    sizes = [size for index, (size, _) in enumerate(heard) if index == 0 or heard[index - 1][0] != size]
    assert sizes == [1, 2, 1]
    left = max(index for index, (size, _) in enumerate(heard) if size == 2)
    last_of_two = max(images for size, images in kept if size == 2)
    assert heard[left + 1][1] == last_of_two  # told again: nothing of the drained node's work was lost
    unheard = last_of_two - heard[left][1]  # where the node went between keeping a report and telling it
    assert unheard in (0, round(1000 * config.training.log_kimg))
    assert heard[-1][1] < 3200
    assert "goes on with 1 workers, the same batch" in capsys.readouterr().out

    monkeypatch.setattr(train_workers, "_train_on_worker", train_on_worker)
    before = len(heard)
    train.run_training(config, "train-real-only")
    assert heard[before][1] >= heard[before - 1][1]
    alone = Trainer(config, open_split(config.data, "unlabelled", CPU).images, None, CPU)
    alone.advance(config.training.steps)
    trained = load_encoder(tmp_path / "fashion-mini/train-real-only.safetensors").state_dict()
    for name, value in alone.networks.encoder.state_dict().items():
        torch.testing.assert_close(trained[name], value, rtol=1e-2, atol=1e-3, msg=name)

    again = ["--arm", "real-only", *arguments(overrides)]
    assert "complete" in program.run("train", *again).stdout
    other = program.run("train", *again, "training.kimg=5")
    assert other.returncode == 2
    assert "training.kimg=3.2" in other.stderr


def wait_for(condition, seconds=180):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            os.kill(os.getpid(), signal.SIGTERM)  # the test fails by what it has heard until now
            return
        time.sleep(0.1)


def test_a_process_has_the_gpu_that_ray_gave_it_and_none_that_it_only_sees(local_ray, monkeypatch):
    """On a host that claims a GPU: a process without one sees it all the same."""

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert not train_workers.has_gpu()  # outside Ray
    ray.init("local", num_cpus=1, num_gpus=2, include_dashboard=False)
    look = ray.remote(lambda: (train_workers.has_gpu(), os.environ.get("CUDA_VISIBLE_DEVICES")))
    given = [ray.get(look.options(num_cpus=0, num_gpus=gpus).remote()) for gpus in (0, 0.5, 1)]
    assert given == [(False, "0,1"), (True, "0"), (True, "0")]


def test_what_a_dead_actor_holds_is_freed_and_nothing_else(local_ray):
    @ray.remote(num_cpus=0)
    class Creator:
        def __init__(self, cpus):
            self.group = ray.util.placement_group([{"CPU": cpus}])

        def id(self):
            return self.group.id.hex()

    ray.init("local", num_cpus=2, include_dashboard=False)
    mine = ray.util.placement_group([{"CPU": 1}])
    living, holding, waiting = Creator.remote(0.5), Creator.remote(0.5), Creator.remote(64)
    kept = {mine.id.hex(), ray.get(living.id.remote())}
    dead = {ray.get(creator.id.remote()) for creator in (holding, waiting)}
    assert orphaned_placement_groups() == []
    for creator in (holding, waiting):
        ray.kill(creator)
    wait_for(lambda: len(orphaned_placement_groups()) == 2, 30)
    assert {group.id.hex() for group in orphaned_placement_groups()} == dead

    fault_tolerance.FreeOrphans().on_step_end(0, [])
    states = lambda: {name: group["state"] for name, group in ray.util.placement_group_table().items()}  # noqa: E731
    wait_for(lambda: all(states()[name] == "REMOVED" for name in dead), 30)
    assert {name for name, state in states().items() if state == "CREATED"} == kept
    assert orphaned_placement_groups() == []
