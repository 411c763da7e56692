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
    """Whether its score, or its rank by two objectives, lies below the quantile of the others at its rung."""
    before = game.ratings(run.reached)
    own = before.pop(run.number)
    return bool(before) and own < float(np.quantile(list(before.values()), 1 - 1 / game.keep_one_in))
