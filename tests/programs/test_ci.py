"""`.ci/run` installs what is missing and nothing else, says clearly what it cannot, and runs the tests as CI."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from program import ROOT

NEEDED = [
    *("chromedriver", "chromium", "g++", "ip", "mount", "umount", "nsenter", "pgrep", "rsync", "ssh", "ssh-keygen"),
    *("sshd", "unshare"),
]


class Machine:
    """One that has a shell and the given commands; apt-get and make only write down how they are called."""

    def __init__(self, folder: Path, commands: list[str], root: bool = True, apt: int = 0, venv: int = 0) -> None:
        self._bin, self._calls = folder / "bin", folder / "calls"
        self._bin.mkdir()
        self._calls.touch()
        for name in ("bash", "cat", "dirname", "env", "mktemp", "rm"):
            (self._bin / name).symlink_to(shutil.which(name) or name)
        self._add("id", f"echo {0 if root else 1000}")
        self._add("make", f'echo "make $* CI=$CI" >> {self._calls}')
        self._add("apt-get", f'echo "apt-get $*" >> {self._calls}; echo "E: no network" >&2; exit {apt}')
        self._add("python3", f"exit {venv}")
        for name in commands:
            self._add(name, "exit 1")

    def _add(self, name: str, line: str) -> None:
        (self._bin / name).write_text(f"#!/bin/bash\n{line}\n")
        (self._bin / name).chmod(0o755)

    def run(self, **environment: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        done = subprocess.run(
            [str(ROOT / ".ci/run")], env={"PATH": str(self._bin)} | environment, capture_output=True, text=True
        )
        return done, self._calls.read_text().splitlines()


def test_nothing_is_installed_where_nothing_is_missing(tmp_path: Path) -> None:
    done, calls = Machine(tmp_path, NEEDED, root=False).run()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert calls == ["make test CI=true"]


def test_a_run_that_may_skip_can_be_asked_for(tmp_path: Path) -> None:
    assert Machine(tmp_path, NEEDED).run(CI="false")[1] == ["make test CI=false"]


def test_what_is_missing_is_installed_without_a_question_or_a_word(tmp_path: Path) -> None:
    had = [name for name in NEEDED if name not in ("rsync", "sshd", "ssh-keygen")]
    done, calls = Machine(tmp_path, had, venv=1).run()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    update, install, tests = calls
    assert update.endswith("update")
    assert "--yes --no-install-recommends openssh-client openssh-server rsync python3-venv" in install
    assert tests == "make test CI=true"


@pytest.mark.parametrize(
    ("machine", "line"),
    [
        ({"root": False}, "error: the tests need the Debian packages rsync; install them, or run .ci/run as root"),
        ({"apt": 100}, "E: no network\nerror: apt-get could not install rsync; its output is above"),
    ],
)
def test_what_cannot_be_installed_is_named_and_no_test_runs(machine: dict[str, int], line: str, tmp_path: Path) -> None:
    done, calls = Machine(tmp_path, [name for name in NEEDED if name != "rsync"], **machine).run()
    assert done.returncode == 2
    assert line in done.stderr
    assert not any("make" in call for call in calls)
