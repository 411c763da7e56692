"""The algorithms by hand: who goes on, who waits, what is spent, and that enough runs are complete in the end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from synthcl.search import halving, random_search, stopping
from synthcl.search.legs import Game, Leg, Run

RUNGS = (125, 250, 500, 1000)
BASE = Game((), RUNGS, 8000, None, 1, 3.0)


def run(number: int, *scores: float, until: int | None = None, standing: str = "paused", **more: bool) -> Run:
    """A run with these scores at the first rungs."""
    told = dict(zip(RUNGS, scores, strict=False))
    reached = max(told, default=0)
    return Run(number, told, until or reached, standing, spent=reached, **more)  # type: ignore[arg-type]


def game(*runs: Run, **changes: object) -> Game:
    return replace(BASE, runs=runs, **changes)  # type: ignore[arg-type]


def test_a_rung_sends_on_the_best_one_in_three_as_soon_as_there_are_three():
    two = game(run(0, 50.0), run(1, 60.0))
    assert halving.next_leg(two) == Leg(None, 125)
    assert halving.next_leg(game(*two.runs, run(2, 55.0))) == Leg(1, 250)
    sent = run(1, 60.0, until=250, standing="training")
    assert halving.next_leg(game(two.runs[0], sent, run(2, 55.0))) == Leg(None, 125)


def test_one_that_waited_goes_on_when_its_rung_has_grown_beneath_it():
    waiting = [run(0, 58.0), run(1, 60.0, 61.0), run(2, 55.0), run(3, 50.0), run(4, 51.0)]
    assert halving.next_leg(game(*waiting)) == Leg(None, 125)
    assert halving.next_leg(game(*waiting, run(5, 40.0))) == Leg(0, 250)


def test_the_highest_promotion_comes_first():
    upper = [run(number, 60.0 + number, 70.0 + number) for number in range(3)]
    lower = [run(3 + number, 50.0 + number) for number in range(6)]
    assert halving.next_leg(game(*upper, *lower)) == Leg(2, 500)


@pytest.mark.parametrize(("keep_one_in", "sent"), [(2.0, [5, 4, 3]), (3.0, [5, 4]), (4.0, [5])])
def test_as_many_are_sent_on_as_asked_for(keep_one_in, sent):
    runs = [run(number, 50.0 + number) for number in range(6)]
    found = []
    while (leg := halving.next_leg(game(*runs, keep_one_in=keep_one_in))).number is not None:
        runs[leg.number] = run(leg.number, 50.0 + leg.number, until=leg.until, standing="training")
        found.append(leg.number)
    assert found == sent


def test_what_is_left_must_complete_enough_runs():
    runs = [run(0, 50.0), run(1, 60.0)]  # 250 spent; to complete the better one takes 875
    assert halving.next_leg(game(*runs, images=250 + 875 + 125)) == Leg(None, 125)
    assert halving.next_leg(game(*runs, images=250 + 875 + 124)) == Leg(1, 1000)  # the sprint
    assert halving.next_leg(game(*runs, images=250 + 875)) == Leg(1, 1000)
    assert halving.next_leg(game(*runs, images=250 + 874)) is None


def test_the_configurations_own_run_does_not_count_as_one_that_is_confirmed():
    own = [run(0, 60.0, own=True), run(1, 50.0)]
    assert halving.next_leg(game(*own, images=250 + 875)) == Leg(1, 1000)
    assert halving.next_leg(game(images=1125, own_first=True)) == Leg(None, 125)
    assert halving.next_leg(game(images=1124)) == Leg(None, 125)  # may itself be the one that is completed


def test_what_is_needed_is_what_completes_the_furthest_ones():
    runs = [run(0, 60.0, 61.0, own=True), run(1, 50.0), run(2, 55.0, standing="out")]
    needed = game(*runs, finish=2)
    assert needed.needed() == 2000 - 125
    assert needed.needed(Leg(1, 500)) == 2000 - 500
    assert needed.needed(Leg(0, 500)) == needed.needed(Leg(2, 500)) == 2000 - 125  # which are not confirmed
    assert needed.needed(Leg(None, 250)) == 2000 - 125 - 250


def test_runs_under_way_are_waited_for_before_a_sprint():
    training = run(0, until=125, standing="training")
    assert halving.next_leg(game(training, images=1000)) is None


def test_no_more_runs_begin_than_allowed_and_the_best_are_completed_then():
    runs = [run(0, 50.0), run(1, 60.0)]
    assert halving.next_leg(game(*runs, most_runs=2, finish=1)) == Leg(1, 1000)
    done = run(1, 60.0, 61.0, 62.0, 63.0, standing="complete")
    assert halving.next_leg(game(runs[0], done, most_runs=2)) is None
    assert halving.next_leg(game(runs[0], done, most_runs=2, finish=2)) == Leg(0, 1000)


def test_those_that_are_out_cost_what_they_saw_and_failed_ones_their_leg():
    out, failed = run(0, 50.0, standing="out"), replace(run(1, standing="out", until=250), failed=True)
    assert game(out, failed).left == 8000 - 125 - 250


def test_stopping_passes_the_first_and_gives_up_below_the_median_of_those_before():
    asks = lambda last, *before: stopping.is_out(game(*before, last, keep_one_in=2.0), last)  # noqa: E731
    first, second = run(0, 50.0), run(1, 60.0)
    assert not asks(first)
    assert not asks(second, first)
    assert asks(run(2, 54.9), first, second)  # their median is 55
    assert not asks(run(2, 55.1), first, second)
    assert asks(run(2, 54.9), first, replace(second, standing="out"))  # what was given up still tells


def of_two(number: int, linear: float, transfer: float) -> Run:
    return replace(run(number, linear), transfer={125: transfer})


def test_with_two_objectives_the_best_of_a_rung_are_those_of_its_front():
    runs = [of_two(0, 70.0, 10.0), of_two(1, 60.0, 40.0), of_two(2, 30.0, 30.0), of_two(3, 59.0, 39.0)]
    pair = game(*runs, of_two(4, 10.0, 60.0), of_two(5, 58.0, 41.0), pareto=True, keep_one_in=2.0)
    assert [each.number for each in pair.paused()] == [0, 4, 5, 1, 3, 2]  # ends, least crowded, others
    sent = []
    while (leg := halving.next_leg(pair)).number is not None:
        sent.append(leg.number)
        gone = replace(pair.runs[leg.number], until=leg.until, standing="training")
        pair = replace(pair, runs=[gone if each.number == leg.number else each for each in pair.runs])
    assert sent == [0, 4, 5]


def test_stopping_gives_up_what_ranks_behind_by_two_objectives_and_nothing_of_a_small_front():
    asks = lambda last, *before: stopping.is_out(game(*before, last, pareto=True, keep_one_in=2.0), last)  # noqa: E731
    linear, transfer = of_two(0, 70.0, 10.0), of_two(1, 10.0, 70.0)
    assert not asks(linear)
    assert not asks(of_two(2, 9.0, 80.0), linear, transfer)
    assert asks(of_two(2, 9.0, 9.0), linear, transfer)


def test_stopping_goes_on_with_those_that_passed_before_it_begins_others():
    assert stopping.next_leg(game(run(0, 50.0))) == Leg(0, 250)
    assert stopping.next_leg(game(run(0, 50.0, until=250, standing="training"))) == Leg(None, 125)
    whole = run(0, 50.0, until=250, standing="training")
    assert stopping.next_leg(game(whole, images=2000)) == Leg(None, 125)  # both may come to 1000
    assert stopping.next_leg(game(whole, images=1999)) is None


def test_random_runs_are_whole():
    assert random_search.next_leg(game(images=1000)) == Leg(None, 1000)
    assert random_search.next_leg(game(images=999)) is None
    assert random_search.next_leg(game(run(0, until=1000, standing="training"), images=1999)) is None
