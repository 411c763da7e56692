"""SimSiam: predict another view, whose own embedding takes no gradient; neither slow encoder nor negatives.

Source: Chen and He, "Exploring Simple Siamese Representation Learning", CVPR 2021.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from synthcl.core.plugin import Count
from synthcl.method.objectives.byol import Byol, ByolConfig
from synthcl.method.scene import Own, Seen


class SimsiamConfig(ByolConfig):
    """Minus the cosine of what a predictor makes of a view with the other views of its group, which stand still."""

    kind: Literal["simsiam"] = "simsiam"  # type: ignore[assignment]
    hidden: Count = Field(64, description="units of the predictor's hidden layer, a quarter of the projector's")

    def build(self, dim: int) -> Simsiam:
        return Simsiam(self, dim)


class Simsiam(Byol):
    """In [-1, 1]; a view alone in its group has no cosine and counts as 1.

    Source: Chen and He, CVPR 2021, eqs. 3 and 4: -1/2 (cos(p_1, stop z_2) + cos(p_2, stop z_1)).
    """

    needs_slow: ClassVar[bool] = False

    def forward(self, seen: Seen, own: Own) -> Tensor:
        return super().forward(seen, own) / 2 - 1

    def _targets(self, seen: Seen) -> Tensor:
        return seen.head(self._head).detach()
