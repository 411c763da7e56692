"""A file is the old one or the new one, never a part."""

import os

import disks
import pytest

from synthcl.core.atomic import remove_leftovers, write_whole

disk = disks.disk


@pytest.mark.parametrize("content", ["text, ä", b"\x00\xff", memoryview(b"view")])
def test_what_was_written_is_read_and_nothing_else_is_there(tmp_path, content):
    write_whole(tmp_path / "file", "old")
    write_whole(tmp_path / "file", content)
    assert (tmp_path / "file").read_bytes() == (content.encode() if isinstance(content, str) else bytes(content))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_keeps_the_old_file_and_is_named_with_it(disk):
    write_whole(disk.folder / "file", "old")
    disk.leave(8192)
    with pytest.raises(OSError, match=r"No space left on device: '.*/disk/file'"):
        write_whole(disk.folder / "file", bytes(100_000))
    assert (disk.folder / "file").read_text() == "old"
    assert sorted(path.name for path in disk.folder.iterdir()) == ["file", "filler"]
    disk.make_room()
    write_whole(disk.folder / "file", bytes(100_000))
    assert (disk.folder / "file").stat().st_size == 100_000


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_an_interruption_keeps_the_old_file(tmp_path, monkeypatch, call):
    def interrupted(*given):
        raise KeyboardInterrupt

    write_whole(tmp_path / "file", "old")
    monkeypatch.setattr(os, call, interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_leftovers_of_a_killed_process_go_and_other_files_stay(tmp_path):
    for name in (".file.0123", ".file.4567", "file", ".other.0123", ".file"):
        (tmp_path / name).write_text(name)
    remove_leftovers(tmp_path / "file")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".file", ".other.0123", "file"]
