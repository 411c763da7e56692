"""Asynchronous successive halving that pauses: at every rung the best one in so many go on, the others wait.

Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, algorithm 2. There, as here, a
run is promoted as soon as it belongs to the best of its rung, however late; Ray's scheduler of that name only stops.
"""

from __future__ import annotations

from collections.abc import Iterator

from synthcl.search.legs import Game, Leg, Run, rung_after


def next_leg(game: Game) -> Leg | None:
    """The highest promotion that is due, else a new run; in the end a sprint that completes the best.

    A leg is only given out while what it leaves still completes `game.finish` runs.
    """
    left = game.left
    for leg in _due(game):
        if game.cost(leg) + game.needed(leg) <= left:
            return leg
    return sprint(game)


def _due(game: Game) -> Iterator[Leg]:
    """Promotions from the highest rung down, then a new run."""
    for rung in reversed(game.rungs[:-1]):
        ratings = game.ratings(rung)
        best = sorted(ratings, key=lambda number: -ratings[number])[: int(len(ratings) / game.keep_one_in)]
        for number in best:
            if game.runs[number].standing == "paused" and game.runs[number].reached == rung:
                yield Leg(number, rung_after(game.rungs, rung))
    if game.may_begin:
        yield Leg(None, game.rungs[0])


def sprint(game: Game) -> Leg | None:
    """The best paused run goes on to its end, or a new one begins that does, until enough runs are complete."""
    heading = [run for run in game.runs if run.standing != "out" and not run.own and run.until == game.whole]
    if len(heading) >= game.finish:
        return None
    candidates: list[Run] = [run for run in game.paused() if not run.own]
    if candidates:
        leg = Leg(candidates[0].number, game.whole)
    elif any(run.standing == "training" for run in game.runs) or not game.may_begin:
        return None
    else:
        leg = Leg(None, game.whole)
    return leg if game.cost(leg) <= game.left else None
