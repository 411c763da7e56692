"""A first convolution whose input comes in parts, so that parts without a gradient cost none."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class PartedConv2d(nn.Conv2d):
    """A first convolution that also takes its batch in parts, so that only those that require a gradient cost one.

    On a CPU the gradient to the images of a whole batch takes as long as a quarter of the encoder's forward pass.
    """

    def forward(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        """Images (n, C, H, W), or parts that add up to n."""
        if isinstance(images, Tensor):
            return super().forward(images)
        if not any(part.requires_grad for part in images):
            return super().forward(torch.cat(tuple(images)))
        return torch.cat([super(PartedConv2d, self).forward(part) for part in images])


class Parted(nn.Module):
    """A network that takes its batch as one tensor, as an encoder that also takes it in parts.

    Args:
        network: images (n, C, H, W) -> features (n, feature_dim).
        feature_dim: of its features.
    """

    def __init__(self, network: nn.Module, feature_dim: int) -> None:
        super().__init__()
        self.network, self.feature_dim = network, feature_dim

    def forward(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        """Images (n, C, H, W), or parts that add up to n."""
        return self.network(images if isinstance(images, Tensor) else torch.cat(tuple(images)))
