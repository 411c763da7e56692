"""AMCL: every pair of views has a temperature of its own, which a small network tells from the two of them.

Source: Wang et al., "Adaptive Multi-head Contrastive Learning", ECCV 2024.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from synthcl.core import distributed
from synthcl.core.plugin import Count, Positive
from synthcl.method.objectives.ppcl import Ppcl, PpclConfig
from synthcl.method.scene import Own, Seen, Statistics


class AdaptiveConfig(PpclConfig):
    """PPCL with learnt temperatures of pairs; a run begins with `temperature` for all of them."""

    kind: Literal["adaptive"] = "adaptive"  # type: ignore[assignment]
    lowest: Positive = Field(0.02, description="temperature that no pair goes below")
    highest: Positive = Field(1.0, description="temperature that no pair goes above")
    penalty: float = Field(
        0.001, ge=0, le=1, description="weight of (1 / t + dim / 2 ln t), t the temperature of a view and a positive"
    )
    hidden: Count = Field(64, description="units of the hidden layer of the network that tells temperatures")

    @model_validator(mode="after")
    def _there_is_room_on_both_sides(self) -> AdaptiveConfig:
        low, high = self.temperature.bounds
        if not self.lowest < low <= high < self.highest:
            raise ValueError(
                f"temperature goes from {low:g} to {high:g}; it must be above lowest {self.lowest:g} and below highest "
                f"{self.highest:g}, between which pairs have theirs"
            )
        return self

    def build(self, dim: int) -> Adaptive:
        return Adaptive(self, dim)


class Adaptive(Ppcl):
    """The temperature belongs to a pair, and so to the loss that looks at pairs; heads map each view by itself.

    The network's last layer begins at 0, so the first step is PPCL and a constant.
    """

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {
        "temperature.start": {"low": 0.07, "high": 0.4, "log": True},
        "highest": {"low": 0.5, "high": 2.0},
        "penalty": {"low": 0.0001, "high": 0.03, "log": True},
    }

    def __init__(self, section: AdaptiveConfig, dim: int) -> None:
        super().__init__(section)
        self._section, self._dim = section, dim
        last = nn.Linear(section.hidden, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.warmth = nn.Sequential(nn.Linear(dim, section.hidden), nn.ReLU(), last)
        self._observed: Statistics = {}

    def forward(self, seen: Seen, own: Own) -> Tensor:
        embeddings = seen.embeddings(self.head).float()
        with torch.autocast(embeddings.device.type, enabled=False):
            warmth = self.warmth(embeddings)[:, 0]  # (views,)
            pairs = warmth[:, None] + distributed.gather_with_gradient(warmth)  # (views, all)
            temperature = between(own["temperature"], pairs, self._section.lowest, self._section.highest)
            price = self._section.penalty * spread_price(temperature, self._dim)
        return self.loss(seen, temperature, price=price)

    @torch.no_grad()
    def after(self, seen: Seen, own: Own) -> None:
        embeddings = distributed.gather(seen.embeddings(self.head).detach().float())
        with torch.autocast(embeddings.device.type, enabled=False):
            alike = 2 * self.warmth(embeddings)[:, 0]
            of_views = between(own["temperature"], alike, self._section.lowest, self._section.highest)
        name = f"temperature/{self.head}"
        self._observed = {name: of_views.mean(), f"{name}/spread": of_views.std(correction=0)}

    def measures(self, seen: Seen) -> Statistics:
        return self._observed


def between(middle: float, pairs: Tensor, lowest: float, highest: float) -> Tensor:
    """lowest + (highest - lowest) sigmoid(c + pairs), with the c that makes a pair of 0 have `middle`.

    Args:
        middle: strictly between `lowest` and `highest`.
        pairs: any shape, a_i + a_j.
        lowest: above 0.
        highest: above `lowest`.

    Example:
        >>> between(0.2, torch.tensor([-99.0, 0.0, 99.0]), lowest=0.1, highest=0.5)
        tensor([0.1000, 0.2000, 0.5000])
    """
    begin = math.log((middle - lowest) / (highest - middle))
    return lowest + (highest - lowest) * torch.sigmoid(begin + pairs)


def spread_price(temperature: Tensor, dim: int) -> Tensor:
    """1 / t + (dim / 2) ln t, which a positive pays for its temperature.

    With -s / t, the pull of a positive of cosine s in `ppcl`, it is (1 - s) / t + (dim / 2) ln t: the negative
    log-likelihood of one view under a Gaussian around the other whose variance in each of `dim` directions is t, up to
    a constant, since two unit vectors are sqrt(2 (1 - s)) apart. It is least at t = 2 (1 - s) / dim.

    Args:
        temperature: above 0.
        dim: of the embedding.
    """
    return 1 / temperature + dim / 2 * temperature.log()
