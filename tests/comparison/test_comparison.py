"""Evidence: exact images, equal budgets, runs that go on where they stopped, and a table from the records alone."""

import json
import shutil
import subprocess
import sys
import time
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from image_files import write_image
from tiny_run import TINY, arguments

from synthcl.comparison import execute
from synthcl.comparison.arms import default_arms
from synthcl.comparison.plan import describe_folders, plan, read_arms, read_counts, unlabelled_count
from synthcl.comparison.records import Place, Record, is_finished, read_all
from synthcl.comparison.report import write
from synthcl.comparison.run import perform
from synthcl.comparison.table import summarise
from synthcl.config.presets import load_preset
from synthcl.core import progress
from synthcl.core.atomic import write_whole
from synthcl.core.errors import UserError
from synthcl.data import open_split
from synthcl.runs import checkpoint_store
from synthcl.training.flops import shown

ROOT = Path(__file__).parents[2]
DIGITS = TINY | {
    "name": "tiny",
    "data.source": "digits",
    "data.image_fraction": 0.05,
    "training.kimg": 0.256,  # 8 steps
    "training.log_kimg": 0.032,
    "evaluation.rungs": [0.5, 1.0],
    "evaluation.label_fractions": [100],
    "evaluation.max_label_images": 100,
    "evaluation.transfer": [],
}


def config(folder, **overrides):
    return load_preset("fashion-mini").with_overrides(DIGITS | {"compute.storage": str(folder)} | overrides)


def runs_of(base, arms="real-only,joint", images="40,80", seeds=1):
    return plan(base, read_arms(arms), read_counts(images, base, headroom=False), seeds)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished comparison: its configuration, and its runs."""
    base = config(tmp_path_factory.mktemp("evidence"))
    chosen = runs_of(base)
    assert execute.execute(chosen, Place(base), execute.in_this_process)
    return base, chosen


# What is compared


def test_image_counts_are_exact_and_nested(tmp_path):
    base = config(tmp_path)
    total = unlabelled_count(base.data)
    counts = [37, 100, 613, total]
    seen = []
    for run in plan(base, read_arms("real-only"), counts, 1):
        images = open_split(run.config.data, "unlabelled", "cpu").images
        assert len(images) == run.images
        seen.append({image.numpy().tobytes() for image in images.pixels})
    assert all(fewer <= more for fewer, more in pairwise(seen))


def test_every_arm_has_every_count_and_seed_at_the_same_budget(tmp_path):
    base = config(tmp_path, **{"training.seed": 7})
    chosen = runs_of(base, "real-only,frozen-gan,joint", "40,80", seeds=2)
    assert len({run.label for run in chosen}) == len(chosen) == 12
    assert {run.seed for run in chosen} == {7, 8}
    assert len({(run.config.training.steps, run.config.training.batch_images) for run in chosen}) == 1
    assert all(run.config.training.seed == run.seed for run in chosen)


def test_a_seed_has_images_and_labels_of_its_own_which_its_arms_share(tmp_path):
    base = config(tmp_path)
    chosen = runs_of(base, "real-only,joint", "40", seeds=2)
    drawn = {}
    for run in chosen:
        images = open_split(run.config.data, "unlabelled", "cpu").images
        drawn.setdefault(run.seed, set()).add(b"".join(sorted(image.numpy().tobytes() for image in images.pixels)))
    assert [len(draws) for draws in drawn.values()] == [1, 1]
    assert drawn[0] != drawn[1]
    assert [run.arm for run in execute._one_of_each_gan(chosen)] == ["joint", "joint"]


def test_the_oracle_is_real_only_with_more_images(tmp_path):
    base = config(tmp_path)
    chosen = plan(base, read_arms("joint"), [40, 80], 1, oracle=[80, 200])
    assert [(run.arm, run.images) for run in chosen] == [
        ("joint", 40),
        ("joint", 80),
        ("real-only", 80),
        ("real-only", 200),
    ]


def test_headroom_counts_go_up_to_all_images(tmp_path):
    base = config(tmp_path)
    total = unlabelled_count(base.data)
    assert 1000 < total < 2000
    assert read_counts("100", base, headroom=True) == [100, 200, 500, 1000, total]
    assert read_counts("60,all", base, headroom=False) == [60, total]
    assert read_counts(None, base, headroom=False) == [round(0.05 * total)]


def test_an_arm_can_come_from_a_file_or_from_a_confirm_record(tmp_path):
    plain, record = tmp_path / "a.yaml", tmp_path / "b.json"
    plain.write_text("terms.contrast.temperature: 0.5\n")
    record.write_text(json.dumps({"overrides": {"synthetic.gan.pair": False, "training.seed": 1001}, "seed": 1001}))
    arms = read_arms(f"joint,warm={plain},winner={record}")
    assert arms == {"joint": {}, "warm": {"terms.contrast.temperature": 0.5}, "winner": {"synthetic.gan.pair": False}}


@pytest.mark.parametrize(
    ("arms", "images", "message"),
    [
        ("nonsense", "40", "arm 'nonsense' is unknown"),
        ("joint,joint", "40", "there already"),
        ("joint=x.yaml", "40", "there already"),
        ("mine=missing.yaml", "40", "missing.yaml"),
        ("", "40", "names no arm"),
        ("joint", "40,many", "not a list of numbers"),
        ("joint", "99999", "has 11.. unlabelled images"),
        ("real-only", "8", "fewer than the 32 of a step"),
    ],
)
def test_an_impossible_plan_is_refused_before_anything_runs(tmp_path, arms, images, message):
    with pytest.raises(UserError, match=message):
        runs_of(config(tmp_path), arms, images)


def test_labels_that_are_not_there_are_refused_before_anything_runs(tmp_path):
    with pytest.raises(UserError, match=r"there are 11.. labelled training images; write 1\.0"):
        runs_of(config(tmp_path, **{"evaluation.label_fractions": [5000], "evaluation.max_label_images": None}))


def test_an_arm_with_a_budget_of_its_own_is_refused(tmp_path):
    file = tmp_path / "longer.yaml"
    file.write_text("training.kimg: 0.512\n")
    with pytest.raises(UserError, match=r"longer' trains 16 steps of 64 views, the comparison 8 of 64"):
        runs_of(config(tmp_path), f"longer={file}", "40")


# Runs


@pytest.mark.parametrize("arm", ["real-only", "joint"])
def test_a_run_in_many_sittings_gives_the_numbers_of_an_unbroken_one(finished, tmp_path, arm):
    whole = next(run for run in finished[1] if run.arm == arm)
    base = config(tmp_path)
    broken = next(run for run in runs_of(base) if run.label == whole.label)
    sittings = 1
    while not perform(broken, Place(base), stop_at=time.time() + 1e-3):
        assert not is_finished(broken, Place(base))
        sittings += 1
    assert sittings > 4
    assert numbers(broken, base) == numbers(whole, finished[0])
    assert not Place(base).checkpoint(broken).exists()


@pytest.mark.parametrize("writes", ["checkpoint_store.save", "comparison.run.write_whole"])
def test_a_run_killed_while_it_saves_gives_the_numbers_of_an_unbroken_one(finished, tmp_path, monkeypatch, writes):
    whole = finished[1][1]
    base = config(tmp_path, **{"training.checkpoint_minutes": 1e-6})
    place = Place(base)
    killed = next(run for run in runs_of(base) if run.label == whole.label)
    writer = checkpoint_store.save if writes == "checkpoint_store.save" else write_whole
    calls = []

    def die_at_the_fourth(*given):
        calls.append(given)
        if len(calls) == 4:
            raise KeyboardInterrupt
        writer(*given)

    with monkeypatch.context() as patched:
        patched.setattr(f"synthcl.{'runs.' if writer is checkpoint_store.save else ''}{writes}", die_at_the_fourth)
        with pytest.raises(KeyboardInterrupt):
            perform(killed, place)
    assert len(json.loads(place.legs(killed).read_text())) == 3
    assert perform(killed, place)
    assert numbers(killed, base) == numbers(whole, finished[0])


def numbers(run, base):
    record = json.loads(Place(base).record(run).read_text())
    return {name: record[name] for name in ("metrics", "statistics", "rungs", "digest", "steps")}


def test_records_have_what_the_table_needs_at_equal_steps_and_views(finished):
    base, chosen = finished
    records = read_all(Place(base).records, base)
    assert {(r.arm, r.images, r.seed) for r in records} == {(r.arm, r.images, r.seed) for r in chosen}
    assert {(record.steps, record.views_per_step) for record in records} == {(8, 64)}
    for record in records:
        for name in ("linear/digits@100-labels", "knn/digits"):
            assert {f"val/{name}", f"test/{name}"} <= record.metrics.keys()
        assert [rung["images_seen"] for rung in record.rungs] == [128, 256]
        assert record.metrics["rung_score"] == record.metrics["val/early-ridge/digits"]
        assert record.seconds["train"] > 0
        assert record.flops["train"] > 0
        assert (record.flops["warm-up"] > 0) == (record.arm == "joint")
        assert ("synthetic/pair_similarity" in record.statistics) == (record.arm == "joint")


def test_each_number_of_images_has_one_gan_made_of_just_those(finished):
    base, _ = finished
    assert len(list(Place(base).gans.glob("*.safetensors"))) == 2


def test_finished_runs_are_not_made_again(finished, monkeypatch):
    base, chosen = finished
    monkeypatch.setattr(execute, "perform", None)
    assert execute.execute(chosen, Place(base), execute.in_this_process)


def test_when_the_time_is_up_nothing_is_begun(tmp_path):
    base = config(tmp_path)
    assert not execute.execute(runs_of(base), Place(base), execute.in_this_process, minutes=0)
    assert not list(tmp_path.glob("**/*.json"))


def test_a_record_of_another_configuration_is_refused(finished):
    changed = finished[0].with_overrides({"terms.contrast.temperature": 0.3})
    with pytest.raises(UserError, match=r"terms.contrast.temperature.start=0.2, asked for 0.3"):
        execute.execute(runs_of(changed), Place(changed), execute.in_this_process)


def test_a_record_that_lacks_a_field_is_refused(finished, tmp_path):
    base = config(tmp_path)
    shutil.copytree(Place(finished[0]).records, Place(base).records)
    run = runs_of(base)[0]
    record = json.loads(Place(base).record(run).read_text())
    del record["config"]["training"]["views_per_image"]
    Place(base).record(run).write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"training\.views_per_image=None, asked for 2"):
        is_finished(run, Place(base))


UNREAD = {
    "real-only": {
        "synthetic.gan.loss": "relativistic",
        "synthetic.gan.spectral_norm": False,
        "curriculum.pair_half_life_kimg.start": 3,
    },
    "frozen-gan": {"synthetic.gan.discriminator_learning_rate": 0.1, "curriculum.pair_half_life_kimg.start": 3},
    "hard-only": {"curriculum.pair_half_life_kimg.start": 3},
}


@pytest.mark.parametrize("arm", UNREAD)
def test_a_record_outlives_a_change_of_what_its_run_never_reads(tmp_path, arm):
    base, other = config(tmp_path / "one"), config(tmp_path / "other", **UNREAD[arm])
    [run], [changed] = runs_of(base, arm, "40"), runs_of(other, arm, "40")
    assert perform(run, Place(base))
    assert is_finished(changed, Place(base))
    assert perform(changed, Place(other))
    for read in ("metrics", "digest"):
        assert numbers(changed, other)[read] == numbers(run, base)[read]

    [joint] = runs_of(base, "joint", "40")
    Place(base).record(run).rename(Place(base).record(joint))
    with pytest.raises(UserError, match="was made with"):
        is_finished(joint, Place(base))


def test_a_run_that_diverges_is_recorded_and_in_no_mean(tmp_path):
    base = config(tmp_path, **{"training.learning_rate": 1e30})
    assert execute.execute(runs_of(base, "real-only", "40"), Place(base), execute.in_this_process)
    [record] = read_all(Place(base).records, base)
    assert "became" in record.diverged
    evidence = summarise([record])
    assert evidence.rows == {"val": [], "test": []}
    assert len(evidence.diverged) == 1


def test_what_goes_on_is_said_while_gans_are_made_and_runs_trained(tmp_path, monkeypatch, capsys):
    base = config(tmp_path)
    chosen, place = runs_of(base, "joint", "40"), Place(base)
    monkeypatch.setattr(execute, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr("synthcl.comparison.run.SHARE_SECONDS", 0.0)
    assert execute.execute(chosen, place, execute.in_this_process)
    shown = capsys.readouterr().err
    assert "\r" not in shown
    assert "comparison 0%, 0 of 1 runs, warming up the GAN of 40 images, seed 0: " in shown
    assert "comparison 100%, 1 of 1 runs, took " in shown
    assert not place.warm_up(chosen[0]).exists()


# Report


def test_the_report_needs_the_records_alone(finished, tmp_path):
    base, _ = finished
    elsewhere = config(tmp_path)
    shutil.copytree(Place(base).records, Place(elsewhere).records, ignore=shutil.ignore_patterns("report"))
    printed = write(Place(elsewhere))
    assert printed.index("## Test") < printed.index("## Validation")
    folder = Place(elsewhere).report
    text = (folder / "evidence.md").read_text()
    assert text.count("| real-only (oracle) | 80 |") == 2  # its scores, on test and on validation
    assert text.count("| real-only (oracle) | 40 |") == 2  # what joint with 40 images gains over it
    rows = json.loads((folder / "evidence.json").read_text())["rows"]["test"]
    assert [(row["arm"], row["images"]) for row in rows] == [
        ("real-only", 40),
        ("joint", 40),
        ("real-only", 80),
        ("joint", 80),
    ]
    assert (folder / "scores-test.png").stat().st_size > 0


def test_operations_stand_beside_the_seconds_and_a_dash_where_a_record_has_none(finished, tmp_path):
    base, _ = finished
    elsewhere = config(tmp_path)
    shutil.copytree(Place(base).records, Place(elsewhere).records, ignore=shutil.ignore_patterns("report"))
    old = Place(elsewhere).records / "real-only-n40-seed0.json"
    old.write_text(json.dumps({k: v for k, v in json.loads(old.read_text()).items() if k != "flops"}))
    write(Place(elsewhere))
    table = (Place(elsewhere).report / "evidence.md").read_text().split("### Wall seconds")[1].split("##")[0]
    cells = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")]
    rows = {(arm, images): rest[-2:] for arm, images, *rest in cells}
    computed = {run.label: json.loads(Place(base).record(run).read_text())["flops"] for run in finished[1]}
    assert rows["real-only", "40"] == ["-", "-"]
    assert rows["real-only", "80"] == [shown(computed["real-only-n80-seed0"]["train"]), "0"]  # needs no warm-up
    assert rows["joint", "80"] == [shown(computed["joint-n80-seed0"][part]) for part in ("train", "warm-up")]


def test_statistics_of_constructed_records():
    gains = {("real-only", 100): 0, ("real-only", 1000): 4, ("joint", 100): 3, ("joint", 1000): 5}
    records = [
        constructed(arm, images, seed, 60 + seed + gain) for (arm, images), gain in gains.items() for seed in (0, 1, 2)
    ]
    evidence = summarise(records)
    assert evidence.oracle == ("real-only", 1000)
    row = next(row for row in evidence.rows["val"] if (row.arm, row.images) == ("joint", 100))
    assert (row.scores["linear@100"].mean, row.scores["linear@100"].std, row.seeds) == (64.0, 1.0, (0, 1, 2))
    difference, share = row.difference["linear@100"], row.recovered["linear@100"]
    assert (difference.value, difference.low, difference.high, difference.n) == (3, 3, 3, 3)  # the seed cancels
    assert (share.value, share.low, share.high) == pytest.approx((0.75, 0.75, 0.75))
    assert evidence.rows["test"][1].scores["linear@100"].mean == 54.0
    assert evidence.headroom["val"][100]["linear@100"].value == 4
    # joint has 63 with 100 images and 65 with 1000: real-only's 64 lies half way, at 316
    top = next(row for row in evidence.rows["val"] if (row.arm, row.images) == ("joint", 1000))
    assert top.efficiency["linear@100"].value == pytest.approx(10**0.5)
    assert not top.recovered


def test_the_own_curriculum_is_compared_with_every_other_arm_and_the_oracle():
    gains = {("real-only", 100): 0, ("real-only", 1000): 4, ("frozen-gan", 100): 2, ("tuned", 1000): 4.5}
    gains |= {("joint", 100): 3, ("joint", 1000): 5}
    records = [
        constructed(arm, images, seed, 60 + seed + gain) for (arm, images), gain in gains.items() for seed in (0, 1, 2)
    ]
    records += [constructed("frozen-gan", 100, 7, 90)]  # a seed that joint does not have
    evidence = summarise(records)
    got = {pair: by_column["linear@100"] for pair, by_column in evidence.own_gains["test"].items()}
    assert {pair: (gain.value, gain.low, gain.high, gain.n) for pair, gain in got.items()} == {
        (100, ("frozen-gan", 100)): (1, 1, 1, 3),
        (100, ("real-only", 1000)): (-1, -1, -1, 3),
        (1000, ("tuned", 1000)): (0.5, 0.5, 0.5, 3),
    }
    (entry,) = [entry for entry in evidence.as_json()["own_gains"]["test"] if entry["over"] == "tuned"]
    assert (entry["images"], entry["over_images"], entry["linear@100"]["value"]) == (1000, 1000, 0.5)


def test_only_seeds_that_both_have_are_compared():
    records = [constructed("real-only", 100, seed, 60) for seed in (0, 1)]
    records += [constructed("joint", 100, seed, score) for seed, score in ((1, 62), (2, 90))]
    row = summarise(records).rows["val"][1]
    assert row.scores["linear@100"].n == 2
    assert (row.difference["linear@100"].value, row.difference["linear@100"].n) == (2, 1)
    assert row.difference["linear@100"].low is None


def constructed(arm, images, seed, score):
    settings = {
        "name": "made",
        "data": {"source": "digits"},
        "evaluation": {"label_fractions": [1.0], "transfer": []},
    }
    return Record(
        arm=arm,
        images=images,
        seed=seed,
        steps=8,
        views_per_step=64,
        metrics={"val/linear/digits@100": score, "test/linear/digits@100": score - 10},
        statistics={"loss/contrast": 1.0},
        seconds={"train": 1.0, "evaluate": 0.1},
        device="none",
        config=settings,
    )


# Where runs are made


def test_without_ray_optuna_and_tensorboard_it_makes_gan_run_and_report(tmp_path):
    program = f"""
import runpy, sys
sys.modules["ray"] = sys.modules["optuna"] = sys.modules["tensorboard"] = None
sys.argv[0] = {str(ROOT / "tune/compare.py")!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    chosen = ["--no-ray", "--arms", "joint", "--images", "40", "--seeds", "1", "--storage", str(tmp_path)]
    command = [sys.executable, "-c", program, *chosen, *arguments(DIGITS)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "## Last logged statistics of training" in printed
    assert (tmp_path / "tiny" / "evidence" / "joint-n40-seed0.json").is_file()


def test_another_process_gives_the_same_numbers(finished, tmp_path):
    base = config(tmp_path)
    [chosen] = runs_of(base, "real-only", "40")
    with execute.processes(1) as pool:
        assert list(pool([partial(perform, chosen, Place(base))])) == [True]
    assert numbers(chosen, base) == numbers(finished[1][0], finished[0])


def test_ray_runs_all_jobs_and_shows_a_users_error_as_it_is(tmp_path):
    import ray

    pool = execute.on_ray(config(tmp_path))
    try:
        assert sorted(pool([partial(bool, value) for value in (1, 0, 1)])) == [False, True, True]
        with pytest.raises(UserError, match=r"^arm 'nonsense' is unknown"):
            list(pool([partial(read_arms, "nonsense")]))
    finally:
        ray.shutdown()


def test_a_folder_of_synthetic_images_is_an_arm_that_waits_for_no_generator(tmp_path, capsys):
    for row in range(60):
        write_image(tmp_path / "made" / f"train-{row:04d}__a.png", row)
    source = {"kind": "folder", "path": str(tmp_path / "made"), "pairs": "names"}
    moving = {"kind": "linear", "start": 0.2, "end": 0.6}
    changes = {"synthetic.gan": None, "synthetic.mine": source, "curriculum.synthetic_fraction": moving}
    base = config(tmp_path, **changes | {"data.image_fraction": 0.5})
    assert default_arms(base) == ["real-only", "joint"]
    chosen = runs_of(base, arms="real-only,joint", images="575", seeds=2)
    assert not any(run.config.needs_gan for run in chosen)
    told = list(describe_folders(chosen))
    assert [line.split(" images, ")[1].split(":")[0] for line in told] == ["seed 0", "seed 1"]
    assert told[0].split(":", 1)[1] != told[1].split(":", 1)[1]  # another cut leaves out others
    assert execute.execute(chosen, Place(base), execute.in_this_process)
    assert not list(Place(base).gans.glob("*"))
    records = {(record.arm, record.seed): record for record in read_all(Place(base).records, base)}
    joint = records["joint", 0]
    assert joint.metrics != records["real-only", 0].metrics
    assert any("synthetic/mine/twin_similarity" in rung["statistics"] for rung in joint.rungs)
