"""Mechanisms with and without the generator: the plan, and a whole tiny run from its first to its report."""

import numpy as np
import program
import pytest
from tiny_run import TINY_COMPARISON, arguments

from synthcl.comparison import mechanisms
from synthcl.comparison.mechanisms import MECHANISMS, arm_name, choose, stage_1, stage_2
from synthcl.comparison.records import Place, read_all
from synthcl.comparison.replaced import effect
from synthcl.config.presets import load_preset
from synthcl.core.errors import UserError

# ---- the plan


def test_the_best_mean_is_chosen_and_of_equal_ones_the_weakest():
    assert choose({1.0: [46.0, 44.0], 0.25: [45.0, 45.0], 0.5: [44.0, 44.0]}) == 0.25
    assert choose({0.005: [40.0], 0.1: [41.0]}) == 0.1


@pytest.fixture
def counted(monkeypatch):
    """The preset, of a data set that is not opened."""
    monkeypatch.setattr("synthcl.comparison.plan.unlabelled_count", lambda data: 45_000)
    monkeypatch.setattr("synthcl.comparison.plan._require_labels", lambda base: None)
    return load_preset(mechanisms.PRESET).with_overrides({"training.seed": mechanisms.FIRST_SEED})


def test_the_whole_plan_is_the_factorial_at_equal_steps_and_views(counted):
    first, second = stage_1(counted, MECHANISMS, 1000), stage_2(counted, dict.fromkeys(MECHANISMS, 0.5), 1000, 5)
    assert len(first) == 7 * 3 * 2
    assert len(second) == 2 * 8 * 2 * 5
    assert {run.seed for run in second} == {4000, 4001, 4002, 4003, 4004}
    assert not {run.seed for run in first} & {run.seed for run in second}
    assert all(run.config.is_real_only and run.config.curriculum.view_strength.start == 0.3 for run in first)
    assert len({(run.config.training.steps, run.config.training.batch_images) for run in [*first, *second]}) == 1
    cells = {(run.config.is_real_only, run.config.curriculum.view_strength.start, run.arm) for run in second}
    assert len(cells) == 32
    by_arm = {run.arm: run.config for run in second}
    assert by_arm["joint+vicreg@1"].terms["spread"].weight.start == 0.5
    assert by_arm["joint+resizemix-decoupled@0.3"].views["mix"].share.start == 0.5
    assert {*by_arm["real-only+resizemix-decoupled@0.3"].terms} == {"contrast", "apart"}
    assert {*by_arm["joint@0.3"].terms} == {"contrast"}
    # With and without a mechanism, real images and latents are as many: none is rounded away.
    mixes = [by_arm[arm].mix_at(0.5) for arm in by_arm if arm.startswith("joint")]
    assert mixes == [mixes[0]] * 16


def test_seeds_that_choose_never_judge(counted):
    with pytest.raises(UserError, match="--seeds 501"):
        stage_2(counted, {"mixup": 0.5}, 1000, 501)


# ---- the whole path


GIVEN = arguments(TINY_COMPARISON | {"training.seed": 7})


def compare(folder, *given, only="mixup"):
    words = ("--mechanisms", "--preset", "fashion-mini", "--no-ray", "--images", "60", "--seeds", "2", "--only", only)
    return program.run("compare", *words, "--storage", str(folder), *given, *GIVEN)


def test_one_command_chooses_trains_reads_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    for counted in ("training_flops", "warmup_flops"):  # of eleven configurations, which takes longer than training
        monkeypatch.setattr(f"synthcl.comparison.records.{counted}", lambda *config: None)
    before = compare(tmp_path, "--dry-run")
    assert before.returncode == 0, before.stderr
    assert "stage 1, how strong: 6 runs, 0 finished" in before.stdout
    assert "22 runs are left, 1 at a time: hours are known once" in before.stdout
    assert not list(tmp_path.iterdir())

    stopped = compare(tmp_path, "--minutes", "0.0000001")
    assert stopped.returncode == 0, stopped.stderr
    assert "0 of 22 runs are finished; the same command goes on" in stopped.stdout
    done = compare(tmp_path)
    assert done.returncode == 0, done.stderr

    base = load_preset("fashion-mini").with_overrides({"name": "mechanisms", "compute.storage": str(tmp_path)})
    place = Place(base)
    records = {(record.arm, record.seed): record for record in read_all(place.records, base)}
    assert len(records) == 22
    tried = {value: arm_name("real-only", "mixup", 0.3, value) for value in MECHANISMS["mixup"].tried}
    means = {
        value: [records[arm, seed].metrics["val/linear/digits@100-labels"] for seed in (507, 508)]
        for value, arm in tried.items()
    }
    chosen = choose(means)
    for family in ("real-only", "joint"):
        config = records[f"{family}+mixup@1", 7].config
        assert config["views"]["mix"]["share"] == {"kind": "constant", "start": chosen}
    report = (place.report / "mechanisms.md").read_text()
    assert f"| mixup | views.mix.share | 0.25: {np.mean(means[0.25]):.2f} |" in report
    scores = [
        [records[f"{family}{r}@1", seed].metrics["test/linear/digits@100-labels"] for seed in (7, 8)]
        for r in ("", "+mixup")
        for family in ("real-only", "joint")
    ]
    found = effect(*scores)
    assert f"| mixup | {found.on_real} | {found.on_joint} | {found.of_generator} | {found.interaction} |" in report
    assert f"| 2 | {found.word} |" in report
    assert "equal steps and views: 2 optimiser steps of 64 views" in report

    again = compare(tmp_path, "--dry-run")
    assert "stage 2, the factorial: 16 runs, 16 finished" in again.stdout
    more = compare(tmp_path, "--dry-run", only="mixup,vicreg")  # at the speed of what has finished
    assert "14 runs are left, 1 at a time: 0.0 hours at the speed of finished runs" in more.stdout
    told_again = compare(tmp_path, "--report")
    assert told_again.stdout.strip() in done.stdout
