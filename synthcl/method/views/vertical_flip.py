"""Upside down: for images that have no up, such as cells, tissue and pictures from above."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from synthcl.core.plugin import Fraction, Section
from synthcl.method.views.uniform import Numbers, UniformView, by_view


class VerticalFlipConfig(Section):
    """Some views are turned upside down; horizontal flips are a field of the base view."""

    kind: Literal["vertical_flip"] = "vertical_flip"
    probability: Fraction = Field(0.5, description="of a view being flipped, at view strength 1 and above")

    def build(self, size: int) -> VerticalFlip:
        return VerticalFlip(self)


class VerticalFlip(UniformView[VerticalFlipConfig]):
    """Mirrors chosen views along their height."""

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {"probability": {"low": 0.0, "high": 0.5}}
    numbers = 1

    def change(self, pixels: Tensor, draw: Numbers) -> Tensor:
        return by_view(draw.chosen(self.section.probability), pixels.flip(2), pixels)
