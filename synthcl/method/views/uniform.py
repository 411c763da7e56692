"""Views that need only a few uniform random numbers each, and chance as a share of the views."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from synthcl.core.device import to_device
from synthcl.method.scene import Own, View, Views


class Numbers(NamedTuple):
    """Uniform numbers in [0, 1), (n, k), and the strength they were drawn for."""

    uniform: Tensor
    strength: float

    def rows(self, indices: Tensor) -> Numbers:
        return Numbers(self.uniform[indices], self.strength)

    def to(self, device: torch.device | str) -> Numbers:
        return Numbers(to_device(self.uniform, device), self.strength)

    def chosen(self, probability: float, column: int = 0) -> Tensor:
        """Which views are changed, (n,) bool: a share that grows with the strength up to strength 1."""
        return self.uniform[:, column] < probability * min(1.0, self.strength)


class UniformView(View):
    """Changes the pixels of finished views by `change`, from `numbers` uniform numbers a view."""

    site: ClassVar[Literal["pixel"]] = "pixel"
    numbers: int
    """of a view"""

    @abstractmethod
    def change(self, pixels: Tensor, draw: Numbers) -> Tensor:
        """Views (n, C, s, s) in [0, 1] -> the same, differentiable, from their own rows of the draw alone."""

    def draw(self, views: int, strength: float, generator: torch.Generator) -> Numbers:
        return Numbers(torch.rand(views, self.numbers, generator=generator), strength)

    def forward(self, views: Views, draw: Numbers, own: Own) -> Views:
        parts, start = [], 0
        for pixels, count in zip(views.parts, views.counts, strict=True):
            rows = slice(start, start := start + count)
            parts.append(self.change(pixels, Numbers(draw.uniform[rows], draw.strength)))
        return views._replace(parts=tuple(parts))


def by_view(chosen: Tensor, changed: Tensor, pixels: Tensor) -> Tensor:
    """`changed` where a view is chosen, (n,) bool, and `pixels` to the bit elsewhere; both (n, C, s, s)."""
    return torch.where(chosen[:, None, None, None], changed, pixels)
