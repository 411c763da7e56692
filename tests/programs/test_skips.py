"""A skip is a failure in CI, and a skip elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SKIPS = """
import pytest
{module}

@pytest.mark.skipif(True, reason="rsync not found")
def test_by_mark(): ...

def test_in_the_middle():
    pytest.skip("nothing can be mounted here")

@pytest.mark.skipif(True, reason="needs a GPU")
def test_gpu(): ...

@pytest.mark.xfail(reason="known")
def test_known():
    assert False

def test_passes(): ...
"""


@pytest.mark.parametrize(
    ("ci", "module", "processes", "counted"),
    [
        ("", "", 0, "1 passed, 3 skipped, 1 xfailed"),
        ("false", "", 0, "1 passed, 3 skipped, 1 xfailed"),
        ("true", "", 0, "1 failed, 1 passed, 1 skipped, 1 xfailed, 1 error"),
        ("true", "", 1, "1 failed, 1 passed, 1 skipped, 1 xfailed, 1 error"),
        ("true", "pytest.importorskip('no_such_module')", 0, "1 error"),
        ("", "pytest.importorskip('no_such_module')", 0, "1 skipped"),
    ],
)
def test_a_skip_fails_a_run_in_ci_unless_a_gpu_is_missing(
    ci: str, module: str, processes: int, counted: str, tmp_path: Path
) -> None:
    (tmp_path / "test_skips_of_its_own.py").write_text(SKIPS.format(module=module))
    environment = os.environ | {"CI": ci, "PYTHONPATH": str(Path(__file__).parents[1] / "support")}
    command = [sys.executable, "-m", "pytest", "-p", "skips", f"--numprocesses={processes}", "-c", "/dev/null"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert f" {counted} in " in done.stdout
    nothing_ran = 5
    assert done.returncode in ((1, 2) if ci == "true" else (0, nothing_ran))
    if ci == "true" and not module:
        assert "rsync not found; in CI only a missing GPU may skip a test" in done.stdout
