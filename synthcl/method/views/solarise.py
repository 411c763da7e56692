"""Bright pixels are inverted."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from synthcl.core.plugin import Fraction, Section
from synthcl.method.views.uniform import Numbers, UniformView, by_view


class SolariseConfig(Section):
    """Some views have every pixel at or above a threshold inverted.

    Source: Grill et al. 2020, "Bootstrap Your Own Latent", appendix B: probability 0.2 of one of the two views,
    threshold 0.5. Here both views of a pair are alike, so 0.1 is the same share of views.
    """

    kind: Literal["solarise"] = "solarise"
    probability: Fraction = Field(0.1, description="of a view being solarised, at view strength 1 and above")
    threshold: Fraction = Field(0.5, description="of a pixel's value in [0, 1], from which on x becomes 1 - x")

    def build(self, size: int) -> Solarise:
        return Solarise(self)


class Solarise(UniformView[SolariseConfig]):
    """x -> 1 - x where x is at or above the threshold."""

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {"probability": {"low": 0.0, "high": 0.3}}
    numbers = 1

    def change(self, pixels: Tensor, draw: Numbers) -> Tensor:
        inverted = (1 - pixels).where(pixels >= self.section.threshold, pixels)
        return by_view(draw.chosen(self.section.probability), inverted, pixels)
