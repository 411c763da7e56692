"""A first convolution whose input comes in parts, so that parts without a gradient cost none."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn


class PartedConv2d(nn.Conv2d):
    """A first convolution that also takes its batch in parts, so that only those that require a gradient cost one.

    On a CPU the gradient to the images of a whole batch takes as long as a quarter of the encoder's forward pass.
    """

    normalise: nn.Module | None
    """what brings images to the mean and standard deviation that its weights expect; without it they have them"""

    def forward(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        """Images (n, C, H, W), or parts that add up to n."""
        if isinstance(images, Tensor):
            return self._of(images)
        if not any(part.requires_grad for part in images):
            return self._of(torch.cat(tuple(images)))
        return torch.cat([self._of(part) for part in images])

    def _of(self, images: Tensor) -> Tensor:
        normalise = getattr(self, "normalise", None)
        return super().forward(images if normalise is None else normalise(images))


class NormalisedConv2d(nn.Conv2d):
    """A first convolution of images that are normalised before it."""

    def __init__(self, normalise: nn.Module, *sizes: Any, **settings: Any) -> None:
        super().__init__(*sizes, **settings)
        self.normalise = normalise

    def forward(self, images: Tensor) -> Tensor:
        """Images (n, C, H, W) in [-1, 1]."""
        return self._conv_forward(self.normalise(images), self.weight, self.bias)  # as Conv2d.forward, for TorchScript


class Whole(nn.Module):
    """A network under the name that an encoder of a user's own has in files.

    Args:
        network: images (n, C, H, W) -> features (n, feature_dim).
        feature_dim: of its features.
        normalise: what brings images in [-1, 1] to the mean and standard deviation that it was trained with, if others.
    """

    def __init__(self, network: nn.Module, feature_dim: int, normalise: nn.Module | None = None) -> None:
        super().__init__()
        self.network, self.feature_dim = network, feature_dim
        self.normalise = nn.Identity() if normalise is None else normalise

    def forward(self, images: Tensor) -> Tensor:
        """Images (n, C, H, W)."""
        return self.network(self.normalise(images))


class Parted(Whole):
    """A network that takes its batch as one tensor, as an encoder that also takes it in parts."""

    def forward(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        """Images (n, C, H, W), or parts that add up to n."""
        return super().forward(images if isinstance(images, Tensor) else torch.cat(tuple(images)))


def plain(encoder: nn.Module) -> nn.Module:
    """The encoder without what only training needs: a batch is one tensor, so that TorchScript, too, takes it.

    Args:
        encoder: changed in place; a layer that takes parts gives its weights to a plain one of the same name.
    """
    if isinstance(encoder, Parted):
        return Whole(encoder.network, encoder.feature_dim, encoder.normalise)
    for name, layer in encoder.named_children():
        if isinstance(layer, PartedConv2d):
            size, stride, padding = (cast(Any, value) for value in (layer.kernel_size, layer.stride, layer.padding))
            biased = layer.bias is not None
            normalise = getattr(layer, "normalise", None)
            make = nn.Conv2d if normalise is None else partial(NormalisedConv2d, normalise)
            made = make(layer.in_channels, layer.out_channels, size, stride, padding, bias=biased, device="meta")
            made.load_state_dict(layer.state_dict(), assign=True)
            encoder.register_module(name, made)
    return encoder
