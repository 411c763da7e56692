"""Families tuned at equal budgets and chosen on validation alone, and numbers that a slow reference finds, too."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from synthcl.comparison.arms import EQUAL_TIME
from synthcl.comparison.families import SHARED, Family, default_families, points, read_families
from synthcl.comparison.mechanisms import PRESET
from synthcl.comparison.plan import Run
from synthcl.comparison.records import Place, Record, read_all
from synthcl.comparison.staged import Slice, Stage
from synthcl.comparison.tuned import FIRST_SEED, Asked, best_pair, choice, choosing_seeds, ranked, stages
from synthcl.comparison.tuned_report import write
from synthcl.config.presets import load_preset
from synthcl.config.schema import Config
from synthcl.core.errors import UserError
from synthcl.core.report import Report

HEADLINE = "linear/cifar10@10000-labels"
FAMILIES = ("real-only", "real-only+imix", "frozen-gan", "joint", "joint+imix")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The preset, of a data set that is not opened."""
    monkeypatch.setattr("synthcl.comparison.plan.unlabelled_count", lambda data: 45_000)
    monkeypatch.setattr("synthcl.comparison.plan._require_labels", lambda base: None)
    for counted in ("training_flops", "warmup_flops"):
        monkeypatch.setattr(f"synthcl.comparison.records.{counted}", lambda *config: None)
    given = {"training.seed": FIRST_SEED, "name": "tuned", "compute.storage": str(tmp_path)}
    return load_preset(PRESET).with_overrides(given)


def asked(budget: int = 6, seeds: int = 5, families: tuple[str, ...] = FAMILIES) -> Asked:
    return Asked([Family.read(name) for name in families], 1000, seeds, budget)


def finish(config: Config, run: Run, val: float, test: float, failure: str | None = None) -> None:
    """A record of a run that scored so."""
    scores = {f"{split}/{HEADLINE}": value for split, value in (("val", val), ("test", test))}
    report = Report(scores=scores, failure=failure, seconds=30.0 if run.arm.startswith("joint") else 10.0)
    Record.of(run.config, report, run.arm, run.images).write(Place(config).record(run))


def play(config: Config, asked: Asked, val: Callable[[Run], float], test: Callable[[Run], float]) -> list[Stage]:
    """Finish what is known, stage after stage."""
    while True:
        planned = stages(config, asked)
        place = Place(config)
        ready = [r for s in planned for r in s.runs if r.arm not in s.unsure and not s.is_done(r, place)]
        if not ready:
            return planned
        for run in ready:
            finish(config, run, val(run), test(run))


def noise(run: Run, what: str, size: float = 2.0) -> float:
    rng = np.random.default_rng([*f"{run.label} {what}".encode()])
    return 45 + size * float(rng.normal())


def chosen(planned: list[Stage]) -> list[str]:
    return [run.label for stage in planned for run in stage.runs]


# ---- fairness


def test_every_family_tries_the_same_values_of_what_all_share(config: Config) -> None:
    tried = {name: Family.read(name).settings(config, 12) for name in default_families(config)}
    for number in range(12):
        shared = [{field.field: setting[number].get(field.field) for field in SHARED} for setting in tried.values()]
        assert shared == [shared[0]] * len(tried)
    assert Family.read("joint").settings(config, 12)[0] == {}  # the configuration itself
    with_imix = tried["joint+imix"]
    assert with_imix[0]["views.mix.share"] == 0.5
    assert all(0.25 <= setting["views.mix.share"] <= 1.0 for setting in with_imix)
    assert len({json.dumps(setting) for setting in with_imix}) == 12


def test_values_fill_their_ranges_and_a_larger_budget_keeps_them(config: Config) -> None:
    family = Family.read("real-only+vicreg")
    many = family.settings(config, 33)
    assert family.settings(config, 9) == many[:9]
    own = config.training.learning_rate
    for each in family.ranges(config):
        values = np.array([setting[each.field] for setting in many[1:]])
        scale = own if each.field == "training.learning_rate" else config.training.weight_decay if each.relative else 1
        low, high = each.low * scale, each.high * scale
        assert low * 0.99 <= values.min()
        assert values.max() <= high * 1.01
        middle = np.sqrt(low * high) if each.log else (low + high) / 2
        assert 12 <= (values < middle).sum() <= 20  # of 32; random numbers would be further off in a fifth of the cases
    other = config.with_overrides({"training.seed": 1})
    assert family.settings(other, 2)[1] != many[1]


def test_points_of_a_field_do_not_depend_on_the_fields_after_it() -> None:
    some, more = points(3, ["a", "b"], 7), points(3, ["a", "b", "c"], 9)
    assert some == [row[:2] for row in more[:7]]
    assert all(0 <= value < 1 for row in more for value in row)
    assert points(3, ["a"], 0) == []


@pytest.mark.parametrize("budget", [1, 5, 6, 14])
def test_every_family_has_the_same_budget_and_every_run_equal_steps_and_views(config: Config, budget: int) -> None:
    given = asked(budget)
    planned = play(config, given, lambda run: noise(run, "val"), lambda run: noise(run, "test"))
    tuning = Counter(
        run.arm.split("@")[0] for stage in planned for run in stage.runs if run.seed in choosing_seeds(config)
    )
    assert tuning == dict.fromkeys(FAMILIES, budget)
    equal = [run for stage in planned for run in stage.runs if not run.arm.startswith(EQUAL_TIME)]
    assert len({(run.config.training.steps, run.config.training.batch_images) for run in equal}) == 1
    fresh = [run for run in equal if run.seed not in choosing_seeds(config)]
    assert Counter(run.seed for run in fresh) == dict.fromkeys(range(FIRST_SEED, FIRST_SEED + 5), len(FAMILIES))
    longer = planned[-1].runs
    assert {run.seed for run in longer} == {run.seed for run in fresh}
    assert {run.config.training.kimg for run in longer} == {3 * config.training.kimg}  # the times of `finish`
    assert all(run.config.is_real_only for run in longer)


def test_the_plan_is_as_long_before_anything_is_known(config: Config) -> None:
    given = asked()
    before = stages(config, given)
    assert [len(stage.runs) for stage in before] == [5 * 4, 5 * 2, 5 * 5, 5]
    assert [len(stage.unsure) > 0 for stage in before] == [False, True, True, True]
    after = play(config, given, lambda run: noise(run, "val"), lambda run: noise(run, "test"))
    assert [len(stage.runs) for stage in after] == [len(stage.runs) for stage in before]
    assert not any(stage.unsure for stage in after)


# ---- the choice


def test_test_scores_choose_nothing(config: Config, tmp_path: Path) -> None:
    found, given = [], asked(6, 2, ("real-only", "joint"))
    for name, test in (("one", 1.0), ("other", -1.0)):
        own = config.with_overrides({"name": name})
        planned = play(own, given, lambda run: noise(run, "val"), lambda run, way=test: way * noise(run, "test"))
        found.append(chosen(planned))
    assert found[0] == found[1]


def test_the_best_mean_of_the_most_sound_runs_is_chosen(config: Config) -> None:
    assert ranked({0: [50.0], 1: [45.0, 46.0], 2: [46.0, 45.0], 3: []}) == [1, 2, 0, 3]
    given = asked(budget=6, families=("real-only", "joint"))
    best = {"real-only@02": 50.0, "joint@03": 49.0}
    planned = play(config, given, lambda run: best.get(run.arm, 40.0), lambda run: 40.0)
    fresh = planned[2].runs
    assert {run.arm for run in fresh} == set(best)
    choices = [choice(read_all(Place(config).records, config), family, config) for family in given.families]
    assert [c.score for c in choices] == [50.0, 49.0]
    pair = best_pair(choices)
    assert pair is not None
    assert [c.arm for c in pair] == ["joint@03", "real-only@02"]
    assert best_pair(choices[:1]) is None


def test_a_setting_that_diverges_is_not_chosen(config: Config) -> None:
    given = asked(budget=3, families=("real-only",))
    for run in stages(config, given)[0].runs:
        finish(config, run, 99.0, 0.0, failure="no longer finite" if run.arm != "real-only@01" else None)
    assert {run.arm for run in stages(config, given)[-1].runs} == {"real-only@01"}
    finish(config, stages(config, given)[0].runs[1], 99.0, 0.0, failure="no longer finite")
    with pytest.raises(UserError, match="'real-only': all of its 3 settings have diverged"):
        stages(config, given)


def test_a_larger_budget_goes_on_from_a_smaller_one(config: Config) -> None:
    names = ("real-only", "joint")
    small, large = asked(6, 2, names), asked(12, 2, names)
    play(config, small, lambda run: noise(run, "val"), lambda run: 0.0)
    before = {file.name for file in Place(config).records.glob("*.json")}
    play(config, large, lambda run: noise(run, "val"), lambda run: 0.0)
    after = {file.name for file in Place(config).records.glob("*.json")}
    assert before < after
    assert len(before) == sum(len(stage.runs) for stage in stages(config, small))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("joint+imixed", "mechanism 'imixed' is unknown; choose mixup"),
        ("joint+imix+cutmix", "sets views.mix.share twice"),
        ("jiont", "arm 'jiont' is unknown"),
        ("frozen-gan-weak-views", "name frozen-gan instead"),
        ("folder-synthetic", "needs a source that the configuration lacks"),
    ],
)
def test_a_family_that_cannot_be_is_refused(config: Config, names: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_families(names, config)


@pytest.mark.parametrize(("wrong", "said"), [({"budget": 0}, "--budget 0"), ({"seeds": 501}, "--seeds 501")])
def test_what_cannot_be_asked_is_refused(wrong: dict[str, int], said: str) -> None:
    with pytest.raises(UserError, match=said):
        asked(**wrong)


# ---- slices


@pytest.mark.parametrize("count", [0, 1, 7, 35])
def test_slices_make_the_whole(count: int) -> None:
    runs = list(range(count))
    for parts in (1, 2, 3, 9):
        assert [run for part in range(1, parts + 1) for run in Slice(part, parts).of(runs)] == runs
    for wrong in ("0/2", "3/2", "1", "a/b"):
        with pytest.raises(UserError, match=f"--slice '{wrong}'"):
            Slice.read(wrong)


# ---- the report


def test_the_report_says_what_a_slow_reference_finds_in_the_records(config: Config) -> None:
    play(config, asked(), lambda run: noise(run, "val"), lambda run: noise(run, "test"))
    place = Place(config)
    shown = write(place, 1000)
    trees = [json.loads(file.read_text()) for file in place.records.glob("*.json")]
    choosing = {FIRST_SEED + 500 + n for n in range(3)}

    best: dict[str, tuple[float, str]] = {}
    for family in FAMILIES:
        means = {}
        for arm in {tree["arm"] for tree in trees if tree["arm"].split("@")[0] == family}:
            val = [t["metrics"][f"val/{HEADLINE}"] for t in trees if t["arm"] == arm and t["seed"] in choosing]
            if len(val) == 3:
                means[arm] = sum(val) / 3
        best[family] = max((value, arm) for arm, value in means.items())

    def test_scores(arm: str) -> np.ndarray:
        own = {t["seed"]: t["metrics"][f"test/{HEADLINE}"] for t in trees if t["arm"] == arm}
        return np.array([own[seed] for seed in range(FIRST_SEED, FIRST_SEED + 5)])

    def difference(arm: str, other: str) -> str:
        found = stats.ttest_rel(test_scores(arm), test_scores(other))
        low, high = found.confidence_interval(0.95)
        return f"{(test_scores(arm) - test_scores(other)).mean():+.2f} [{low:+.2f}, {high:+.2f}]"

    joint = max(("joint", "joint+imix"), key=lambda family: best[family])
    real = max(("real-only", "real-only+imix"), key=lambda family: best[family])
    gain = difference(best[joint][1], best[real][1])
    report = (place.report / "tuned.md").read_text()
    first = report.splitlines()[0]
    assert first.startswith(f"**{joint} - {real}: {gain} points of test/{HEADLINE}, n = 5: ")
    low = float(gain.split("[")[1].split(",")[0])
    high = float(gain.split(", ")[1].rstrip("]"))
    word = "the generator gains" if low > 0 else "the generator loses" if high < 0 else "no difference is shown"
    assert f"n = 5: {word}." in first
    assert "6 runs a family, 2 joint and 2 of real images alone" in first
    assert shown.startswith(first.strip("*"))
    for one, other in combinations(FAMILIES, 2):
        told = [(f"{one} - {other}", best[one][1], best[other][1]), (f"{other} - {one}", best[other][1], best[one][1])]
        assert sum(f"| {name} | {difference(*arms)} | 5 |" in report for name, *arms in told) == 1
    longer = next(t["arm"] for t in trees if t["arm"].startswith(EQUAL_TIME))
    assert f"| {joint} - {EQUAL_TIME} | {difference(best[joint][1], longer)} | 5 |" in report
    values = test_scores(best[joint][1])
    assert f"| {joint} | 1,000 | {values.mean():.2f}±{values.std(ddof=1):.2f} | 5 |" in report
    assert json.loads((place.report / "tuned.json").read_text())["best"] == {"joint": joint, "real-only": real}


def test_unequal_budgets_and_missing_draws_stand_in_the_first_line(config: Config) -> None:
    play(config, asked(1, families=("real-only",)), lambda run: 45.0, lambda run: 45.0)
    assert write(Place(config), 1000).startswith("No verdict: the joint method, or real images alone, has no family")
    for run in stages(config, asked(2, families=("joint",)))[0].runs:
        finish(config, run, 45.0, 45.0)
    assert "joint - real-only is chosen on validation, and has not been trained" in write(Place(config), 1000)
    play(config, asked(2, 2, families=("joint",)), lambda run: 45.0, lambda run: 45.0)
    shown = write(Place(config), 1000)
    assert "UNEQUAL, 1 to 2 runs a family" in shown
    with pytest.raises(UserError, match="no record of 500 images"):
        write(Place(config), 500)
