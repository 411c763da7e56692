"""Random erasing: a rectangle of a view becomes one colour."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from synthcl.core.plugin import Fraction, Section
from synthcl.method.views.uniform import Numbers, UniformView, by_view


class EraseConfig(Section):
    """Some views lose a rectangle, which is filled with a random colour.

    Source: Zhong et al. 2020, "Random Erasing Data Augmentation": areas from 0.02 to 0.4, ratios from 0.3 to 1/0.3;
    there every pixel is random and a rectangle that sticks out is drawn again, here it has one colour and is cut to
    the view.
    """

    kind: Literal["erase"] = "erase"
    probability: Fraction = Field(0.5, description="of a view losing a rectangle, at view strength 1 and above")
    area_min: Fraction = Field(0.02, description="smallest rectangle, as a share of the view's area")
    area_max: Fraction = Field(0.4, description="largest rectangle, as a share of the view's area")
    ratio_max: float = Field(10 / 3, ge=1, description="height to width is log-uniform in [1/max, max]")

    @model_validator(mode="after")
    def _areas_are_ordered(self) -> EraseConfig:
        if self.area_min > self.area_max:
            raise ValueError(f"area_min {self.area_min:g} is above area_max {self.area_max:g}; give the smaller first")
        return self

    def build(self, size: int) -> Erase:
        return Erase(self)


class Erase(UniformView[EraseConfig]):
    """Fills a rectangle of chosen views; its edges lie on whole pixels."""

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {
        "probability": {"low": 0.0, "high": 1.0},
        "area_max": {"low": 0.1, "high": 0.5},
    }
    numbers = 8

    def change(self, pixels: Tensor, draw: Numbers) -> Tensor:
        section, size = self.section, pixels.shape[2]
        _, area, ratio, y, x = draw.uniform[:, :5].unbind(1)
        areas = section.area_min + (section.area_max - section.area_min) * area
        ratios = torch.exp((2 * ratio - 1) * math.log(section.ratio_max))
        inside = (
            _span(y, torch.sqrt(areas * ratios), size)[:, :, None] & _span(x, torch.sqrt(areas / ratios), size)[:, None]
        )
        colours = draw.uniform[:, 5 : 5 + pixels.shape[1], None, None].to(pixels.dtype)  # (n, C, 1, 1)
        return by_view(draw.chosen(section.probability), colours.where(inside[:, None], pixels), pixels)


def _span(place: Tensor, extent: Tensor, size: int) -> Tensor:
    """Which of `size` pixels lie in a stretch of `extent`, a share of the side, that starts at `place`: (n, size)."""
    extent = extent.clamp(max=1)
    start = torch.round(place * (1 - extent) * size)[:, None]
    pixel = torch.arange(size, device=place.device)
    return (pixel >= start) & (pixel < start + torch.round(extent * size)[:, None])
