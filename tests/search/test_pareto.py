"""Ranking by two objectives: fronts, crowding and what is handed over, against slow references and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from synthcl.search.pareto import crowding, fronts, hand_over, knee, ranked, ratings


def points_of(seed: int, count: int, ties: bool) -> np.ndarray:
    drawn = np.random.default_rng(seed).uniform(0, 100, (count, 2))
    return np.round(drawn / 20) if ties else drawn


def beats(one, other):
    return all(a >= b for a, b in zip(one, other, strict=True)) and any(a > b for a, b in zip(one, other, strict=True))


def slow_fronts(points):
    """Take those that nothing left beats, again and again."""
    left, found = set(range(len(points))), {}
    level = 0
    while left:
        ahead = {i for i in left if not any(beats(points[j], points[i]) for j in left)}
        found |= dict.fromkeys(ahead, level)
        left, level = left - ahead, level + 1
    return [found[i] for i in range(len(points))]


def slow_crowding(points, index):
    """Of one front without ties: the gap between the nearest values below and above, over the extent."""
    total = 0.0
    for values in points.T:
        own = values[index]
        below, above = [v for v in values if v < own], [v for v in values if v > own]
        if not below or not above:
            return math.inf
        total += (min(above) - max(below)) / (max(values) - min(values))
    return total


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 40])
@pytest.mark.parametrize("seed", range(4))
def test_fronts_are_what_is_left_unbeaten_again_and_again(seed, count, ties):
    points = points_of(seed, count, ties)
    assert fronts(points).tolist() == slow_fronts(points)


@pytest.mark.parametrize("seed", range(4))
def test_crowding_is_the_extent_of_the_neighbours(seed):
    points = points_of(seed, 12, ties=False)
    assert crowding(points) == pytest.approx([slow_crowding(points, i) for i in range(12)])
    assert crowding(points * [1, 1000] + 5) == pytest.approx(crowding(points))  # units do not matter


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_no_run_is_ranked_behind_one_that_it_beats(seed, ties):
    points = points_of(seed, 30, ties)
    order = ranked(points)
    assert sorted(order) == list(range(30))
    assert not any(beats(points[late], points[early]) for at, early in enumerate(order) for late in order[at + 1 :])
    assert sorted(order, key=lambda i: -ratings(points)[i]) == order


def test_within_a_front_the_ends_come_first_and_then_the_least_crowded():
    front = np.array([[0.0, 10.0], [1.0, 9.0], [2.0, 8.0], [7.0, 7.0], [10.0, 0.0]])
    assert ranked(front) == [0, 4, 3, 2, 1]
    assert ranked(np.vstack([front, [[0.0, 0.0]]]))[-1] == 5
    assert ranked(np.array([[math.nan, 99.0], [1.0, 1.0]])) == [1, 0]


def test_with_one_objective_for_both_the_rank_is_that_of_the_score():
    scores = np.random.default_rng(0).uniform(0, 100, 20)
    assert ranked(np.stack([scores, scores], axis=1)) == np.argsort(-scores).tolist()


def test_a_knee_lies_furthest_beyond_the_line_between_the_ends_whatever_the_units():
    front = np.array([[0.0, 10.0], [4.0, 9.0], [8.0, 7.0], [10.0, 0.0]])
    assert knee(front) == 2
    assert knee(front * [1, 0.01]) == 2
    assert knee(front[[0, 3]]) is None
    assert knee(np.array([[0.0, 10.0], [1.0, 1.0], [10.0, 0.0]])) == 1  # the only one, though it lies on this side


def test_what_is_handed_over_is_named_and_as_much_as_asked_for():
    points = np.array([[0.0, 10.0], [4.0, 9.0], [8.0, 7.0], [10.0, 0.0], [1.0, 1.0]])
    roles = ["best linear", "best transfer", "knee", "", ""]
    for count in range(1, 7):
        assert list(hand_over(points, count).items()) == list(zip([3, 0, 2, 1, 4], roles, strict=True))[:count]
    one_beats_all = np.array([[5.0, 5.0], [4.0, 4.5], [4.5, 3.0]])
    assert hand_over(one_beats_all, 2) == {0: "best of both", 1: ""}
    assert hand_over(np.empty((0, 2)), 2) == {}
