"""Features of a frozen encoder, with the labels of their images."""

from typing import NamedTuple

from torch import Tensor


class Labelled(NamedTuple):
    """Features and their labels, on one device."""

    features: Tensor  # (n, feature_dim) float32
    labels: Tensor  # (n,) int64, in [0, classes)

    def first(self, count: int) -> "Labelled":
        """The first `count` rows."""
        return Labelled(self.features[:count], self.labels[:count])
