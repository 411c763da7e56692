"""Who copies whom, when, and what a copy becomes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pandas as pd
import pytest

from synthcl import load_preset
from synthcl.comparison.records import Record
from synthcl.core.rng import generator
from synthcl.search import lineage, population, results
from synthcl.search.legs import Exchange, Game, Leg, Run
from synthcl.search.sides import SPACES
from synthcl.search.space import load_space

CONFIG = load_preset("fashion-mini")
RUNGS = (125, 250, 500, 1000)
EIGHT = Exchange(members=8, share=0.25, margin=3.0, seed=0)
HARDNESS, LAG = "curriculum.hardness.start", "curriculum.pair_half_life_kimg.start"


def member(number: int, *scores: float, standing: str = "paused", until: int | None = None, **more: object) -> Run:
    """A run with these scores from the first rung on at which generations end."""
    told = dict(zip(RUNGS[1:], scores, strict=False))
    reached = max(told, default=0)
    return Run(number, told, until or reached, standing, spent=reached, **more)  # type: ignore[arg-type]


def game(runs: list[Run], **changes: object) -> Game:
    base = Game(tuple(runs), RUNGS, 8000, None, 2, 3.0, exchange=EIGHT)
    return replace(base, **changes)  # type: ignore[arg-type]


def copy_of(donor: int, place: int, number: int, rung: int, standing: str = "paused") -> Run:
    told = {} if standing == "training" else {rung: 60.0}
    return Run(number, told, rung, standing, rung, parent=donor, replaces=place, inherited=rung)  # type: ignore[arg-type]


def eight(*scores: float) -> list[Run]:
    return [member(number, score) for number, score in enumerate(scores)]


SPREAD = eight(60.0, 50.0, 70.0, 61.0, 52.0, 69.0, 62.0, 63.0)


def pairs(legs: list[Leg]) -> list[tuple[int | None, int | None]]:
    return [(leg.replaces, leg.parent) for leg in legs]


def test_generations_end_at_the_rungs_from_a_fifth_of_the_budget_on():
    assert population.generations(RUNGS) == [250, 500, 1000]
    assert population.generations((15, 61)) == [15, 61]  # a quarter of 61 steps, rounded


def test_all_members_begin_and_end_their_generation_before_any_goes_on():
    runs: list[Run] = []
    for number in range(8):
        assert population.next_leg(game(runs)) == Leg(None, 250)
        runs.append(member(number, until=250, standing="training"))
    assert population.next_leg(game(runs)) is None
    seven = [*eight(*[60.0] * 7), member(7, until=250, standing="training")]
    assert population.next_leg(game(seven)) is None
    assert population.next_leg(game(eight(*[60.0] * 8))) == Leg(0, 500)


def test_the_worst_quarter_copies_the_best_quarter():
    legs = population.exchanges(game(SPREAD), 250)
    assert [leg.replaces for leg in legs] == [4, 1]
    assert {leg.parent for leg in legs} <= {2, 5}
    assert {leg.until for leg in legs} == {250}
    drawn = Counter(
        leg.parent
        for seed in range(50)
        for leg in population.exchanges(game(SPREAD, exchange=EIGHT._replace(seed=seed)), 250)
    )
    assert drawn.keys() == {2, 5}
    assert min(drawn.values()) > 25  # of 100


def test_nobody_copies_across_what_seeds_alone_explain():
    close = eight(60.0, 58.0, 60.5, 59.5, 59.0, 59.2, 59.3, 59.1)
    assert population.exchanges(game(close), 250) == []
    assert pairs(population.exchanges(game(close, exchange=EIGHT._replace(margin=2.4)), 250)) == [(1, 2)]
    assert population.next_leg(game(close)) == Leg(2, 500)


def test_a_copy_is_made_before_its_parent_goes_on_and_costs_nothing():
    first, second = population.exchanges(game(SPREAD), 250)
    assert population.next_leg(game(SPREAD)) == first
    assert game(SPREAD).cost(first) == 0
    gone = [replace(run, standing="out") if run.number == first.replaces else run for run in SPREAD]
    one = [*gone, copy_of(first.parent, first.replaces, 8, 250, "training")]
    assert population.next_leg(game(one)) == second
    both = [*one, copy_of(second.parent, second.replaces, 9, 250, "training")]
    assert population.next_leg(game(both)) is None
    done = [*gone, copy_of(first.parent, first.replaces, 8, 250), copy_of(second.parent, second.replaces, 9, 250)]
    done[second.replaces] = replace(done[second.replaces], standing="out")
    assert population.next_leg(game(done)) == Leg(2, 500)
    assert {run.number for run in population.members(game(done), 500)} == {0, 2, 3, 5, 6, 7, 8, 9}
    assert game(done).left == 8000 - 8 * 250


def test_whose_place_is_taken_is_out():
    with_copy = [*SPREAD, copy_of(2, 1, 8, 250)]
    assert [run.number for run in with_copy if population.is_out(game(with_copy), run)] == [1]


def test_what_follows_a_generation_does_not_change_its_exchanges():
    before = population.exchanges(game(SPREAD), 250)
    later = [replace(run, standing="out", failed=run.number == 2, until=500) for run in SPREAD]
    assert population.exchanges(game(later), 250) == before


def test_failed_members_copy_the_best_whatever_the_margin():
    lost = [replace(run, scores={}, standing="out") if run.number < 3 else run for run in SPREAD]
    legs = population.exchanges(game(lost), 250)
    assert [leg.replaces for leg in legs] == [0, 1, 2]
    assert {leg.parent for leg in legs} <= {5, 7}
    nan = [replace(run, scores={250: float("nan")}) if run.number == 2 else run for run in SPREAD]
    assert [leg.replaces for leg in population.exchanges(game(nan), 250)] == [1, 2]


def test_where_all_have_failed_nothing_is_left_to_train():
    assert population.next_leg(game([replace(run, scores={}, standing="out") for run in SPREAD])) is None


def test_nobody_copies_at_the_end():
    whole = [member(number, 60.0, 60.0, 10.0 * number, standing="complete") for number in range(8)]
    assert population.exchanges(game(whole), 1000) == []
    assert population.next_leg(game(whole)) is None


def test_when_the_budget_is_closed_the_best_are_completed():
    far = [member(number, 60.0, 60.0 + number / 10) for number in range(8)]
    closed = game(far, images=8 * 500 + 1000)
    assert population.next_leg(closed) == Leg(7, 1000)
    going = [*far[:7], replace(far[7], until=1000, standing="training")]
    assert population.next_leg(game(going, images=8 * 500 + 1000)) == Leg(6, 1000)
    both = [*far[:6], *(replace(run, until=1000, standing="training") for run in far[6:])]
    assert population.next_leg(game(both, images=8 * 500 + 1000)) is None


@pytest.fixture
def knobs():
    return lineage.knobs_of(load_space(SPACES / "population.yaml", CONFIG), CONFIG)


def space_of(tmp_path, text):
    (tmp_path / "space.yaml").write_text(text)
    return load_space(tmp_path / "space.yaml", CONFIG)


def test_knobs_are_constant_schedules_that_are_searched_by_their_start(tmp_path, knobs):
    assert [path.split(".")[1] for path in list(knobs)[:4]] == [
        "hardness",
        "pair_half_life_kimg",
        "synthetic_fraction",
        "view_strength",
    ]
    assert "terms.contrast.temperature" in knobs  # a number stands for a constant schedule
    text = f"""
training.learning_rate: {{low: 0.001, high: 0.01}}
{HARDNESS}: {{low: 0.1, high: 1.0}}
{LAG}: {{low: 1.0, high: 9.0}}
curriculum.synthetic_fraction.start: {{low: 0.0, high: 0.5}}
terms.contrast.weight.start: {{low: 0.5, high: 2.0}}
curriculum.view_strength.kind: {{choices: [constant, linear]}}
curriculum.view_strength.start: {{low: 0.5, high: 1.0}}
curriculum.view_strength.end: {{low: 0.5, high: 1.0, when: {{curriculum.view_strength.kind: [linear]}}}}
"""
    # The preset's hardness is a ramp, a share of 0 leaves no generator, and a strength that may ramp has no one value.
    assert list(lineage.knobs_of(space_of(tmp_path, text), CONFIG)) == [LAG, "terms.contrast.weight.start"]


def test_a_quarter_of_the_knobs_is_drawn_anew_and_the_others_go_up_or_down_by_a_fifth(knobs):
    values = {path: 1e-3 if "rate" in path else 0.4 for path in knobs} | {LAG: 10.0, "training.learning_rate": 0.1}
    drawn = [lineage.explored(values, knobs, generator("test", number)) for number in range(400)]
    assert drawn[0] == lineage.explored(values, knobs, generator("test", 0))
    for path, dimension in knobs.items():
        moved = Counter(round(values[path] * factor, 9) for factor in lineage.FACTORS)
        steps = Counter(round(changed[path], 9) for changed in drawn if round(changed[path], 9) in moved)
        assert all(0.3 < count / 400 < 0.45 for count in steps.values()), path
        assert len(steps) == 2
        assert all(dimension.holds(changed[path]) for changed in drawn)
    lags = sorted(changed[LAG] for changed in drawn if changed[LAG] not in (8.0, 12.0))
    assert 70 < len(lags) < 130
    assert 5 < lags[len(lags) // 2] < 20  # half of the logarithms of 1 to 100 lie below 10
    assert "training.learning_rate" not in drawn[0]


def test_a_step_that_leaves_the_range_ends_at_its_bound(knobs):
    drawn = {lineage.explored({HARDNESS: 2.0}, knobs, generator("bound", n))[HARDNESS] for n in range(40)}
    assert max(drawn) == 2.0
    assert 1.6 in drawn


def test_a_whole_number_stays_one(tmp_path):
    space = space_of(tmp_path, f"{LAG}: {{low: 1, high: 9}}")
    (dimension,) = lineage.knobs_of(space, CONFIG).values()
    assert [dimension.nearest(value) for value in (0.2, 3.4, 99.0)] == [1, 3, 9]
    assert {dimension.at(share / 10) for share in range(10)} <= set(range(1, 10))


def test_a_lineage_has_the_values_that_it_was_trained_with_and_the_new_ones_from_there_on():
    began = {"curriculum.hardness.kind": "constant", HARDNESS: 0.3, LAG: 5.0, "training.seed": 4}
    once = lineage.continued(began, {HARDNESS: 0.36, LAG: 5.0}, 0.25, CONFIG)
    twice = lineage.continued(once, {HARDNESS: 0.1, LAG: 4.0}, 0.5, CONFIG)
    assert once[LAG] == 5.0  # not changed
    config = CONFIG.with_overrides(twice)
    assert [config.curriculum.hardness.value_at(p) for p in (0, 0.2499, 0.25, 0.4999, 0.5, 1)] == [
        *(0.3, 0.3),
        *(0.36, 0.36),
        *(0.1, 0.1),
    ]
    assert [config.curriculum.pair_half_life_kimg.value_at(p) for p in (0.3, 0.5)] == [5.0, 4.0]
    assert config.training.seed == 4
    assert lineage.continued(twice, {HARDNESS: 0.1}, 0.75, CONFIG) == twice


POPULATION = CONFIG.with_overrides({"search.algorithm": "population", "search.confirm_top": 2})


def trials_of(*runs):
    columns = ("label", "score", "parent")
    rows = [dict(zip(columns, run, strict=True)) for run in runs]
    frame = pd.DataFrame(rows).assign(baseline=False, state="complete")
    frame["curve"] = [{1000: score} for score in frame.score]
    return frame.assign(overrides=[{"training.seed": number} for number in range(1, len(rows) + 1)])


def test_the_best_copy_and_the_best_that_never_copied_are_both_confirmed():
    never, copied = (
        [(f"trial-{n:03d}", 60.0 + n, None) for n in range(3)],
        [("trial-008", 61.5, 2), ("trial-009", 50.0, 1)],
    )
    best = trials_of(*never, *copied)
    assert results.best_names(best, POPULATION) == ["trial-002", "trial-008"]
    worse = trials_of(*never, copied[1])
    assert results.best_names(worse, POPULATION) == ["trial-002", "trial-001", "trial-009"]
    better = trials_of(never[0], ("trial-008", 70.0, 2), ("trial-009", 71.0, 2))
    assert results.best_names(better, POPULATION) == ["trial-009", "trial-008", "trial-000"]
    assert results.best_names(trials_of(*never), POPULATION) == ["trial-002", "trial-001"]
    assert results.best_names(better, CONFIG) == ["trial-009", "trial-008"]


def test_what_copying_has_gained_is_told_from_fresh_seeds():
    trials = trials_of(("trial-001", 60.0, None), ("trial-008", 99.0, 1), ("trial-009", 80.0, 1))
    scores = {"trial-001": (50.0, 51.0), "trial-009": (52.0, 54.0)}
    common = {"images": 1, "steps": 1, "views_per_step": 1, "seconds": {}, "config": {}}
    confirmed = [
        Record(arm=name, seed=seed, metrics={"test": value}, **common)
        for name, values in scores.items()
        for seed, value in enumerate(values)
    ]
    (said,) = lineage.gained(confirmed, trials, "test")
    assert "own score in the search is not a result" in said
    assert "trial-009, the best that copied, minus trial-001, the best that never did: +2.50 [" in said
    assert "99" not in said
    (alone,) = lineage.gained(confirmed[:2], trials, "test")
    assert "not both" in alone
