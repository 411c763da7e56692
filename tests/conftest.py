"""One thread for every test, since networks are tiny and test runs share machines; and one finished smoke run."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from skips import pytest_make_collect_report, pytest_runtest_makereport  # noqa: F401 (pytest finds them here)
from xdist.scheduler import LoadScopeScheduling

torch.set_num_threads(1)

CLUSTERS = {
    "clusters 1": (
        *("test_every_preset", "test_folder_commands", "test_chaos", "test_ray_up"),
        *("test_doctor", "test_cli", "test_remote_warmup"),
    ),
    "clusters 2": (
        *("test_search", "test_notebook", "test_viewers", "test_trackers", "test_run_page"),
        *("test_face", "test_cluster", "test_autoscaling"),
    ),
}
"""modules that start Ray, in parts of some minutes; those that share the finished smoke run are in one"""

SLOW = {
    *(module for modules in CLUSTERS.values() for module in modules),
    "test_bad_input",
    "test_benchmarks",
    "test_cluster_aws",
    "test_command",
    "test_equal_time",
    "test_export_program",
    "test_spot",
    "test_worker_pool",
    "test_disk",
    "test_documented_commands",
    "test_comparison",
    "test_compiled",
    "test_gan_cache",
    "test_invert",
    "test_synthetic_folder_recipe",
    "test_references",
    "test_malloc",
    "test_mechanisms",
    "test_tuned_run",
    "test_efficiency",
    "test_site",
    "test_skips",
}
"""modules that `make test-fast` leaves out, as it does tests of two processes: they start Ray or other processes,
compile, or train for more than a few steps"""


def module_of(nodeid):
    return Path(nodeid.split("::")[0]).stem


def part(nodeid):
    """Modules stay whole, for their fixtures; those that start Ray are in their part."""
    module = module_of(nodeid)
    return next((name for name, modules in CLUSTERS.items() if module in modules), module)


class Parts(LoadScopeScheduling):
    """Gives each of the processes a part after the other."""

    def _split_scope(self, nodeid):
        return part(nodeid)


def pytest_xdist_make_scheduler(config, log):
    return Parts(config, log)


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by mark
def pytest_collection_modifyitems(items):
    for item in items:
        if module_of(item.nodeid) in SLOW or "two_processes" in item.name:
            item.add_marker("slow")
    items.sort(key=lambda item: part(item.nodeid) not in CLUSTERS)  # each of the processes begins with one of those


@pytest.fixture(scope="session")
def ray_address():
    """A Ray of one CPU to join: starting a second process of trials would take longer than trials of a few steps."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
    head |= {"dashboard_agent_listen_port": None}  # another Ray may have the usual
    started = Cluster(initialize_head=True, head_node_args=head)
    yield started.address
    started.shutdown()


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """A finished `python tune/search.py --smoke-test`: the folder of its run, what it printed beside it."""
    storage = tmp_path_factory.mktemp("smoke")
    program = Path(__file__).parents[1] / "tune/search.py"
    done = subprocess.run(
        [sys.executable, str(program), "--smoke-test", "--storage", str(storage)], capture_output=True
    )
    (storage / "stdout.txt").write_bytes(done.stdout)
    (storage / "stderr.txt").write_bytes(done.stderr)
    assert done.returncode == 0, done.stderr
    return storage / "fashion-mini-smoke"
