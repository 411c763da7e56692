"""Clusters of points, by the distance to their means."""

from __future__ import annotations

import torch
from torch import Tensor

from synthcl.core.rng import generator

_STEPS = 25


def kmeans(points: Tensor, clusters: int, seed: int = 0) -> Tensor:
    """Lloyd's algorithm from centres by k-means++, 25 steps at the most.

    Args:
        points: (n, d) float.
        clusters: at most n.
        seed: of the first centres.

    Returns:
        (n,) int64, the cluster of each point.

    Source: Arthur and Vassilvitskii, "k-means++", SODA 2007.
    """
    source = generator(seed, "k-means")
    chosen = [int(torch.randint(len(points), (1,), generator=source))]
    closest = torch.full((len(points),), float("inf"), dtype=points.dtype, device=points.device)
    while len(chosen) < clusters:
        closest = torch.minimum(closest, (points - points[chosen[-1]]).square().sum(dim=1))
        weights = closest.cpu() if closest.sum() > 0 else torch.ones(len(points))
        chosen.append(int(torch.multinomial(weights, 1, generator=source)))
    centres, assigned = points[chosen], points.new_full((len(points),), -1, dtype=torch.int64)
    for _ in range(_STEPS):
        before, assigned = assigned, torch.cdist(points, centres).argmin(dim=1)
        if assigned.equal(before):
            break
        counts = assigned.bincount(minlength=clusters)
        sums = torch.zeros_like(centres).index_add_(0, assigned, points)
        centres = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centres)
    return assigned
