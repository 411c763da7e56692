"""Views that change a scheduled share of the views, of all sides of an image or of its first alone."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from synthcl.core.plugin import Section
from synthcl.method.curriculum import AnySchedule
from synthcl.method.curriculum.ramps import Constant
from synthcl.method.scene import Own, View, Views
from synthcl.method.views.uniform import by_view


class PartialConfig(Section):
    """A view that changes some of the views and leaves the others as they are, to the bit."""

    kind: str
    share: AnySchedule = Field(
        Constant(start=1.0), description="of the views that are changed; 0 all along changes none"
    )
    sides: Literal["one", "both"] = Field(
        "both", description="one leaves all views of an image but the first as they are"
    )

    @model_validator(mode="after")
    def _share_is_one(self) -> PartialConfig:
        low, high = self.share.bounds
        if low < 0 or high > 1:
            raise ValueError(f"share goes from {low:g} to {high:g}; it must stay in [0, 1]")
        return self

    @property
    def is_on(self) -> bool:
        """Whether any step of the run can have changed views."""
        return self.share.bounds[1] > 0


P = TypeVar("P", bound=PartialConfig)


class PartialView(View, Generic[P]):
    """Changes the pixels of a share of finished views by `change`.

    What `draw` makes has, beside numbers of the view's own, `chosen` (n,) uniform in [0, 1), which changes a view where
    it is below the share.

    Args:
        section: of this view.
    """

    site: ClassVar[Literal["pixel"]] = "pixel"

    def __init__(self, section: P) -> None:
        super().__init__()
        self.section = section

    @abstractmethod
    def change(self, pixels: Tensor, draw: Any, own: Own) -> Tensor:
        """Views (n, C, s, s) in [0, 1] -> the same, as if all were chosen, from their own rows of the draw alone."""

    def leaves(self, views: Views, rows: slice) -> bool:
        """Whether it leaves a whole part of the views, in these rows, as it is."""
        return False

    def forward(self, views: Views, draw: Any, own: Own) -> Views:
        if own["share"] == 0:
            return views
        chosen = draw.chosen < own["share"]
        if self.section.sides == "one":
            chosen = chosen & is_first(views)
        parts, start = [], 0
        for pixels in views.parts:
            rows = slice(start, start := start + len(pixels))
            if self.leaves(views, rows):
                parts.append(pixels)
                continue
            with torch.autocast(pixels.device.type, enabled=False):
                parts.append(by_view(chosen[rows], self.change(pixels, draw.rows(rows), own), pixels))
        return views._replace(parts=tuple(parts))


def is_first(views: Views) -> Tensor:
    """(V,) bool: whether no earlier row of its part shows the same image."""
    groups = views.members[:, 0].split([len(part) for part in views.parts])
    return torch.cat([~(own[:, None] == own).tril(-1).any(dim=1) for own in groups])
