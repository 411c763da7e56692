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
