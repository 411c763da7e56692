"""Storage gives back what was put there, from a folder and through a URI."""

import pytest

from synthcl.errors import UserError
from synthcl.storage import Storage


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """A URI, and a way to look at it from several machines, each with a mirror of its own."""

    def machine(name: str) -> Storage:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        return Storage((tmp_path / "bucket").as_uri(), "run")

    return machine


def write(path, text="text"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder_is_its_own_mirror(tmp_path):
    storage = Storage(str(tmp_path / "runs"), "run")
    storage.probe()
    assert names(tmp_path) == []
    assert storage.folder == tmp_path / "runs" / "run"
    assert storage.ray_path == str(storage.folder)
    write(storage.folder / "study.json")
    write(storage.shared / "gan" / "key.safetensors")
    storage.push()
    storage.pull()
    assert names(tmp_path / "runs") == ["gan/key.safetensors", "run/study.json"]
    storage.clear()
    assert names(tmp_path / "runs") == ["gan/key.safetensors"]
    storage.clear()  # nothing left to forget


def test_a_relative_folder_and_a_home_folder_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Storage("runs", "run").folder == tmp_path / "runs" / "run"
    assert Storage("~/runs", "run").folder == tmp_path / "home" / "runs" / "run"


def test_what_one_machine_pushes_another_pulls(tmp_path, remote):
    first = remote("first")
    first.probe()
    write(first.folder / "study.json", "one")
    write(first.folder / "report" / "plot.svg")
    write(first.folder / ".half-written")
    write(first.shared / "gan" / "key.safetensors")
    first.push()
    assert names(tmp_path / "bucket") == ["gan/key.safetensors", "run/report/plot.svg", "run/study.json"]

    second = remote("second")
    assert second.folder != first.folder
    second.pull()
    assert names(second.shared) == names(tmp_path / "bucket")
    assert (second.folder / "study.json").read_text() == "one"


def test_push_sends_changes_and_nothing_else(tmp_path, remote):
    storage = remote("first")
    write(storage.folder / "changed", "one")
    write(storage.folder / "same", "one")
    storage.push()
    (tmp_path / "bucket" / "run" / "same").write_text("marked")
    write(storage.folder / "changed", "two!")
    storage.push()
    assert (tmp_path / "bucket" / "run" / "changed").read_text() == "two!"
    assert (tmp_path / "bucket" / "run" / "same").read_text() == "marked"

    other = remote("second")
    other.pull()
    (tmp_path / "bucket" / "run" / "same").write_text("again")
    other.push()  # what has just been pulled is not sent back
    assert (tmp_path / "bucket" / "run" / "same").read_text() == "again"


def test_pull_leaves_rays_own_files_where_ray_reads_them(tmp_path, remote):
    write(tmp_path / "bucket" / "run" / "search-1" / "trial" / "checkpoint.pt")
    write(tmp_path / "bucket" / "run" / "confirm-1" / "checkpoint.pt")
    write(tmp_path / "bucket" / "run" / "search.json")
    storage = remote("first")
    storage.pull()
    assert names(storage.shared) == ["run/search.json"]


def test_pull_from_an_empty_place_brings_nothing(remote):
    storage = remote("first")
    storage.pull()
    assert not storage.folder.exists()


def test_clear_forgets_the_run_here_and_there_but_keeps_gans_and_other_runs(tmp_path, remote):
    storage = remote("first")
    write(storage.folder / "study.json")
    write(storage.shared / "gan" / "key.safetensors")
    write(tmp_path / "bucket" / "other" / "study.json")
    storage.push()
    storage.clear()
    assert names(tmp_path / "bucket") == ["gan/key.safetensors", "other/study.json"]
    assert names(storage.shared) == ["gan/key.safetensors"]
    storage.clear()
    write(storage.folder / "study.json")
    storage.push()
    assert "run/study.json" in names(tmp_path / "bucket")


@pytest.mark.parametrize("as_uri", [False, True])
def test_clear_of_a_part_spares_parts_whose_name_begins_alike(tmp_path, remote, as_uri):
    storage = remote("first") if as_uri else Storage(str(tmp_path / "bucket"), "run")
    parts = ("train-frozen", "train-frozen-weak")
    for part in parts:
        write(storage.folder / f"{part}.json")
        write(storage.folder / f"{part}.safetensors")
    storage.push()
    for part in parts:
        write(tmp_path / "bucket" / "run" / part / "checkpoint" / "checkpoint.pt")  # Ray's own
    storage.clear("train-frozen")
    left = ["train-frozen-weak.json", "train-frozen-weak.safetensors"]
    assert names(tmp_path / "bucket" / "run") == sorted([*left, "train-frozen-weak/checkpoint/checkpoint.pt"])
    assert [path.name for path in sorted(storage.folder.iterdir()) if path.is_file()] == left


def test_probe_leaves_nothing_behind_at_a_uri(tmp_path, remote):
    storage = remote("first")
    storage.probe()
    assert (tmp_path / "bucket").is_dir()
    assert names(tmp_path) == []
    assert storage.ray_path == (tmp_path / "bucket").as_uri() + "/run"


@pytest.mark.parametrize("as_uri", [False, True])
def test_a_place_that_cannot_be_written_is_named(tmp_path, monkeypatch, as_uri):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write(tmp_path / "file")
    root = tmp_path / "file" / "below"
    storage = Storage(root.as_uri() if as_uri else str(root), "run")
    with pytest.raises(UserError, match=r"compute\.storage '.*file/below' cannot be written") as error:
        storage.probe()
    assert "\n" not in str(error.value)


def test_a_foreign_uri_is_refused():
    with pytest.raises(UserError, match=r"compute\.storage 'gopher://host/runs' is no usable URI"):
        Storage("gopher://host/runs", "run")
