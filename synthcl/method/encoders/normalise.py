"""What a network that was trained elsewhere expects of its images, made inside it of what all encoders take."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Statistics(NamedTuple):
    """Mean and standard deviation by channel, of images in [0, 1], that a network's images were normalised with."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def of(self, channels: int) -> Statistics:
        """For one channel the means over all, as `timm` has it, and else these."""
        if channels == len(self.mean):
            return self
        return Statistics(*((sum(values) / len(values),) * channels for values in self))


HALF = Statistics((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""[0, 1] to the [-1, 1] that encoders take"""
IMAGENET = Statistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""of torchvision's weights"""


class Normalise(nn.Module):
    """Images in [-1, 1] as a network expects them; its numbers are in the configuration, not in files of weights.

    Args:
        statistics: that the network was trained with, one a channel.

    Example:
        >>> import torch
        >>> layer = Normalise(Statistics((0.25,), (0.5,)))
        >>> layer(torch.tensor([[[[-1.0, 1.0]]]])).flatten().tolist()
        [-0.5, 1.5]
    """

    def __init__(self, statistics: Statistics) -> None:
        super().__init__()
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in statistics)
        self.register_buffer("scale", 0.5 / std, persistent=False)
        self.register_buffer("shift", (0.5 - mean) / std, persistent=False)

        self._said = f"mean={statistics.mean}, std={statistics.std}"

    def extra_repr(self) -> str:
        return self._said

    def forward(self, images: Tensor) -> Tensor:
        """Images (n, C, H, W)."""
        return images * self.scale + self.shift  # type: ignore[operator]


def normaliser(statistics: Statistics, channels: int) -> Normalise | None:
    """The layer, or None where images are right as they are."""
    return None if statistics == HALF else Normalise(statistics.of(channels))
