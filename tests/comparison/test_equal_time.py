"""Real-only gets the wall time of the own arm, as the records tell it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from program import run
from tiny_run import TINY, arguments

from synthcl.comparison.arms import EQUAL_TIME, apply_arm
from synthcl.comparison.equal_time import equal_time_runs
from synthcl.comparison.plan import Run
from synthcl.comparison.records import Place, Record
from synthcl.config.presets import load_preset
from synthcl.config.schema import Config
from synthcl.core.report import Report


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load_preset("fashion-mini").with_overrides(TINY | {"compute.storage": str(tmp_path), "training.kimg": 10})


def planned(config: Config, seeds: int = 2) -> list[Run]:
    return [
        Run(arm, 100, seed, apply_arm(config, arm).with_overrides({"training.seed": seed}))
        for arm in ("real-only", "frozen-gan", "joint")
        for seed in range(seeds)
    ]


def finish(place: Place, run: Run, seconds: float) -> None:
    report = Report(seconds=seconds + 5, scoring_seconds=5)
    Record.of(run.config, report, run.arm, run.images).write(place.record(run))


def test_the_budget_is_real_onlys_times_the_ratio_of_the_times(config: Config) -> None:
    place, plan = Place(config), planned(config)
    assert equal_time_runs(plan, place) == []  # nothing is finished
    times = {("real-only", 0): 10.0, ("joint", 0): 30.0, ("real-only", 1): 14.0, ("frozen-gan", 0): 99.0}
    for each in plan:
        if (each.arm, each.seed) in times:
            finish(place, each, times[each.arm, each.seed])
    found = equal_time_runs(plan, place)
    assert [(run.arm, run.images, run.seed, run.config.training.kimg) for run in found] == [
        (EQUAL_TIME, 100, seed, 30.0)
        for seed in (0, 1)  # of seed 0, which both have finished
    ]
    assert all(run.config.is_real_only for run in found)
    finish(place, found[0], 30.0)
    finish(place, next(run for run in plan if (run.arm, run.seed) == ("joint", 1)), 90.0)
    later = equal_time_runs(planned(config, seeds=3), place)
    assert {run.config.training.kimg for run in later} == {30.0}  # as its record has it
    assert [run.seed for run in later] == [0, 1, 2]


def test_a_comparison_ends_with_real_only_in_equal_time_and_shows_the_times(tmp_path: Path) -> None:
    tiny = TINY | {"compute.storage": str(tmp_path), "data.source": "digits", "data.image_fraction": 1.0}
    given = ["--no-ray", "--equal-time", "--seeds", "2", "--images", "64", "--arms", "real-only,joint"]
    tiny |= {"training.batch_images": 16, "training.kimg": 0.256, "evaluation.label_fractions": [100]}
    tiny |= {"evaluation.max_label_images": 100, "evaluation.transfer": [], "health.feature_rank_min": 0}
    done = run("compare", *given, *arguments(tiny))
    assert done.returncode == 0, done.stderr
    records = [json.loads(file.read_text()) for file in (tmp_path / "fashion-mini" / "evidence").glob("*.json")]
    longer = [record for record in records if record["arm"] == EQUAL_TIME]
    assert len(longer) == 2
    assert len({record["config"]["training"]["kimg"] for record in longer}) == 1
    assert longer[0]["steps"] > next(record["steps"] for record in records if record["arm"] == "joint")
    assert "### Wall seconds and floating-point operations of training" in done.stdout
    assert "real-only-equal-time has the wall time of joint, and more steps" in done.stdout
