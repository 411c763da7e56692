"""Storage gives back what was put there, from a folder and from S3, and says in one line when it cannot."""

import os

import buckets
import disks
import pytest
from buckets import answering

from synthcl.core.errors import UserError
from synthcl.runs.storage import Storage

s3, bucket, disk = buckets.s3, buckets.bucket, disks.disk


@pytest.fixture
def machine(tmp_path, monkeypatch, bucket):
    """The run's storage in the bucket, as seen by a machine with a mirror of its own."""

    def seen_from(name: str) -> Storage:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        return Storage(bucket.uri, "run")

    return seen_from


def write(path, text="text"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def refusal(call) -> str:
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- a folder


def test_a_folder_is_its_own_mirror(tmp_path):
    storage = Storage(str(tmp_path / "runs"), "run")
    assert storage.folder == tmp_path / "runs" / "run"
    assert storage.ray_uri() == str(storage.folder)
    assert storage.ray_uri("search-1", "trial") == str(storage.folder / "search-1" / "trial")
    write(storage.folder / "study.json")
    write(storage.shared / "gan" / "key.safetensors")
    storage.push()
    storage.pull()
    assert names(tmp_path / "runs") == ["gan/key.safetensors", "run/study.json"]
    storage.clear()
    assert names(tmp_path / "runs") == ["gan/key.safetensors"]
    storage.clear()  # nothing left to forget


def test_a_relative_folder_a_home_folder_and_a_file_uri_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Storage("runs", "run").folder == tmp_path / "runs" / "run"
    assert Storage("~/runs", "run").folder == tmp_path / "home" / "runs" / "run"
    assert Storage((tmp_path / "runs").as_uri(), "run").folder == tmp_path / "runs" / "run"


def test_a_probe_leaves_nothing_behind_not_even_folders(tmp_path):
    Storage(str(tmp_path / "a" / "b"), "run").probe()
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / "a" / "kept")
    Storage(str(tmp_path / "a" / "b"), "run").probe()
    assert names(tmp_path) == ["a/kept"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["kept"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    write(tmp_path / "file")
    assert "file/below' cannot be written" in refusal(Storage(str(tmp_path / "file" / "below"), "run").probe)
    assert "not a folder" in refusal(Storage(str(tmp_path), "file").probe)


def test_another_machine_that_sees_another_folder_is_told_so(tmp_path):
    with Storage(str(tmp_path / "here"), "run").beacon() as token:
        (tmp_path / "there").mkdir()  # the same name on a machine that does not share it
        line = refusal(lambda: Storage(str(tmp_path / "there"), "run").answer(token))
        assert "cannot be read and written" in line
        assert "a folder that all nodes share, or a URI" in line
        assert "absent' cannot be read and written" in refusal(
            lambda: Storage(str(tmp_path / "absent"), "run").answer(token)
        )
        Storage(str(tmp_path / "here"), "run").answer(token)
    assert names(tmp_path) == []


# ---- disks


def test_a_read_only_disk_is_refused(disk):
    disk.make_read_only()
    assert "Read-only file system" in refusal(Storage(str(disk.folder / "runs"), "run").probe)


def test_a_full_disk_is_refused(disk):
    disk.leave(0)
    assert "No space left" in refusal(Storage(str(disk.folder), "run").probe)
    assert names(disk.folder) == ["filler"]


def test_a_disk_that_fills_up_in_the_middle_is_one_line(disk):
    storage = Storage(str(disk.folder), "run")
    write(storage.folder / "state.json", "[]")
    disk.leave(0)

    def fill():
        with storage.failures_named():
            (storage.folder / "more").write_bytes(bytes(10_000))

    line = refusal(fill)
    assert "No space left on device" in line
    assert "the same command goes on" in line
    disk.make_room()
    assert (storage.folder / "state.json").read_text() == "[]"


def test_a_folder_that_vanishes_is_one_line_and_other_errors_stay_what_they_are(tmp_path):
    storage = Storage(str(tmp_path / "runs"), "run")

    def look(path):
        with storage.failures_named():
            path.read_text()

    assert f"'{tmp_path}/runs' cannot be used any more" in refusal(lambda: look(storage.folder / "state.json"))
    with pytest.raises(FileNotFoundError):
        look(tmp_path / "elsewhere")


# ---- a bucket


def test_parts_of_a_uri_keep_its_query(machine, bucket):
    storage = machine("first")
    path, _, query = bucket.uri.partition("?")
    assert storage.ray_uri() == f"{path}/run?{query}"
    assert storage.ray_uri("search-1", "trial") == f"{path}/run/search-1/trial?{query}"


def test_an_endpoint_may_come_from_the_environment(bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{bucket.port}")
    storage = Storage(f"s3://{bucket.name}/synthcl", "run")
    storage.probe()
    write(storage.folder / "study.json")
    storage.push()
    assert bucket.names() == ["run/study.json"]


def test_a_probe_leaves_nothing_behind_in_a_bucket(machine, bucket, tmp_path):
    machine("first").probe()
    assert bucket.names() == names(tmp_path) == []


def test_what_one_machine_pushes_another_pulls(machine, bucket):
    first = machine("first")
    write(first.folder / "study.json", "one")
    write(first.folder / "report" / "plot.svg")
    write(first.folder / ".half-written")
    write(first.shared / "gan" / "key.safetensors")
    first.push()
    assert bucket.names() == ["gan/key.safetensors", "run/report/plot.svg", "run/study.json"]

    second = machine("second")
    assert second.folder != first.folder
    second.pull()
    assert names(second.shared) == bucket.names()
    assert (second.folder / "study.json").read_text() == "one"


def test_push_sends_changes_and_nothing_else(machine, bucket):
    storage = machine("first")
    write(storage.folder / "changed", "one")
    write(storage.folder / "same", "one")
    storage.push()
    bucket.write("run/same", "marked")
    write(storage.folder / "changed", "two!")
    storage.push()
    assert (bucket.read("run/changed"), bucket.read("run/same")) == ("two!", "marked")

    other = machine("second")
    other.pull()
    bucket.write("run/same", "again")
    other.push()  # what has just been pulled is not sent back
    assert bucket.read("run/same") == "again"


def test_pull_takes_the_newer_of_two(machine, bucket):
    storage = machine("first")
    write(storage.folder / "study.journal", "sent")
    storage.push()
    write(storage.folder / "study.journal", "sent, and more that an interruption kept from being sent")
    os.utime(storage.folder / "study.journal", ns=(2**62, 2**62))
    again = machine("first")
    again.pull()
    assert (again.folder / "study.journal").read_text().endswith("being sent")
    again.push()
    assert bucket.read("run/study.journal").endswith("being sent")

    os.utime(storage.folder / "study.journal", ns=(0, 0))
    bucket.write("run/study.journal", "continued by another machine")
    machine("first").pull()
    assert (storage.folder / "study.journal").read_text() == "continued by another machine"


def test_pull_leaves_checkpoints_where_they_are_read(machine, bucket):
    bucket.write("run/search-1/trial/checkpoint.pt")
    bucket.write("run/confirm-1/checkpoint.pt")
    bucket.write("run/search.json")
    storage = machine("first")
    storage.pull()
    assert names(storage.shared) == ["run/search.json"]


def test_pull_from_an_empty_bucket_brings_nothing(machine):
    storage = machine("first")
    storage.pull()
    assert not storage.folder.exists()


def test_clear_forgets_the_run_here_and_there_but_keeps_gans_and_other_runs(machine, bucket):
    storage = machine("first")
    write(storage.folder / "study.json")
    write(storage.shared / "gan" / "key.safetensors")
    bucket.write("other/study.json")
    storage.push()
    storage.clear()
    assert bucket.names() == ["gan/key.safetensors", "other/study.json"]
    assert names(storage.shared) == ["gan/key.safetensors"]
    storage.clear()
    write(storage.folder / "study.json")
    storage.push()
    assert "run/study.json" in bucket.names()


@pytest.mark.parametrize("as_uri", [False, True])
def test_clear_of_a_part_spares_parts_whose_name_begins_alike(tmp_path, machine, bucket, as_uri):
    storage = machine("first") if as_uri else Storage(str(tmp_path / "runs"), "run")
    parts = ("train-frozen", "train-frozen-weak")
    for part in parts:
        write(storage.folder / f"{part}.json")
        write(storage.folder / f"{part}.safetensors")
    storage.push()
    for part in parts:
        checkpoint = f"{part}/checkpoint/checkpoint.pt"
        bucket.write(f"run/{checkpoint}") if as_uri else write(storage.folder / checkpoint)
    storage.clear("train-frozen")
    left = ["train-frozen-weak.json", "train-frozen-weak.safetensors"]
    there = [name.removeprefix("run/") for name in bucket.names()] if as_uri else names(storage.folder)
    assert there == sorted([*left, "train-frozen-weak/checkpoint/checkpoint.pt"])
    assert [path.name for path in sorted(storage.folder.iterdir()) if path.is_file()] == left


def test_a_bucket_that_goes_away_loses_nothing_and_gets_all_when_it_is_back(machine, bucket, s3):
    storage = machine("first")
    write(storage.folder / "study.json", "one")
    storage.push()
    write(storage.folder / "study.json", "two")
    write(storage.folder / "report.md")
    with answering(s3, buckets.gone):
        assert "cannot be written" in refusal(storage.probe)
        line = refusal(storage.push)
        assert str(storage.folder) in line
        assert "sent by the same command" in line
        assert "cannot be read" in refusal(machine("second").pull)
    assert bucket.read("run/study.json") == "one"
    storage.push()
    assert bucket.read("run/study.json") == "two"
    assert bucket.names() == ["run/report.md", "run/study.json"]


def test_a_slow_bucket_gives_the_same(machine, bucket, s3):
    storage = machine("first")
    write(storage.folder / "study.json", "one")
    with answering(s3, buckets.slow):
        storage.probe()
        storage.push()
        second = machine("second")
        second.pull()
    assert (second.folder / "study.json").read_text() == "one"


def test_a_bucket_that_is_not_there_is_named(bucket):
    uri = bucket.uri.replace(bucket.name, "no-such-bucket")
    assert "compute.storage 's3://no-such-bucket/synthcl" in refusal(Storage(uri, "run").probe)


def test_a_foreign_uri_is_refused():
    line = refusal(lambda: Storage("gopher://host/runs", "run"))
    assert line.startswith("compute.storage 'gopher://host/runs' is no usable URI")
