"""One thread for every test, since networks are tiny and test runs share machines; and one finished smoke run."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from xdist.scheduler import LoadScopeScheduling

torch.set_num_threads(1)

CLUSTERS = {
    "clusters 1": ("test_chaos", "test_ray_up"),
    "clusters 2": ("test_cluster", "test_search", "test_notebook", "test_doctor", "test_cli"),
    "clusters 3": ("test_every_preset", "test_folder_commands"),
}
"""modules that start Ray, in parts of some minutes"""


def part(nodeid):
    """Modules stay whole, for their fixtures; those that start Ray are in their part."""
    module = Path(nodeid.split("::")[0]).stem
    return next((name for name, modules in CLUSTERS.items() if module in modules), module)


class Parts(LoadScopeScheduling):
    """Gives each of the processes a part after the other."""

    def _split_scope(self, nodeid):
        return part(nodeid)


def pytest_xdist_make_scheduler(config, log):
    return Parts(config, log)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: part(item.nodeid) not in CLUSTERS)  # each of two processes begins with one of those


@pytest.fixture(scope="session")
def ray_address():
    """A Ray of one CPU to join: starting a second process of trials would take longer than trials of a few steps."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": True, "dashboard_host": "127.0.0.1"}
    head |= {"dashboard_port": None, "dashboard_agent_listen_port": None}  # another Ray may have the usual
    started = Cluster(initialize_head=True, head_node_args=head)
    yield started.address
    started.shutdown()


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """A finished `python tune/search.py --smoke-test`: the folder of its run."""
    storage = tmp_path_factory.mktemp("smoke")
    program = Path(__file__).parents[1] / "tune/search.py"
    done = subprocess.run(
        [sys.executable, str(program), "--smoke-test", "--storage", str(storage)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return storage / "fashion-mini-smoke"
