"""Mixup of views with soft memberships: two images shine through each other.

Source: Lee et al., "i-Mix: A Domain-Agnostic Strategy for Contrastive Representation Learning", ICLR 2021; Zhang
et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from synthcl.core.device import to_device
from synthcl.method.views.mixer import Mixer, MixerConfig


class MixupConfig(MixerConfig):
    """x_i <- l x_i + (1 - l) x_p, with weight l in the groups of i and 1 - l in those of its partner p."""

    kind: Literal["mixup"] = "mixup"
    alpha: float = Field(1.0, gt=0, le=100, description="l is the larger of b and 1 - b, b from Beta(alpha, alpha)")

    def build(self, size: int) -> Mixup:
        return Mixup(self)


class Draw(NamedTuple):
    """Random numbers of n views."""

    chosen: Tensor  # (n,) uniform in [0, 1)
    kept: Tensor  # (n,) in [0.5, 1]: l

    def rows(self, indices: Tensor | slice) -> Draw:
        return Draw(self.chosen[indices], self.kept[indices])

    def to(self, device: torch.device | str) -> Draw:
        return Draw(*to_device(torch.stack(self), device).unbind())


class Mixup(Mixer):
    """Every chosen view with a mixing weight of its own."""

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {
        "share.start": {"low": 0.1, "high": 1.0},
        "alpha": {"low": 0.2, "high": 4.0, "log": True},
    }

    def __init__(self, section: MixupConfig) -> None:
        super().__init__(section)
        self._alpha = section.alpha

    def draw(self, views: int, strength: float | Tensor, generator: torch.Generator) -> Draw:
        """One pair of uniform numbers a view; the second is a quantile, so that l moves smoothly with alpha."""
        chosen = torch.rand(views, generator=generator)
        beta = beta_numbers(torch.rand(views, generator=generator, dtype=torch.float64), self._alpha)
        return Draw(chosen, torch.maximum(beta, 1 - beta).float())

    def mix(self, own: Tensor, partner: Tensor, draw: Any) -> Tensor:
        kept = draw.kept.to(own.dtype)[:, None, None, None]
        return kept * own + (1 - kept) * partner


def beta_numbers(quantiles: Tensor, alpha: float) -> Tensor:
    """Numbers from Beta(alpha, alpha) at these quantiles, (n,) float64."""
    from scipy.special import betaincinv  # takes longer to import than this package

    return torch.from_numpy(betaincinv(alpha, alpha, quantiles.numpy()))
