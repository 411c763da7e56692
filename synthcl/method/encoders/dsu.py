"""DSU: statistics of feature maps become uncertain, by as much as they differ from view to view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor

from synthcl.method.encoders.style import Stage, Style, StyleSection


class DsuConfig(StyleSection):
    """Mean and deviation of feature maps get noise of the size that they vary by over the batch."""

    kind: Literal["dsu"] = "dsu"

    def build(self, stages: Sequence[Stage]) -> Dsu:
        return Dsu(self, stages)


class Dsu(Style):
    """a_m and a_s are the standard deviations of m and s over the batch, `coefficient` times.

    The gradient passes them, as in the released code. That code draws one chance for a whole batch and stage, and a
    `share` here is one for every view and stage, so that steps are alike.

    Source: Li et al., "Uncertainty Modeling for Out-of-Distribution Generalization", ICLR 2022, eqs. 5 to 10.
    """

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {
        "share.start": {"low": 0.1, "high": 1.0},
        "coefficient.start": {"low": 0.1, "high": 2.0, "log": True},
    }

    def sizes(self, stage: int, deviations: Tensor, lot: Tensor) -> Tensor:
        return deviations
