"""One thread for every test, since networks are tiny and test runs share machines; and one finished smoke run."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)

CLUSTERS = {
    "clusters 1": ("test_chaos", "test_ray_up"),
    "clusters 2": ("test_cluster", "test_search", "test_notebook", "test_doctor", "test_cli"),
}
"""modules that start Ray, in parts of some minutes"""


def part(item):
    """Modules stay whole, for their fixtures; those that start Ray are in their part."""
    module = item.module.__name__
    return next((name for name, modules in CLUSTERS.items() if module in modules), module)


def pytest_itemcollected(item):
    item.add_marker(pytest.mark.xdist_group(part(item)))


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: part(item) not in CLUSTERS)  # each of the two processes begins with one of the parts


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
