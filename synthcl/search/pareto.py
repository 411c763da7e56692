"""A search with two objectives: who is better among runs at a rung, and which of them are handed over.

Runs are ranked by front and, within a front, by crowding distance. Source: Deb et al., "A Fast and Elitist
Multiobjective Genetic Algorithm: NSGA-II", IEEE Transactions on Evolutionary Computation 2002, sections III A and B.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
"""(n, 2): a row a run, both objectives higher is better"""

ENDS = ("best linear", "best transfer")
"""of a front, in the order of the objectives"""
BOTH = "best of both"
"""of a front that is one point"""
KNEE = "knee"


def fronts(points: Points) -> npt.NDArray[np.int64]:
    """The front of every point: 0 where no other is as good in all and better in one, 1 when those are taken away, ...

    Args:
        points: finite.

    Returns:
        (n,)

    Example:
        >>> fronts(np.array([[3.0, 1.0], [1.0, 3.0], [1.0, 1.0], [0.0, 0.0]])).tolist()
        [0, 0, 1, 2]
    """
    one, other = points[:, None], points[None]
    beats: npt.NDArray[np.bool_] = np.all(one >= other, axis=2) & np.any(one > other, axis=2)  # (n, n): row by column
    beaten_by = beats.sum(axis=0)
    front = np.full(len(points), -1, dtype=np.int64)
    for number in range(len(points)):
        ahead = (beaten_by == 0) & (front < 0)
        if not ahead.any():
            break
        front[ahead] = number
        beaten_by = beaten_by - beats[ahead].sum(axis=0)
    return front


def crowding(points: Points) -> Points:
    """How far the neighbours of every point of one front are from each other, in shares of the front's extent.

    Args:
        points: of one front.

    Returns:
        (n,), the sum over objectives; infinite at the ends.
    """
    distance = np.zeros(len(points))
    for values in points.T:
        order = np.argsort(values, kind="stable")
        extent = values[order[-1]] - values[order[0]]
        distance[order[[0, -1]]] = np.inf
        if extent > 0:
            distance[order[1:-1]] += (values[order[2:]] - values[order[:-2]]) / extent
    return distance


def ranked(points: Points) -> list[int]:
    """Indices of the points, best first: by front, then the least crowded, then in the order given.

    Points with a value that is no number come last.
    """
    sound = np.flatnonzero(np.isfinite(points).all(axis=1))
    front = fronts(points[sound])
    order: list[int] = []
    for number in range(front.max(initial=-1) + 1):
        members = sound[front == number]
        order += members[np.argsort(-crowding(points[members]), kind="stable")].tolist()
    return order + sorted(set(range(len(points))) - set(order))


def ratings(points: Points) -> list[float]:
    """One number a point, higher is better: minus its place in `ranked`."""
    rating = np.zeros(len(points))
    rating[ranked(points)] = -np.arange(len(points))
    return rating.tolist()


def knee(points: Points) -> int | None:
    """The point of a front that lies furthest beyond the line between its ends, both objectives scaled to [0, 1].

    Args:
        points: of one front.

    Returns:
        Its index; None where the front has no point between its ends.

    Source: Das, "On characterizing the 'knee' of the Pareto curve", Structural Optimization 1999.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    between = np.flatnonzero((points < high).all(axis=1))
    if not len(between):
        return None
    # The ends are at (0, 1) and (1, 0), so the distance to their line grows with the sum.
    return int(between[((points[between] - low) / (high - low)).sum(axis=1).argmax()])


def hand_over(points: Points, count: int) -> dict[int, str]:
    """What is confirmed: the ends of the front, its knee, then the next in `ranked`.

    Args:
        points: finite; linear and transfer score of every complete run.
        count: how many are taken at most.

    Returns:
        Index of each to what it is; "" of one that only ranks next.

    Example:
        >>> hand_over(np.array([[1.0, 9.0], [8.0, 8.0], [9.0, 1.0], [5.0, 5.0]]), 3)
        {2: 'best linear', 0: 'best transfer', 1: 'knee'}
    """
    if not len(points):
        return {}
    front = np.flatnonzero(fronts(points) == 0)
    linear, transfer = front[points[front].argmax(axis=0)].tolist()
    taken = {linear: ENDS[0], transfer: ENDS[1]} if linear != transfer else {linear: BOTH}
    if (middle := knee(points[front])) is not None:
        taken[int(front[middle])] = KNEE
    taken |= {index: "" for index in ranked(points) if index not in taken}
    return dict(list(taken.items())[:count])
