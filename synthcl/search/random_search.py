"""Every run is trained to its end: what other algorithms are measured against."""

from __future__ import annotations

from synthcl.search.legs import Game, Leg


def next_leg(game: Game) -> Leg | None:
    """A new run with all of its budget, while there is so much left."""
    return Leg(None, game.whole) if game.may_begin and game.whole <= game.left else None
