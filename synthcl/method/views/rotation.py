"""Turned views: by right angles, by any angle, or both."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from synthcl.core.plugin import Fraction, Section
from synthcl.core.quarter_turns import quarter_turned
from synthcl.method.views.uniform import Numbers, UniformView


class RotationConfig(Section):
    """Views are turned about their centre; what comes in from outside is the view, reflected at its edges."""

    kind: Literal["rotation"] = "rotation"
    degrees: float = Field(0.0, ge=0, le=180, description="angle uniform in [-d, d] times the view strength, up to 180")
    right_angle_probability: Fraction = Field(
        0.75, description="of a turn by 90, 180 or 270 degrees, at view strength 1 and above; exact, without blur"
    )

    def build(self, size: int) -> Rotation:
        return Rotation(self)


class Rotation(UniformView[RotationConfig]):
    """Right angles move pixels; other angles interpolate them bilinearly."""

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {"degrees": {"low": 0.0, "high": 45.0}}
    numbers = 3

    def change(self, pixels: Tensor, draw: Numbers) -> Tensor:
        _, which, angle = draw.uniform.unbind(1)
        turns = (1 + (3 * which).floor()).where(draw.chosen(self.section.right_angle_probability), 0)
        pixels = quarter_turned(pixels, turns.long())
        largest = min(180.0, self.section.degrees * draw.one_strength)
        return rotated(pixels, (2 * angle - 1) * largest) if largest else pixels


def rotated(images: Tensor, degrees: Tensor) -> Tensor:
    """Images turned about their centres, counter-clockwise.

    Args:
        images: (n, C, s, s) float in [0, 1].
        degrees: (n,).

    Returns:
        (n, C, s, s), interpolated bilinearly; outside lies the image, reflected at its edges.
    """
    angle = torch.deg2rad(degrees).to(images.dtype)
    cosine, sine, zero = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle)
    matrices = torch.stack([cosine, -sine, zero, sine, cosine, zero], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False).clamp(0, 1)
