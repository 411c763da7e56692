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


@pytest.hookimpl(tryfirst=True)  # before the groups are read
def pytest_collection_modifyitems(items):
    """Modules stay whole, for their fixtures; each of two processes begins with its part of those that start Ray."""
    part = {module: name for name, modules in CLUSTERS.items() for module in modules}
    items.sort(key=lambda item: part.get(item.module.__name__, "later"))
    for item in items:
        module = item.module.__name__
        item.add_marker(pytest.mark.xdist_group(part.get(module, module)))


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
