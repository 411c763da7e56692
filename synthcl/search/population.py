"""Population-based training in synchronous generations: at a rung the worst copy the best, and go on as changed.

Source: Jaderberg et al., "Population Based Training of Neural Networks", 2017, with truncation selection. Unlike there,
no run begins a generation before all have ended the last one, nobody copies across what seeds alone explain, and what
comes of it is no model but a lineage of schedules that is trained anew.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from synthcl.core.rng import generator
from synthcl.search.halving import sprint
from synthcl.search.legs import Game, Leg, Run

EARLIEST = 0.2
"""share of a run's budget; at rungs before it configurations differ little more than seeds do, and nobody copies"""


def next_leg(game: Game) -> Leg | None:
    """The next of the generation under way; when it is over its exchanges, each a leg that copies and trains nothing.

    Where what is left does not pay for a whole generation, the best are completed, as in `halving`.
    """
    for rung in generations(game.rungs):
        there = members(game, rung)
        waiting = sorted((run for run in there if _waits_before(run, rung)), key=lambda run: -_score(run, run.reached))
        legs = [Leg(run.number, rung) for run in waiting]
        if sum(run.parent is None for run in game.runs) < game.exchange.members:
            legs.append(Leg(None, rung))
        if legs:
            affordable = (leg for leg in legs if game.cost(leg) + game.needed(leg) <= game.left)
            return next(affordable, None) or sprint(game)
        if not all(_has_ended(run, rung) for run in there):
            return None
        copies = {run.replaces: run for run in game.runs if run.parent is not None and run.inherited == rung}
        for leg in exchanges(game, rung):
            if leg.replaces not in copies:
                return leg
        if any(not _has_ended(run, rung) for run in copies.values()):
            return None
    return None


def is_out(game: Game, run: Run) -> bool:
    """Whether another one has taken its place."""
    return any(other.replaces == run.number for other in game.runs)


def generations(rungs: Sequence[int]) -> list[int]:
    """The rungs, as images seen, at which generations end, the whole budget last."""
    return [rung for rung in rungs if rung >= EARLIEST * rungs[-1]]


def members(game: Game, rung: int) -> list[Run]:
    """The runs of the generation that ends at a rung: one for each place."""
    before = [run for run in game.runs if run.parent is None or run.inherited < rung]
    gone = {run.replaces for run in before}
    return [run for run in before if run.number not in gone]


def exchanges(game: Game, rung: int) -> list[Leg]:
    """Who copies whom after the generation that ends at a rung; a function of its scores alone.

    Those that have failed copy one of the best share; of the others the worst share does, counting the failed ones, and
    only where one of the best is more than the margin above.
    """
    if rung == game.whole:
        return []
    share = int(game.exchange.share * game.exchange.members + 1e-9)
    ranked = sorted(members(game, rung), key=lambda run: (-_score(run, rung), run.number))
    lost = [run for run in ranked if _score(run, rung) == -math.inf]
    best, rest = ranked[: min(share, len(ranked) - len(lost))], ranked[share : len(ranked) - len(lost)]
    worst = rest[max(0, len(rest) - max(0, share - len(lost))) :]
    legs = []
    for run in [*worst, *lost]:
        above = [other for other in best if _score(other, rung) - _score(run, rung) > game.exchange.margin]
        if above:
            draw = generator(game.exchange.seed, "exchange", rung, run.number)
            donor = above[int(torch.randint(len(above), (), generator=draw))]
            legs.append(Leg(None, rung, parent=donor.number, replaces=run.number))
    return legs


def _waits_before(run: Run, rung: int) -> bool:
    return run.standing == "paused" and run.reached < rung


def _has_ended(run: Run, rung: int) -> bool:
    return run.standing == "out" or (rung in run.scores and not (run.standing == "training" and run.until == rung))


def _score(run: Run, rung: int) -> float:
    """-inf of one that has none; what comes after the rung changes nothing."""
    score = run.scores.get(rung, -math.inf)
    return -math.inf if (run.failed and run.until <= rung) or not math.isfinite(score) else score
