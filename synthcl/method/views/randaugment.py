"""RandAugment: a few operations of one magnitude, drawn anew for every view.

Operations are torchvision's. Differences from its chain, all on purpose:
- Values are not rounded to 8 bits between operations, so that gradients pass.
- Warps interpolate bilinearly, where torchvision's default takes the nearest pixel.
- At magnitude 0 solarise leaves white pixels as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from synthcl.core.device import to_device
from synthcl.method.curriculum import AnySchedule
from synthcl.method.curriculum.ramps import Constant
from synthcl.method.curriculum.schedule import Within
from synthcl.method.scene import Own
from synthcl.method.views.partial import PartialConfig, PartialView

Operation = Literal[
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "brightness",
    "colour",
    "contrast",
    "sharpness",
    "posterise",
    "solarise",
    "autocontrast",
    "equalise",
]

_GREY = (0.2989, 0.587, 0.114)  # torchvision's rounding of ITU-R BT.601


class RandaugmentConfig(PartialConfig):
    """Every chosen view passes `operations` of 14 operations, drawn with replacement, all of one magnitude."""

    kind: Literal["randaugment"] = "randaugment"
    sides: Literal["one", "both"] = Field(
        "one", description="one leaves all views of an image but the first as they are: a weak and a strong view"
    )
    operations: int = Field(2, ge=1, le=8, description="drawn for each view, one after the other")
    magnitude: Annotated[AnySchedule, Within(ge=0, le=1)] = Field(
        Constant(start=0.3), description="of all operations, as a share of the largest: M / 30"
    )
    without: tuple[Operation, ...] = Field((), description="operations that are never drawn")

    @model_validator(mode="after")
    def _some_are_left(self) -> RandaugmentConfig:
        if {*self.without} >= {*APPLY}:
            raise ValueError("without names all operations; leave one at least")
        return self

    def build(self, size: int) -> Randaugment:
        return Randaugment(self)


class Draw(NamedTuple):
    """Random numbers of n views; which operations they pass is known to the host, which never has to ask a GPU."""

    chosen: Tensor  # (n,) uniform in [0, 1)
    signs: Tensor  # (n, operations) 1 or -1
    operations: np.ndarray  # (n, operations) int64

    def rows(self, indices: Tensor | slice) -> Draw:
        of_host = indices if isinstance(indices, slice) else indices.numpy()
        return Draw(self.chosen[indices], self.signs[indices], self.operations[of_host])

    def to(self, device: torch.device | str) -> Draw:
        return Draw(to_device(self.chosen, device), to_device(self.signs, device), self.operations)


class Randaugment(PartialView[RandaugmentConfig]):
    """Sorts the views by operation, round after round, so that each operation sees its views at once.

    The gradient of posterise and equalise, which is 0 almost everywhere, is that of the identity.

    Source: Cubuk et al., "RandAugment: Practical Automated Data Augmentation with a Reduced Search Space", 2020; of a
    strong beside a weak view, Wang and Qi (CLSA), "Contrastive Learning with Stronger Augmentations", TPAMI 2022.
    """

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {
        "operations": {"low": 1, "high": 3},
        "magnitude.start": {"low": 0.0, "high": 0.7},
    }

    def __init__(self, section: RandaugmentConfig) -> None:
        super().__init__(section)
        self._names = [name for name in APPLY if name not in section.without]
        self.straight_through = not {"posterise", "equalise"}.isdisjoint(self._names)

    def draw(self, views: int, strength: float | Tensor, generator: torch.Generator) -> Draw:
        rounds = self.section.operations
        uniform = torch.rand(views, 1 + 2 * rounds, generator=generator)
        chosen, sign, which = uniform.split([1, rounds, rounds], dim=1)
        return Draw(chosen[:, 0], 1 - 2 * (sign < 0.5).float(), (which * len(self._names)).long().numpy())

    def change(self, pixels: Tensor, draw: Draw, own: Own) -> Tensor:
        for which, signs in zip(draw.operations.T, draw.signs.to(pixels.dtype).unbind(1), strict=True):
            pixels = self._round(pixels, which, own["magnitude"] * signs)
        return pixels

    def _round(self, pixels: Tensor, which: np.ndarray, amounts: Tensor) -> Tensor:
        """Views (n, C, s, s) after one operation each: `which` (n,), by `amounts` (n,) in [-1, 1]."""
        order = which.argsort(kind="stable")
        counts = np.bincount(which, minlength=len(self._names)).tolist()
        there, back = (to_device(torch.from_numpy(rows), pixels.device) for rows in (order, order.argsort()))
        pieces = zip(pixels.index_select(0, there).split(counts), amounts[there].split(counts), strict=True)
        done = [APPLY[name](*piece) for name, piece in zip(self._names, pieces, strict=True) if len(piece[0])]
        return torch.cat(done).index_select(0, back) if done else pixels


# Each takes images (n, C, s, s) in [0, 1] and (n,) amounts in [-1, 1]; of those without direction, the sign is nothing.


def _identity(images: Tensor, amounts: Tensor) -> Tensor:
    return images


def _shear_x(images: Tensor, amounts: Tensor) -> Tensor:
    """By up to 0.3 pixels a row, from the upper edge on."""
    return _warp(images, across=(1, 0.3 * amounts, 0.3 * amounts))


def _shear_y(images: Tensor, amounts: Tensor) -> Tensor:
    """By up to 0.3 pixels a column, from the left edge on."""
    return _warp(images, down=(0.3 * amounts, 1, 0.3 * amounts))


def _translate_x(images: Tensor, amounts: Tensor) -> Tensor:
    """By whole pixels, up to 150/331 of the side."""
    return _warp(images, across=(1, 0, _shift(images, amounts)))


def _translate_y(images: Tensor, amounts: Tensor) -> Tensor:
    return _warp(images, down=(0, 1, _shift(images, amounts)))


def _shift(images: Tensor, amounts: Tensor) -> Tensor:
    size = images.shape[3]
    return -2 * (150 / 331 * size * amounts).trunc() / size


def _rotate(images: Tensor, amounts: Tensor) -> Tensor:
    """By up to 30 degrees, counter-clockwise."""
    cosine, sine = torch.cos(amounts * math.pi / 6), torch.sin(amounts * math.pi / 6)
    return _warp(images, across=(cosine, -sine, 0), down=(sine, cosine, 0))


def _warp(
    images: Tensor,
    across: tuple[Tensor | float, Tensor | float, Tensor | float] = (1, 0, 0),
    down: tuple[Tensor | float, Tensor | float, Tensor | float] = (0, 1, 0),
) -> Tensor:
    """Where each pixel comes from: factors of x and y, and an offset, in halves of a side; outside is black."""
    ones = images.new_ones(len(images))
    matrices = torch.stack([value * ones for value in (*across, *down)], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def _blend(images: Tensor, other: Tensor, amounts: Tensor) -> Tensor:
    """Away from the other images, by up to 0.9 of the distance; towards them where the amount is below 0."""
    return (other + (1 + 0.9 * amounts[:, None, None, None]) * (images - other)).clamp(0, 1)


def _brightness(images: Tensor, amounts: Tensor) -> Tensor:
    return _blend(images, torch.zeros_like(images), amounts)


def _colour(images: Tensor, amounts: Tensor) -> Tensor:
    return _blend(images, _greys(images).expand_as(images), amounts)


def _contrast(images: Tensor, amounts: Tensor) -> Tensor:
    return _blend(images, _greys(images).mean(dim=(1, 2, 3), keepdim=True).expand_as(images), amounts)


def _greys(images: Tensor) -> Tensor:
    if images.shape[1] == 1:
        return images
    red, green, blue = (weight * channel for weight, channel in zip(_GREY, images.unbind(1), strict=True))
    return (red + green + blue)[:, None]


def _sharpness(images: Tensor, amounts: Tensor) -> Tensor:
    """Against a 3 x 3 blur, whose centre counts 5 of 13; edges stay."""
    blurred = (9 * F.avg_pool2d(images, 3, stride=1) + 4 * images[:, :, 1:-1, 1:-1]) / 13
    inside = F.pad(torch.ones_like(blurred), (1, 1, 1, 1)) > 0
    return _blend(images, torch.where(inside, F.pad(blurred, (1, 1, 1, 1)), images), amounts)


def _posterise(images: Tensor, amounts: Tensor) -> Tensor:
    """To 8 bits, of which up to 4 are lost."""
    step = 2 ** (4 * amounts.abs()).round()[:, None, None, None]
    fewer = (255 * images).round().div(step).floor() * step / 255
    return _straight_through(images, torch.where(step > 1, fewer, images))


def _solarise(images: Tensor, amounts: Tensor) -> Tensor:
    """Inverts what is at or above 1 - amount."""
    size = amounts.abs()[:, None, None, None]
    return torch.where((images >= 1 - size) & (size > 0), 1 - images, images)


def _autocontrast(images: Tensor, amounts: Tensor) -> Tensor:
    """Stretches every channel to [0, 1]; one that varies by less than a level of 8 bits stays."""
    low, high = images.amin(dim=(2, 3), keepdim=True), images.amax(dim=(2, 3), keepdim=True)
    varies = high - low >= 1 / 256
    return torch.where(varies, ((images - low) / torch.where(varies, high - low, 1)).clamp(0, 1), images)


def _equalise(images: Tensor, amounts: Tensor) -> Tensor:
    """Makes the levels of every channel, of 8 bits, equally frequent."""
    levels = (255 * images.detach()).round().long().flatten(2)  # (n, C, P)
    counts = levels.new_zeros(*levels.shape[:2], 256).scatter_add_(2, levels, torch.ones_like(levels))
    of_highest = counts.gather(2, levels.amax(dim=2, keepdim=True))
    step = (levels.shape[2] - of_highest) // 255  # (n, C, 1)
    below = counts.cumsum(dim=2) - counts
    table = ((below + step // 2) // step.clamp(min=1)).clamp(max=255)
    equal = (table.gather(2, levels) / 255).to(images.dtype).view_as(images)
    return _straight_through(images, torch.where(step[..., None] > 0, equal, images))


def _straight_through(images: Tensor, changed: Tensor) -> Tensor:
    """The changed values, with the gradient of the images."""
    return changed.detach() + (images - images.detach())  # in this order the values are exact


APPLY: dict[Operation, Callable[[Tensor, Tensor], Tensor]] = {
    "identity": _identity,
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
    "rotate": _rotate,
    "brightness": _brightness,
    "colour": _colour,
    "contrast": _contrast,
    "sharpness": _sharpness,
    "posterise": _posterise,
    "solarise": _solarise,
    "autocontrast": _autocontrast,
    "equalise": _equalise,
}
"""operations by name, in the order of their numbers"""
