"""The game a search algorithm plays: runs, how far each has been sent, and what may still be spent.

A *leg* is a stretch of one run, up to a rung or to the end; a run that is between two legs is *paused*. An algorithm is
one pure function that names the next leg (and, where runs are given up for good, one that says which).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from synthcl.search import pareto

Standing = Literal["training", "paused", "complete", "out"]
"""on a leg; between two; at the end of its budget; diverged, failed or given up"""


@dataclass
class Run:
    """One configuration of the search and how far it is."""

    number: int
    scores: dict[int, float] = field(default_factory=dict)
    """images seen -> score, at the rungs that it has reached"""
    until: int = 0
    """images that its last leg leads to"""
    standing: Standing = "training"
    spent: int = 0
    """images that it has seen"""
    diverged: bool = False
    """whether it has reported that it failed to learn"""
    failed: bool = False
    """whether it is out for a reason that says nothing of its configuration"""
    own: bool = False
    """whether it is the configuration that the search begins with, which is confirmed in any case"""
    transfer: dict[int, float] = field(default_factory=dict)
    """the second objective as `scores` is the first, where there are two"""
    parent: int | None = None
    """number of the run that it is a copy of"""
    replaces: int | None = None
    """number of the run whose place it has taken"""
    inherited: int = 0
    """images that its parent saw for it"""

    @property
    def reached(self) -> int:
        """Images at the highest rung with a score, 0 before the first."""
        return max(self.scores, default=0)

    @property
    def promised(self) -> int:
        """Images that it has cost, or will when its leg ends; of a failed one its leg, so that failures have an end."""
        seen = self.spent if self.standing == "out" and not self.failed else max(self.until, self.spent)
        return max(0, seen - self.inherited)

    @property
    def trained(self) -> int:
        """Images that it has cost so far."""
        return max(0, self.spent - self.inherited)


class Exchange(NamedTuple):
    """How a population exchanges at a rung."""

    members: int = 0
    """runs side by side"""
    share: float = 0.25
    """that copies, and that is copied"""
    margin: float = 0.0
    """points; nobody copies one that is not more above it"""
    seed: int = 0
    """of the draws"""


NO_EXCHANGE = Exchange()
"""of any other algorithm"""


class Leg(NamedTuple):
    """What is trained next."""

    number: int | None
    """of the run; None begins a new one"""
    until: int
    """images seen at its end"""
    parent: int | None = None
    """of a new run: the number of that which it copies, as it is at `until`; such a leg costs nothing"""
    replaces: int | None = None
    """of a copy: the number of the run that is given up for it"""


@dataclass(frozen=True)
class Game:
    """Everything that the next leg is chosen by."""

    runs: Sequence[Run]
    """in the order they began, each at the place of its number"""
    rungs: tuple[int, ...]
    """images seen at each, the whole budget of a run last"""
    images: float
    """what the search may spend"""
    most_runs: int | None
    """how many runs may begin; None sets no limit"""
    finish: int
    """complete runs, beside the configuration's own, that the search must end with"""
    keep_one_in: float
    """of the runs at a rung"""
    own_first: bool = False
    """whether the first run to begin is that of the configuration's own"""
    pareto: bool = False
    """whether there are two objectives"""
    exchange: Exchange = NO_EXCHANGE
    """of a population"""

    @property
    def whole(self) -> int:
        """Images of a whole run."""
        return self.rungs[-1]

    @property
    def left(self) -> float:
        """Images that are neither spent nor promised."""
        return self.images - sum(run.promised for run in self.runs)

    @property
    def may_begin(self) -> bool:
        """Whether one more run is allowed."""
        return self.most_runs is None or len(self.runs) < self.most_runs

    def cost(self, leg: Leg) -> int:
        """Images that a leg adds."""
        if leg.parent is not None:
            return 0
        return leg.until - (0 if leg.number is None else self.runs[leg.number].until)

    def needed(self, leg: Leg | None = None) -> int:
        """Images that complete `finish` runs, from the furthest ones on, once this leg has been given out."""
        lengths = {run.number: run.until for run in self.runs if run.standing != "out" and not run.own}
        if leg is not None and leg.number is None:
            if self.runs or not self.own_first:
                lengths[len(self.runs)] = leg.until
        elif leg is not None and leg.number in lengths:
            lengths[leg.number] = leg.until
        furthest = sorted(lengths.values(), reverse=True)[: self.finish]
        return self.whole * self.finish - sum(furthest)

    def paused(self) -> list[Run]:
        """Runs between two legs, the best of the highest rung first."""
        return [*self.furthest_first(run for run in self.runs if run.standing == "paused")]

    def ratings(self, rung: int) -> dict[int, float]:
        """How good every run is that has reached a rung, by number, higher is better: its score, or its rank by two."""
        there = [run for run in self.runs if rung in run.scores]
        if self.pareto:
            points = np.array([(run.scores[rung], run.transfer[rung]) for run in there]).reshape(-1, 2)
            values = pareto.ratings(points)
        else:
            values = [run.scores[rung] for run in there]
        return {run.number: value for run, value in zip(there, values, strict=True)}

    def furthest_first(self, runs: Iterable[Run]) -> Iterator[Run]:
        """Runs with a score, by the rung that they have reached, complete ones first, then by how good they are.

        What is not taken is not ranked: of a thousand runs, a proposal looks at the best two dozen.
        """
        by_rung: dict[int, list[Run]] = {}
        for run in runs:
            by_rung.setdefault(run.reached, []).append(run)
        for rung in sorted(by_rung, reverse=True):
            rated = self.ratings(rung)
            yield from sorted(by_rung[rung], key=lambda run: (run.standing != "complete", -rated[run.number]))


NextLeg = Callable[[Game], Leg | None]
"""the algorithm: the next leg, or None where the legs under way have to be awaited or, without any, all is done"""
IsOut = Callable[[Game, Run], bool]
"""whether a run that has just reached a rung before the last is given up"""


def rung_after(rungs: Sequence[int], images: int) -> int:
    """The first rung above so many images."""
    return next(rung for rung in rungs if rung > images)
