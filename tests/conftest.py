"""One thread for every test, since networks are tiny and test runs share machines; and one finished smoke run."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


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
