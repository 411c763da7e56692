"""Random-field views: affine and colour parameters that vary smoothly over a view.

A field is a sum of its lowest waves on a square of twice the view's side, so that opposite edges of a view do not
meet; its random numbers say what it is at every point, whatever the resolution.
"""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from synthcl.core.device import to_device
from synthcl.method.curriculum import AnySchedule
from synthcl.method.curriculum.ramps import Constant
from synthcl.method.curriculum.schedule import Within
from synthcl.method.scene import Own
from synthcl.method.views.partial import PartialConfig, PartialView

Strength = Annotated[AnySchedule, Within(ge=0, le=1)]

_FIELDS = 8
"""rotation, scale, shear, translation across and down; brightness, saturation, hue"""
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


class FieldConfig(PartialConfig):
    """Every chosen view is bent and recoloured, each place by parameters of its own; `Fields` has the equations."""

    kind: Literal["field"] = "field"
    geometry: Strength = Field(
        Constant(start=0.1),
        description="standard deviation of rotation in radians, of the logarithm of scale, of shear, and of "
        "translation in halves of a side; 0 bends nothing",
    )
    colour: Strength = Field(
        Constant(start=0.2),
        description="standard deviation of the factors of brightness and saturation, and four times that of hue in "
        "turns; 0 recolours nothing",
    )
    modes: int = Field(4, ge=0, le=16, description="highest frequency, in half waves across a view; 0 is one number")
    falloff: float = Field(4.0, ge=0, le=16, description="of the power spectrum: a wave of frequency k has about k^-f")

    def build(self, size: int) -> Fields:
        return Fields(self, size)


class Draw(NamedTuple):
    """Random numbers of n views."""

    chosen: Tensor  # (n,) uniform in [0, 1)
    amplitudes: Tensor  # (n, fields, 2 * waves) standard normal: of cosines, then of sines

    def rows(self, indices: Tensor | slice) -> Draw:
        return Draw(self.chosen[indices], self.amplitudes[indices])

    def to(self, device: torch.device | str) -> Draw:
        return Draw(to_device(self.chosen, device), to_device(self.amplitudes, device))


class Fields(PartialView[FieldConfig]):
    """Moves every place p of a view, in [-1, 1] by [-1, 1], and changes its colour.

        p <- R(a) e^s H(h) p + t,   then   c <- max(0, 1 + b) hue(u) saturation(max(0, 1 + g)) c,

    H(h) = [[1, h], [0, 1]], and a, s, h, t, b, g, u are fields of p. The view is interpolated bilinearly and
    reflected at its edges; hue and saturation are those of the base view.

    Args:
        section: of this view.
        size: pixels a side of a view.

    Source: Mansfield et al., "Random Field Augmentations for Self-Supervised Representation Learning", 2023, for the
    idea; its covariance and magnitudes are not taken over.
    """

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {
        "geometry.start": {"low": 0.0, "high": 0.5},
        "colour.start": {"low": 0.0, "high": 0.5},
        "falloff": {"low": 2.0, "high": 8.0},
    }

    basis: Tensor

    def __init__(self, section: FieldConfig, size: int) -> None:
        super().__init__(section)
        basis = basis_of(waves(section.modes), section.falloff, size)
        self.register_buffer("basis", basis.float(), persistent=False)

    def draw(self, views: int, strength: float | Tensor, generator: torch.Generator) -> Draw:
        chosen = torch.rand(views, generator=generator)
        return Draw(chosen, torch.randn(views, _FIELDS, len(self.basis), generator=generator))

    def change(self, pixels: Tensor, draw: Draw, own: Own) -> Tensor:
        if not len(pixels) or not (own["geometry"] or own["colour"]):
            return pixels
        fields = draw.amplitudes.to(pixels.dtype) @ self.basis.to(pixels.dtype)  # (n, fields, P)
        bending, recolouring = fields.split([5, 3], dim=1)
        if own["geometry"]:
            pixels = _bent(pixels, own["geometry"] * bending)
        if own["colour"]:
            pixels = _recoloured(pixels, own["colour"] * recolouring)
        return pixels


def waves(highest: int) -> list[tuple[int, int]]:
    """Frequencies across and down up to a highest one, one of each pair k and -k, the constant first."""
    span = range(-highest, highest + 1)
    half = [(x, y) for x, y in itertools.product(span, span) if (y, x) >= (0, 0) and x * x + y * y <= highest**2]
    return sorted(half, key=lambda wave: (wave[0] ** 2 + wave[1] ** 2, wave))


def basis_of(waves: list[tuple[int, int]], falloff: float, size: int) -> Tensor:
    """The waves at the centres of pixels, scaled so that standard normal amplitudes make a field of variance 1.

    A field f has the covariance sum_k a_k^2 cos(pi k . (p - q)), a_k^2 in proportion to (1 + |k|^2)^(-falloff / 2), for
    places p and q in [0, 1] by [0, 1].

    Args:
        waves: frequencies across and down.
        falloff: of the power spectrum.
        size: pixels a side.

    Returns:
        (2 * waves, size * size) float64 on the CPU: cosines, then sines.
    """
    frequencies = torch.tensor(waves, dtype=torch.float64)
    power = (1 + frequencies.square().sum(dim=1)) ** (-falloff / 2)
    scale = (power / power.sum()).sqrt()[:, None]
    centres = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    places = torch.stack([centres.repeat(size), centres.repeat_interleave(size)])  # (2, P): across, down
    angles = math.pi * frequencies @ places
    return torch.cat([scale * torch.cos(angles), scale * torch.sin(angles)])


def _bent(images: Tensor, fields: Tensor) -> Tensor:
    """Images (n, C, s, s) interpolated where the parameters (n, 5, P) send each pixel."""
    angle, scale, shear, right, down = fields.unbind(1)
    size = images.shape[3]
    centres = 2 * (torch.arange(size, device=images.device, dtype=images.dtype) + 0.5) / size - 1
    x, y = centres.repeat(size), centres.repeat_interleave(size)
    x, y = (x + shear * y) * scale.exp(), y * scale.exp()
    cosine, sine = torch.cos(angle), torch.sin(angle)
    places = torch.stack([cosine * x - sine * y + right, sine * x + cosine * y + down], dim=2)
    grid = places.unflatten(1, (size, size))
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False).clamp(0, 1)


def _recoloured(images: Tensor, fields: Tensor) -> Tensor:
    """Images (n, C, s, s) with each pixel's colours changed by the parameters (n, 3, P); grey ones in light alone."""
    brightness, saturation, turns = fields.unflatten(2, images.shape[2:])[:, :, None].unbind(1)  # (n, 1, s, s)
    if images.shape[1] == 3:
        red, green, blue = (weight * channel for weight, channel in zip(_LUMA, images.unbind(1), strict=True))
        grey = (red + green + blue)[:, None]
        images = grey + (1 + saturation).clamp(min=0) * (images - grey)
        shares = [(1 + 2 * torch.cos(2 * math.pi * (turns / 4 - shift / 3))) / 3 for shift in range(3)]
        images = shares[0] * images + shares[1] * images.roll(1, 1) + shares[2] * images.roll(2, 1)
    return (images * (1 + brightness).clamp(min=0)).clamp(0, 1)
