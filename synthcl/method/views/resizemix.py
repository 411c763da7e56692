"""ResizeMix of views with soft memberships: the whole partner, made small, is pasted somewhere.

Unlike the published code, which takes nearest neighbours, the partner is averaged as it shrinks, so that gradients
reach all its pixels.

Source: Qin et al., "ResizeMix: Mixing Data with Preserved Object Information and True Labels", 2020.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from synthcl.core.device import to_device
from synthcl.method.views.mixer import Mixer, MixerConfig


class ResizemixConfig(MixerConfig):
    """x_p, at t times its size, covers a random box of x_i; weight l in the groups of i is the share of pixels left."""

    kind: Literal["resizemix"] = "resizemix"
    scale_min: float = Field(0.1, gt=0, le=1, description="t, one a step, is uniform from here")
    scale_max: float = Field(0.8, gt=0, le=1, description="to here, as shares of the side")

    @model_validator(mode="after")
    def _scale_is_ordered(self) -> ResizemixConfig:
        if self.scale_min > self.scale_max:
            raise ValueError(f"scale_min {self.scale_min:g} is above scale_max {self.scale_max:g}")
        return self

    def build(self, size: int) -> Resizemix:
        return Resizemix(self, size)


class Draw(NamedTuple):
    """Random numbers of n views, and the side of the box, which all views of a step share."""

    chosen: Tensor  # (n,) uniform in [0, 1)
    kept: Tensor  # (n,) share of the pixels outside the box
    top: Tensor  # (n,) first row and column of the box
    left: Tensor
    side: int  # pixels

    def rows(self, indices: Tensor | slice) -> Draw:
        return Draw(self.chosen[indices], self.kept[indices], self.top[indices], self.left[indices], self.side)

    def to(self, device: torch.device | str) -> Draw:
        chosen, kept, top, left = to_device(torch.stack(self[:4]), device).unbind()
        return Draw(chosen, kept, top, left, self.side)


class Resizemix(Mixer):
    """Every chosen view with a box of its own place.

    Args:
        section: of this mixer.
        size: pixels a side of a view.
    """

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {
        "share.start": {"low": 0.1, "high": 1.0},
        "scale_min": {"low": 0.05, "high": 0.3},
        "scale_max": {"low": 0.4, "high": 0.9},
    }

    def __init__(self, section: ResizemixConfig, size: int) -> None:
        super().__init__(section)
        self._scales, self._size = (section.scale_min, section.scale_max), size

    def draw(self, views: int, strength: float | Tensor, generator: torch.Generator) -> Draw:
        low, high = self._scales
        scale = low + (high - low) * torch.rand((), generator=generator).item()
        return boxes(views, max(1, round(scale * self._size)), self._size, generator)

    def mix(self, own: Tensor, partner: Tensor, draw: Any) -> Tensor:
        """Products with matrices: one shrinks and places along the height, another along the width."""
        size = self._size
        pixels = torch.eye(size, dtype=own.dtype, device=own.device)
        shrink = F.interpolate(pixels[None, None], size=(draw.side, size), mode="bilinear", antialias=True)[0, 0]
        insides, matrices = of_box(draw, size), []
        for first, inside in zip((draw.top, draw.left), insides, strict=True):
            place = torch.arange(size, device=own.device) - first.long()[:, None]  # (n, size)
            matrices.append(shrink[place.clamp(0, draw.side - 1)] * inside[:, :, None])  # (n, size, size)
        pasted = matrices[0][:, None] @ partner @ matrices[1].mT[:, None]  # (n, C, size, size)
        return torch.where((insides[0][:, :, None] & insides[1][:, None])[:, None], pasted, own)


def boxes(views: int, side: int, size: int, generator: torch.Generator) -> Draw:
    """A box for each view, at any place in it.

    Args:
        views: their number.
        side: of the boxes, in [0, size] pixels.
        size: pixels a side of a view.
        generator: the only source of randomness.
    """
    chosen, top, left = torch.rand(3, views, generator=generator)
    places = size - side + 1
    kept = torch.full((views,), 1 - side**2 / size**2)
    return Draw(chosen, kept, (top * places).floor(), (left * places).floor(), side)


def of_box(draw: Draw, size: int) -> tuple[Tensor, Tensor]:
    """Which rows and which columns of each view its box covers, (n, size) bool each."""
    place = torch.arange(size, device=draw.top.device)
    down, across = (
        (place >= first.long()[:, None]) & (place < first.long()[:, None] + draw.side)
        for first in (draw.top, draw.left)
    )
    return down, across
