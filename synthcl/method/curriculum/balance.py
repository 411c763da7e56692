"""The order of real images in which rare kinds of them are shown as often as frequent ones.

Kinds are clusters of what the encoder makes of the images, which stand in for classes that nobody has named.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from synthcl.core.plugin import Fraction, Section
from synthcl.core.rng import epoch_indices
from synthcl.method.curriculum.mix import divided

Key = tuple[int | str, ...]


class BalanceConfig(Section):
    """How evenly clusters of real images are shown; for data that is known to be unbalanced."""

    strength: Fraction = Field(
        0.0, description="a cluster is shown in proportion to its images^(1 - strength); 0 is off, 1 all clusters alike"
    )
    clusters: int = Field(16, ge=2, le=1024, description="of k-means on the encoder's features")
    begin: float = Field(0.2, ge=0, lt=1, description="progress at which clusters are made, once; before it, off")

    def first_step(self, steps: int) -> int | None:
        """The first step that is balanced, of a run of so many; None where none is."""
        return round(self.begin * steps) if self.strength > 0 else None


class Balance:
    """An endless order of images, a function of clusters, strength and key alone.

    An epoch has as many places as there are images, shuffled as without clusters. Each cluster has its quota of them,
    and fills it with its images in turn: over epochs, none of them is shown more than once more often than another.

    Args:
        clusters: (n,) int64 at least 0, the cluster of each image.
        strength: in [0, 1]; 0 is the order without clusters.
    """

    def __init__(self, clusters: Tensor, strength: float) -> None:
        self.clusters = clusters
        kinds = ((clusters == kind).nonzero().flatten() for kind in range(int(clusters.max()) + 1))
        self._images = [images for images in kinds if len(images)]
        self._quotas = quotas([len(images) for images in self._images], strength)
        self._epochs: dict[Key, tuple[int, Tensor]] = {}  # by key, the last one and its images

    def indices(self, begin: int, size: int, *key: int | str) -> Tensor:
        """A slice of the order, as `rng.epoch_indices` gives it without clusters: (size,) int64.

        Args:
            begin: position in the order.
            size: how many indices, possibly over several epochs.
            key: what the shuffles depend on.
        """
        count, end = len(self.clusters), begin + size
        parts = [torch.empty(0, dtype=torch.int64)]
        while begin < end:
            here = min(end, (begin // count + 1) * count) - begin
            parts.append(self._epoch(begin // count, key)[epoch_indices(count, begin, here, *key)])
            begin += here
        return torch.cat(parts)

    def _epoch(self, epoch: int, key: Key) -> Tensor:
        """The images of an epoch (n,) int64 in the order of the data set, some of them several times."""
        number, shown = self._epochs.get(key, (-1, self.clusters))
        if number != epoch:
            parts = [
                images[epoch_indices(len(images), epoch * quota, quota, *key, "cluster", kind)]
                for kind, (images, quota) in enumerate(zip(self._images, self._quotas, strict=True))
            ]
            shown = torch.cat(parts).sort().values
            self._epochs[key] = epoch, shown
        return shown

    @property
    def measures(self) -> dict[str, float]:
        """What the clusters are like, and what balancing them does."""
        counts = [len(images) for images in self._images]
        repeats = max(quota / count for quota, count in zip(self._quotas, counts, strict=True))
        return {"balance/largest_cluster": max(counts) / len(self.clusters), "balance/repeats": repeats}


def quotas(counts: Sequence[int], strength: float) -> list[int]:
    """Places of each cluster in an epoch, count^(1 - strength) over their sum times all images, in whole numbers.

    Args:
        counts: images of each cluster, at least 1.
        strength: in [0, 1].

    Example:
        >>> quotas([90, 10], 0.0), quotas([90, 10], 0.5), quotas([90, 10], 1.0)
        ([90, 10], [75, 25], [50, 50])
    """
    portions = {str(kind): count ** (1 - strength) for kind, count in enumerate(counts)}
    return [*divided(sum(counts), portions).values()]
