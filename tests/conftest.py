"""One thread for every test, since networks are tiny and test runs share machines; and one finished smoke run."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from xdist.scheduler import LoadScopeScheduling

torch.set_num_threads(1)

CLUSTERS = {
    "clusters 1": ("test_chaos", "test_ray_up", "test_autoscaling"),
    "clusters 2": ("test_cluster", "test_search", "test_notebook", "test_doctor", "test_cli"),
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
def smoke(tmp_path_factory):
    """A finished `python tune/search.py --smoke-test`: the folder of its run."""
    storage = tmp_path_factory.mktemp("smoke")
    program = Path(__file__).parents[1] / "tune/search.py"
    done = subprocess.run(
        [sys.executable, str(program), "--smoke-test", "--storage", str(storage)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return storage / "fashion-mini-smoke"
