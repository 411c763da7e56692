"""A run's last checkpoint: whole at any time, in a folder and under a URI."""

import os
import time
from dataclasses import replace

import buckets
import disks
import pytest
from buckets import answering, gone
from small_trainer import CPU, random_images, tiny_config, untrained_gan

from synthcl.core.errors import UserError
from synthcl.core.report import Report
from synthcl.runs import checkpoint, location
from synthcl.runs.checkpoint_store import adopt, fetched, forget, keep, load, resume, samples
from synthcl.runs.location import below
from synthcl.training.trainer import Trainer

s3, bucket, disk = buckets.s3, buckets.bucket, disks.disk
REPORT = Report(
    images=32, progress=0.25, seconds=3.5, scoring_seconds=1.5, history=[{"a": 1.0}], scores={"score": 51.5}
)


def make(overrides=None):
    config = tiny_config(overrides)
    return Trainer(config, random_images(), untrained_gan(config), CPU)


@pytest.fixture(params=["folder", "URI"])
def place(request, tmp_path):
    run = tmp_path / "search-1" / "trial-000"
    run.parent.mkdir()
    return str(run) if request.param == "folder" else run.as_uri()


def test_what_was_kept_is_resumed_with_its_report(place):
    trainer, resumed, elsewhere = make(), make(), make()
    assert resume(resumed, place) is None
    trainer.advance(2)
    keep(trainer, place, replace(REPORT, scores={"score": 40.0}))
    trainer.advance(4)
    keep(trainer, place, REPORT)
    assert resume(resumed, place) == REPORT
    assert (resumed.step, resumed.spent_seconds, resumed.scoring_seconds) == (4, 3.5, 1.5)
    with fetched(place) as folder:
        load(elsewhere, folder)
    assert resumed.advance(8) == elsewhere.advance(8) == trainer.advance(8)


def table(*points):
    return {"curriculum.hardness": {"kind": "table", "points": points}}


def test_a_copy_begins_with_anothers_checkpoint_and_changes_what_follows(place):
    donor = make({"curriculum.hardness.start": 0.4})
    copy = make(table((0.0, 0.4), (0.5, 0.1)))
    assert adopt(copy, place) is None  # trained from its beginning
    donor.advance(4)
    keep(donor, place, REPORT)
    assert adopt(copy, place) == replace(REPORT, history=[])
    assert (copy.step, copy.spent_seconds) == (4, 3.5)
    assert [point["knob/hardness"] for point in copy.advance(6)] == [0.1, 0.1]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"training.learning_rate": 0.2}, "training.learning_rate=0.1, its copy has 0.2; .* schedules from step 4 on"),
        ({"training.seed": 1}, "training.seed"),
        (table((0.0, 0.4), (0.375, 0.1)), "curriculum.hardness"),  # a step too early
        ({"curriculum.hardness.start": 0.5}, "curriculum.hardness.start=0.4, its copy has 0.5"),
    ],
)
def test_a_copy_that_was_another_run_before_is_refused(place, changed, named):
    donor = make({"curriculum.hardness.start": 0.4})
    donor.advance(4)
    keep(donor, place, REPORT)
    with pytest.raises(UserError, match=named):
        adopt(make({"curriculum.hardness.start": 0.4} | changed), place)


def test_a_copy_of_a_closed_loop_keeps_it(place):
    loop = {"kind": "follow", "measured": "encoder/variance", "target": 0.5, "start": 0.4, "low": 0.1, "high": 1.0}
    donor = make({"curriculum.hardness": loop})
    donor.advance(4)
    keep(donor, place, REPORT)
    assert adopt(make({"curriculum.hardness": loop}), place)
    with pytest.raises(UserError, match=r"curriculum\.hardness\.gain"):
        adopt(make({"curriculum.hardness": loop | {"gain": 5.0}}), place)


def test_real_images_alone_have_no_generator_that_a_copy_could_go_on_with(place):
    fraction = "curriculum.synthetic_fraction"
    donor = make({f"{fraction}.start": 0.0})
    donor.advance(4)
    keep(donor, place, REPORT)
    with pytest.raises(UserError, match=fraction):
        adopt(make({fraction: {"kind": "table", "points": [(0.0, 0.0), (0.5, 0.5)]}}), place)


def test_samples_lie_beside_it_where_there_is_a_generator(place):
    keep(make(), place, REPORT)
    assert samples(place).startswith(b"\x89PNG")
    real_only = below(place, "real-only")
    keep(make({"curriculum.synthetic_fraction.start": 0.0}), real_only, REPORT)
    assert samples(real_only) is None


def test_a_kill_in_the_middle_of_a_write_leaves_the_last_one(tmp_path, monkeypatch):
    trainer = make()
    keep(trainer, str(tmp_path), REPORT)
    before = (tmp_path / checkpoint.FILE).read_bytes()
    trainer.advance(1)

    def killed(source, target):
        raise SystemExit

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(SystemExit):
        keep(trainer, str(tmp_path), REPORT)
    assert (tmp_path / checkpoint.FILE).read_bytes() == before
    assert resume(make(), str(tmp_path)) == REPORT


def test_a_place_below_a_uri_keeps_the_uris_query():
    assert below("/runs/a", "search-1", "b") == "/runs/a/search-1/b"
    assert below("s3://bucket/a/?endpoint_override=host:9", "b") == "s3://bucket/a/b?endpoint_override=host:9"


def test_what_was_forgotten_begins_anew(place):
    trainer = make()
    trainer.advance(2)
    keep(trainer, place, REPORT)
    forget(place)
    assert resume(make(), place) is None
    assert samples(place) is None
    forget(place)  # nothing left


def test_a_disk_that_is_away_is_waited_for_and_not_written_beneath(tmp_path, monkeypatch):
    (tmp_path / "mounted").mkdir()
    place = str(tmp_path / "mounted" / "trial")
    trainer = make()
    trainer.advance(2)
    keep(trainer, place, REPORT)
    (tmp_path / "mounted").rename(tmp_path / "away")
    naps = []

    def nap(seconds):
        naps.append(seconds)
        if len(naps) == 3:
            (tmp_path / "away").rename(tmp_path / "mounted")

    monkeypatch.setattr(time, "sleep", nap)
    assert resume(make(), place) == REPORT
    assert naps == [1, 2, 4]

    (tmp_path / "mounted").rename(tmp_path / "away")
    naps.clear()
    keep(trainer, place, replace(REPORT, scores={"score": 60.0}))
    assert resume(make(), place).score == 60.0


def test_a_disk_that_stays_away_fails_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(location, "PATIENCE_SECONDS", 0.5)
    for use in (lambda place: keep(make(), place, REPORT), lambda place: resume(make(), place)):
        with pytest.raises(FileNotFoundError, match="the storage is away"):
            use(str(tmp_path / "away" / "trial"))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_not_waited_for_and_keeps_the_last_one(disk, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("waited for a full disk"))
    place = str(disk.folder / "trial")
    trainer = make()
    keep(trainer, place, REPORT)
    trainer.advance(1)
    disk.leave(4096)
    with pytest.raises(OSError, match=r"No space left on device: '.*/trial/"):
        keep(trainer, place, replace(REPORT, scores={"score": 60.0}))
    resumed = make()
    assert resume(resumed, place) == REPORT
    assert resumed.step == 0


def test_a_bucket_that_is_away_is_waited_for(bucket, s3, monkeypatch):
    place, naps = below(bucket.uri, "run", "trial"), []
    trainer = make()
    away = answering(s3, gone)
    away.__enter__()

    def nap(seconds):
        naps.append(seconds)
        if len(naps) == 2:
            away.__exit__(None, None, None)

    monkeypatch.setattr(time, "sleep", nap)
    keep(trainer, place, REPORT)
    assert naps == [1, 2]
    assert bucket.names() == ["run/trial/checkpoint.pt", "run/trial/samples.png"]
    assert resume(make(), place) == REPORT
