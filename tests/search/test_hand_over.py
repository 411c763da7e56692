"""Which runs a search hands over: by hand, and against the definition on random curves."""

import random

import pytest

from synthcl.search.hand_over import SEVERAL, best_first


def test_a_run_that_is_complete_for_having_been_early_does_not_win_by_that():
    curves = {
        "early": {1: 50.0, 2: 60.0, 4: 80.0},
        "better": {1: 55.0, 2: 70.0},
        "third": {1: 52.0, 2: 65.0},
        "waits": {1: 51.0},
    }
    assert best_first(curves, 1) == ["better"]
    assert best_first(curves, 2) == ["better", "third"]
    assert best_first(curves, 4) == ["better", "third", "waits", "early"]


def test_where_several_are_complete_their_last_scores_decide():
    curves = {name: {1: 90.0 - score, 4: score} for name, score in (("a", 1.0), ("b", 3.0), ("c", 2.0))}
    assert best_first(curves, 2) == ["b", "c"]


def test_fewer_runs_than_several_are_all_compared_where_all_have_been():
    assert best_first({"a": {1: 1.0, 4: 9.0}, "b": {1: 2.0}}, 1) == ["b"]
    assert best_first({"a": {1: 1.0}, "none yet": {}}, 2) == ["a"]
    assert best_first({}, 2) == []


@pytest.mark.parametrize("seed", range(20))
def test_no_higher_rung_has_several_and_nobody_there_is_better(seed):
    rng = random.Random(seed)
    rungs = (1, 2, 4, 8)
    curves = {
        number: {rung: rng.random() for rung in rungs[: rng.randrange(len(rungs) + 1)]}
        for number in range(rng.randrange(3, 12))
    }
    count = rng.randrange(1, 6)
    chosen = best_first(curves, count)
    needed = min(max(SEVERAL, count), sum(bool(curve) for curve in curves.values()))
    there = {rung: [number for number in curves if rung in curves[number]] for rung in rungs}
    rung = max((rung for rung in rungs if len(there[rung]) >= needed), default=1)
    assert chosen == sorted(there[rung], key=lambda number: curves[number][rung], reverse=True)[:count]
