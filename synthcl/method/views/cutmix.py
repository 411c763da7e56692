"""CutMix of views with soft memberships: a box of the partner covers the same box of a view.

Unlike in the published code, a box never sticks out of the view, so that its size is the one that was drawn.

Source: Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV 2019.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from synthcl.method.views.mixer import Mixer, MixerConfig
from synthcl.method.views.mixup import beta_numbers
from synthcl.method.views.resizemix import Draw, boxes, of_box


class CutmixConfig(MixerConfig):
    """A random box of x_p covers the same box of x_i; weight l in the groups of i is the share of pixels left."""

    kind: Literal["cutmix"] = "cutmix"
    alpha: float = Field(
        1.0, gt=0, le=100, description="the box of a step has a share 1 - b of the pixels, b from Beta(alpha, alpha)"
    )

    def build(self, size: int) -> Cutmix:
        return Cutmix(self, size)


class Cutmix(Mixer):
    """Every chosen view with a box of its own place; all boxes of a step are of one size.

    Args:
        section: of this mixer.
        size: pixels a side of a view.
    """

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {
        "share.start": {"low": 0.1, "high": 1.0},
        "alpha": {"low": 0.2, "high": 4.0, "log": True},
    }

    def __init__(self, section: CutmixConfig, size: int) -> None:
        super().__init__(section)
        self._alpha, self._size = section.alpha, size

    def draw(self, views: int, strength: float | Tensor, generator: torch.Generator) -> Draw:
        """One size a step; its quantile is drawn, so that it moves smoothly with alpha."""
        quantile = torch.rand(1, generator=generator, dtype=torch.float64)
        left = beta_numbers(quantile, self._alpha).item()
        return boxes(views, round(self._size * (1 - left) ** 0.5), self._size, generator)

    def mix(self, own: Tensor, partner: Tensor, draw: Any) -> Tensor:
        down, across = of_box(draw, self._size)
        return torch.where((down[:, :, None] & across[:, None])[:, None], partner, own)
