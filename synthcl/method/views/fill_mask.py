"""Hidden patches that are filled from what is visible around them, so that nothing of them is left."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from synthcl.core.device import to_device
from synthcl.core.errors import UserError
from synthcl.method.curriculum import AnySchedule
from synthcl.method.curriculum.ramps import Constant
from synthcl.method.curriculum.schedule import Within
from synthcl.method.scene import Own
from synthcl.method.views.partial import PartialConfig, PartialView


class FillMaskConfig(PartialConfig):
    """Every chosen view loses patches of a grid, which are filled with means of visible pixels; `filled` has how."""

    kind: Literal["fill_mask"] = "fill_mask"
    area: Annotated[AnySchedule, Within(ge=0, le=1)] = Field(
        Constant(start=0.3), description="share of the patches that are hidden, to whole patches; one always stays"
    )
    patch: int = Field(8, ge=1, le=256, description="pixels a side of a patch")

    def build(self, size: int) -> FillMask:
        return FillMask(self, size)


class Draw(NamedTuple):
    """Random numbers of n views."""

    chosen: Tensor  # (n,) uniform in [0, 1)
    order: Tensor  # (n, patches) int64: when each patch is hidden, from 0 on, as the area grows

    def rows(self, indices: Tensor | slice) -> Draw:
        return Draw(self.chosen[indices], self.order[indices])

    def to(self, device: torch.device | str) -> Draw:
        return Draw(to_device(self.chosen, device), to_device(self.order, device))


class FillMask(PartialView[FillMaskConfig]):
    """Hides patches in a random order of each view's own.

    Args:
        section: of this view.
        size: pixels a side of a view.

    Raises:
        UserError: when one patch covers a view.

    Source: Balasubramanian and Feizi, "Towards Improved Input Masking for Convolutional Neural Networks", ICCV 2023; of
    it the fill alone.
    """

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {
        "area.start": {"low": 0.0, "high": 0.6},
        "patch": {"low": 4, "high": 8},
    }

    def __init__(self, section: FillMaskConfig, size: int) -> None:
        super().__init__(section)
        if section.patch >= size:
            raise UserError(
                f"patch {section.patch} of a fill_mask covers views of {size} pixels; give {size // 2} or less"
            )
        self._side = math.ceil(size / section.patch)  # patches a side; those at the far edges may be cut

    def draw(self, views: int, strength: float | Tensor, generator: torch.Generator) -> Draw:
        chosen = torch.rand(views, generator=generator)
        return Draw(chosen, torch.rand(views, self._side**2, generator=generator).argsort(dim=1).argsort(dim=1))

    def change(self, pixels: Tensor, draw: Draw, own: Own) -> Tensor:
        patches = self._side**2
        hidden = min(round(own["area"] * patches), patches - 1)
        if not hidden:
            return pixels
        size, patch = pixels.shape[3], self.section.patch
        visible = (draw.order >= hidden).view(-1, 1, self._side, self._side).to(pixels.dtype)
        mask = visible.repeat_interleave(patch, 2).repeat_interleave(patch, 3)[:, :, :size, :size]
        return filled(pixels, mask)


def filled(images: Tensor, mask: Tensor, reach: int = 1) -> Tensor:
    """Images with hidden pixels replaced by means of visible ones.

        x <- m x;   then   x <- x + (1 - m) box(x) / box(m),   m <- 1 where box(m) > 0,

    until nothing is hidden; the sums over boxes reach `reach` pixels to every side, and twice as far every time. Hidden
    pixels of the input have no gradient.

    Args:
        images: (n, C, s, s) in [0, 1].
        mask: (n, 1, s, s), 1 where a pixel is visible and 0 where it is hidden; some are visible in every image.
        reach: of the first boxes, in pixels.

    Source: Balasubramanian and Feizi, ICCV 2023, section 3; there boxes stay small and are summed many times.
    """
    images = images * mask
    size, reached = images.shape[3], 0
    while reached < size - 1:  # which is as far as a visible pixel can be
        reach = min(reach, size - 1)
        count = _sums(mask, reach)
        images = images + (1 - mask) * _sums(images, reach) / count.clamp(min=1)
        mask = (count > 0.5).to(mask.dtype)
        reached, reach = reached + reach, 2 * reach
    return images.clamp(0, 1)  # of rounding


def _sums(images: Tensor, reach: int) -> Tensor:
    """Of each pixel's box: products with a band matrix along both axes, several times as fast as pooling."""
    at = torch.arange(images.shape[3], device=images.device)
    band = ((at[:, None] - at).abs() <= reach).to(images.dtype)  # (s, s)
    return band @ (images.contiguous() @ band)
