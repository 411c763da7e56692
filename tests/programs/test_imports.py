"""Rooms of the package import only rooms below them; pyproject.toml has the contract."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from program import ROOT


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """The contracts, for the package in a folder."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    environment = os.environ | {"PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_the_contracts_are_kept() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        ("core/rng.py", "import synthcl.search", "a room imports only rooms below it"),
        ("method/curriculum/mix.py", "import synthcl.config.schema", "a room imports only rooms below it"),
        ("method/views/simclr.py", "import synthcl.method.encoders.conv", "families of the method do not know each"),
        ("method/curriculum/ramps.py", "import synthcl.method.objectives.ppcl", "a schedule does not know what it"),
        ("runs/session.py", "import ray", "Ray stays in cluster, search and comparison.execute"),
        ("cluster/nodes.py", "import optuna", "Optuna and Ray Tune stay in search"),
    ],
)
def test_an_import_that_a_contract_forbids_is_found(tmp_path: Path, file: str, line: str, broken: str) -> None:
    shutil.copytree(ROOT / "synthcl", tmp_path / "synthcl", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "synthcl" / file).open("a") as source:
        source.write(f"\n{line}\n")
    done = lint(tmp_path)
    assert done.returncode == 1, done.stdout
    assert any(row.startswith(broken) and "BROKEN" in row for row in done.stdout.splitlines()), done.stdout
