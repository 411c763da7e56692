"""Views that need only a few uniform random numbers each, and chance as a share of the views."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Generic, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthcl.core.device import to_device
from synthcl.core.plugin import Section
from synthcl.method.scene import Own, View, Views

S = TypeVar("S", bound=Section)


class Numbers(NamedTuple):
    """Uniform numbers in [0, 1), (n, k), and the strength they were drawn for, of all rows or (n,).

    Strengths decide what is computed, so they are NumPy's: tensors have no values where a step is only counted.
    """

    uniform: Tensor
    strength: float | NDArray[np.float32]

    def rows(self, indices: Tensor | slice) -> Numbers:
        strength = self.strength
        if not isinstance(strength, float):
            strength = strength[indices.numpy() if isinstance(indices, Tensor) else indices]
        return Numbers(self.uniform[indices], strength)

    def to(self, device: torch.device | str) -> Numbers:
        return Numbers(to_device(self.uniform, device), self.strength)

    @property
    def one_strength(self) -> float:
        """Of rows that share it, such as those of one part of the views."""
        if isinstance(self.strength, float):
            return self.strength
        return float(self.strength[0]) if len(self.strength) else 0.0

    def chosen(self, probability: float) -> Tensor:
        """Which views are changed, by their first number, (n,) bool: a share that grows up to strength 1."""
        return self.uniform[:, 0] < probability * min(1.0, self.one_strength)


class UniformView(View, Generic[S]):
    """Changes the pixels of finished views by `change`, from `numbers` uniform numbers a view.

    Args:
        section: of this view.
    """

    site: ClassVar[Literal["pixel"]] = "pixel"
    numbers: int
    """of a view"""

    def __init__(self, section: S) -> None:
        super().__init__()
        self.section = section

    @abstractmethod
    def change(self, pixels: Tensor, draw: Numbers) -> Tensor:
        """Views (n, C, s, s) in [0, 1] -> the same, differentiable, from their own rows of the draw alone."""

    def draw(self, views: int, strength: float | Tensor, generator: torch.Generator) -> Numbers:
        uniform = torch.rand(views, self.numbers, generator=generator)
        return Numbers(uniform, strength.numpy() if isinstance(strength, Tensor) else float(strength))

    def forward(self, views: Views, draw: Numbers, own: Own) -> Views:
        parts, start = [], 0
        for pixels, count in zip(views.parts, views.counts, strict=True):
            rows = slice(start, start := start + count)
            parts.append(self.change(pixels, draw.rows(rows)))
        return views._replace(parts=tuple(parts))


def by_view(chosen: Tensor, changed: Tensor, pixels: Tensor) -> Tensor:
    """`changed` where a view is chosen, (n,) bool, and `pixels` to the bit elsewhere; both (n, C, s, s)."""
    return torch.where(chosen[:, None, None, None], changed, pixels)
