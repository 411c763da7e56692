"""Records: what is written is read again, whichever command and version wrote it."""

import json

import pytest
from run_folder import CONFIRMED, RUNGS, SEEDS, make_run, run_config

from synthcl.comparison.arms import apply_arm
from synthcl.comparison.plan import read_arms
from synthcl.comparison.records import Record, read_all
from synthcl.comparison.table import summarise
from synthcl.core.errors import UserError
from synthcl.core.report import Report

REPORT = Report(
    seconds=12.5,
    scoring_seconds=2.5,
    history=[{"images": 64, "loss/contrast": 5.0}, {"images": 128, "loss/contrast": 4.5}],
    scores={"score": 80.0, "val/knn/fashion-mini": 70.0},
    rollbacks=1,
    device="a device",
)


def test_a_record_is_read_as_it_was_written(tmp_path):
    config = run_config(tmp_path)
    confirmed = {
        "overrides": {"training.seed": 7},
        "checkpoint": "confirm-1/a-seed7",
        "compared": {"of": "a", "as": "b"},
    }
    for more in ({}, confirmed):
        record = Record.of(config, REPORT, "joint", 100, **more)
        record.write(tmp_path / "records" / "a.json")
        assert read_all(tmp_path / "records", config) == [record]
    assert (record.steps, record.views_per_step, record.images_seen) == (64, 256, RUNGS[-1])
    assert record.seconds == {"train": 10.0, "evaluate": 2.5}
    assert (record.statistics, record.rollbacks, record.device) == ({"loss/contrast": 4.5}, 1, "a device")


def test_a_run_that_failed_has_no_scores(tmp_path):
    failed = Report(seconds=1.0, failure="loss/contrast became nan", scores={"score": 0.0})
    record = Record.of(run_config(tmp_path), failed, "joint", 100)
    assert (record.diverged, record.metrics) == ("loss/contrast became nan", {})


def test_the_record_of_a_comparison_is_no_file_of_overrides(tmp_path):
    """The one of a confirm run is: its winner may be an arm."""
    file = tmp_path / "a.json"
    Record.of(run_config(tmp_path), REPORT, "joint", 100).write(file)
    assert "overrides" not in json.loads(file.read_text())
    Record.of(run_config(tmp_path), REPORT, "a", 100, overrides={"terms.x": 1}, checkpoint="confirm-1/a").write(file)
    assert read_arms(f"tuned={file}") == {"tuned": {"terms.x": 1}}


def test_a_confirm_record_of_an_earlier_version_has_todays_fields(tmp_path):
    config = run_config(tmp_path)
    found = read_all(make_run(tmp_path) / "confirm", config)  # as that version wrote them
    assert {(record.arm, record.seed) for record in found} == {(name, seed) for name in CONFIRMED for seed in SEEDS}
    record = next(record for record in found if record.arm == "real-only")
    own = apply_arm(config, "real-only").with_overrides({"training.seed": record.seed})
    assert record.config == own.model_dump(mode="json")
    assert (record.images_seen, sum(record.seconds.values())) == (RUNGS[-1], 20.0)


def test_the_time_in_which_a_confirm_run_was_scored_is_kept_where_it_was_told(tmp_path):
    file = make_run(tmp_path) / "confirm" / f"joint-seed{SEEDS[0]}.json"
    told = {"train_seconds": 15.0, "of": "trial-002", "as": "real-only"}
    file.write_text(json.dumps(json.loads(file.read_text()) | told))
    record = Record.read(file, run_config(tmp_path))
    assert record.seconds == {"train": 15.0, "evaluate": 5.0}
    assert record.compared == {"of": "trial-002", "as": "real-only"}


@pytest.mark.parametrize("text", ["", "[]", '{"arm": "joint"}', '{"name": "joint"}'])
def test_a_record_that_is_none_is_named(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=r"record .*a\.json' is unreadable; delete it and its run will be made anew"):
        read_all(tmp_path, run_config(tmp_path))


def test_the_records_of_a_search_are_summarised_against_its_best_real_only(tmp_path):
    config = run_config(tmp_path)
    evidence = summarise(read_all(make_run(tmp_path) / "confirm", config), "frozen-gan", "trial-002")
    rows = {row.arm: row for row in evidence.rows["test"]}
    assert rows["frozen-gan"].difference == {}
    assert rows["real-only"].difference["linear@100"].value == pytest.approx((0.5 + 1 + 0.5) / 3)
    over = evidence.own_gains["test"]
    assert {arm for _, (arm, _) in over} == CONFIRMED.keys() - {"trial-002", "frozen-gan"}
    assert over[0, ("joint", 0)]["linear@100"].value == pytest.approx((0.5 + 0 + 0.5) / 3)
    assert evidence.oracle is None
    assert evidence.headroom == {"val": {}, "test": {}}
