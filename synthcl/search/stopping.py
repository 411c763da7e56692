"""Successive halving that stops: a run below the best one in so many of those before it at a rung is given up.

The first runs at a rung have nothing to be compared with and pass. Source: as of `halving`; Ray's ASHA.
"""

from __future__ import annotations

import numpy as np

from synthcl.search.legs import Game, Leg, Run, rung_after


def next_leg(game: Game) -> Leg | None:
    """Runs that passed their rung go on at once; then a new one begins, if the budget has room for all of it."""
    if paused := game.paused():
        return Leg(paused[0].number, rung_after(game.rungs, paused[0].reached))
    unfinished = sum(game.whole - run.until for run in game.runs if run.standing == "training")
    return Leg(None, game.rungs[0]) if game.may_begin and game.whole + unfinished <= game.left else None


def is_out(game: Game, run: Run) -> bool:
    """Whether its score lies below the quantile of the others at its rung."""
    before = [other.scores[run.reached] for other in game.runs if other is not run and run.reached in other.scores]
    return bool(before) and run.scores[run.reached] < float(np.quantile(before, 1 - 1 / game.keep_one_in))
