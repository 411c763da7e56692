"""Small disks of a test's own: full ones, read-only ones. They need root, and a kernel that lets it mount."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


class Disk:
    """A tmpfs at `folder`."""

    def __init__(self, folder: Path, mebibytes: int) -> None:
        self.folder = folder
        folder.mkdir()
        self._mount("-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder))

    @staticmethod
    def _mount(*given: str) -> None:
        done = subprocess.run(["mount", *given], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")

    def make_read_only(self) -> None:
        self._mount("-o", "remount,ro", str(self.folder))

    def leave(self, free_bytes: int) -> None:
        """Fill the disk up to so many bytes."""
        free = os.statvfs(self.folder).f_bavail * os.statvfs(self.folder).f_bsize
        (self.folder / "filler").write_bytes(bytes(free - free_bytes))

    def make_room(self) -> None:
        (self.folder / "filler").unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of 16 MiB."""
    if os.geteuid():
        pytest.skip("only root may mount a disk")
    made = Disk(tmp_path / "disk", 16)
    yield made
    subprocess.run(["umount", "--lazy", str(made.folder)], check=True)
