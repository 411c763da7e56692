"""What all mixers share: which views are mixed, with which partner, and whose groups they belong to then.

The partner of row i is row i XOR 1 of the same source. Rows are in random order already, so partners are random too,
never lie in another process, and do not depend on the number of processes.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from synthcl.method.curriculum import AnySchedule
from synthcl.method.curriculum.ramps import Constant
from synthcl.method.scene import Own, View, Views
from synthcl.method.views.partial import PartialConfig, is_first


class MixerConfig(PartialConfig):
    """Views that show two images, and belong to the groups of both."""

    share: AnySchedule = Field(Constant(start=0.5), description="of the views that are mixed; 0 all along mixes none")

    @abstractmethod
    def build(self, size: int) -> Mixer:
        """The mixer of views of `size` pixels a side."""


class Mixer(View):
    """Mixes a share of the views in pairs of rows; the number of views stays.

    What `draw` makes has, beside numbers of the mixer's own, `chosen` (n,) uniform in [0, 1), which mixes a view where
    it is below the share, and `kept` (n,) in [0, 1], what a mixed view keeps of its own image.

    Args:
        section: of this mixer.
    """

    site: ClassVar[Literal["mix"]] = "mix"

    def __init__(self, section: MixerConfig) -> None:
        super().__init__()
        self._one_side = section.sides == "one"

    @abstractmethod
    def mix(self, own: Tensor, partner: Tensor, draw: Any) -> Tensor:
        """Views (n, C, s, s) with something of their partners in them, as if all were chosen."""

    def forward(self, views: Views, draw: Any, own: Own) -> Views:
        """The views, each with two sets of memberships: its own and its partner's.

        Raises:
            ValueError: when a part has an odd number of rows.
        """
        if own["share"] == 0:
            return views
        chosen = draw.chosen < own["share"]
        if self._one_side:
            chosen = chosen & is_first(views)
        kept = torch.where(chosen, draw.kept, 1.0)[:, None]  # (V, 1)
        parts, start = [], 0
        for pixels in views.parts:
            rows = slice(start, start := start + len(pixels))
            with torch.autocast(pixels.device.type, enabled=False):
                mixed = self.mix(pixels, _of_partners(pixels), draw.rows(rows))
            parts.append(torch.where(chosen[rows, None, None, None], mixed, pixels))
        weights = torch.ones_like(views.members, dtype=torch.float32) if views.weights is None else views.weights
        return views._replace(
            parts=tuple(parts),
            members=torch.cat([views.members, _of_partners(views.members)], dim=1),
            weights=torch.cat([kept * weights, (1 - kept) * _of_partners(weights)], dim=1),
            images=None if views.images is None else torch.cat([views.images, _of_partners(views.images)], dim=1),
        )


def _of_partners(rows: Tensor) -> Tensor:
    """Row i of the result is row i XOR 1."""
    if len(rows) % 2:
        raise ValueError(f"{len(rows)} rows have a row without a partner")
    return rows.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
