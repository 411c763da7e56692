"""MoCHi: harder negatives, made between a view's hardest ones and on the way from them to the view.

Source: Kalantidis et al., "Hard Negative Mixing for Contrastive Learning", NeurIPS 2020.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from torch.quasirandom import SobolEngine

from synthcl.core import distributed
from synthcl.core.plugin import Count
from synthcl.method.curriculum import AnySchedule
from synthcl.method.curriculum.ramps import Constant
from synthcl.method.curriculum.schedule import Within
from synthcl.method.objectives.keys import same_image, shown
from synthcl.method.objectives.negatives import negatives
from synthcl.method.objectives.ppcl import Ppcl, PpclConfig
from synthcl.method.scene import Own, Seen


class MochiConfig(PpclConfig):
    """PPCL with further negatives in its denominator, mixed from each view's hardest ones; they take no gradient."""

    kind: Literal["mochi"] = "mochi"  # type: ignore[assignment]
    hardest: Count = Field(32, le=1024, description="negatives of a view, the most similar ones, that are mixed")
    between: int = Field(16, ge=0, le=256, description="mixtures of two of them, for each view")
    towards: int = Field(16, ge=0, le=256, description="mixtures of one of them and the view itself, for each view")
    beyond: int = Field(
        0, ge=0, le=256, description="points that lie behind one of them, as seen from the view, for each view"
    )
    reach: float = Field(0.5, gt=0, le=0.5, description="largest share of the view itself in a mixture")
    strength: Annotated[AnySchedule, Within(ge=0, le=1)] = Field(
        Constant(start=1.0), description="how much a mixture counts beside a negative of the batch; 0 is ppcl"
    )

    def build(self, dim: int) -> Mochi:
        return Mochi(self)


class Mochi(Ppcl):
    """At least PPCL, since denominators only grow; where nothing is mixed, PPCL."""

    SPACE: ClassVar[dict[str, dict[str, Any]]] = Ppcl.SPACE | {
        "hardest": {"low": 16, "high": 256, "log": True},
        "between": {"low": 0, "high": 64},
        "towards": {"low": 0, "high": 64},
        "reach": {"low": 0.1, "high": 0.5},
    }

    def __init__(self, section: MochiConfig) -> None:
        super().__init__(section)
        self._hardest, self._reach = section.hardest, section.reach
        for name, number, dimensions in (
            ("_between", section.between, 3),
            ("_towards", section.towards, 2),
            ("_beyond", section.beyond, 2),
        ):
            spread = SobolEngine(dimensions).fast_forward(1).draw(number)  # (number, dimensions) in (0, 1)
            self.register_buffer(name, spread, persistent=False)

    def forward(self, seen: Seen, own: Own) -> Tensor:
        spread = Spread(self._between, self._towards, self._beyond)  # type: ignore[arg-type]
        if own["strength"] == 0 or not sum(map(len, spread)):
            return super().forward(seen, own)
        views, queries = seen.views, seen.embeddings(self.head).float()
        images = shown(views)
        usable = negatives(views, self.within_source) & ~same_image(images, distributed.gather(images))
        with torch.autocast(queries.device.type, enabled=False):
            keys = queries.detach()
            points, there = mixed(keys, distributed.gather(keys), usable, self._hardest, self._reach, spread)
            logits = (points @ queries[:, :, None]).squeeze(2) / own["temperature"] + math.log(own["strength"])
        return self.loss(seen, own["temperature"], further=logits.masked_fill(~there[:, None], float("-inf")))


class Spread(NamedTuple):
    """What takes the place of random numbers, each in [0, 1)."""

    between: Tensor
    """(s, 3): which negative, which other one, and the share of the first"""
    towards: Tensor
    """(s', 2): which negative, and the share of the view"""
    beyond: Tensor
    """(s'', 2): which negative, and how far behind it"""


def mixed(
    queries: Tensor, keys: Tensor, usable: Tensor, hardest: int, reach: float, spread: Spread
) -> tuple[Tensor, Tensor]:
    """Points on the unit sphere around each view's hardest negatives n_1, n_2, ...

        between   norm(a n_i + (1 - a) n_j),   a in (0, 1), j another one
        towards   norm(b q + (1 - b) n_i),     b in (0, reach)
        beyond    norm(q + c (n_i - q)),       c in (1, 1.5)

    Args:
        queries: (views, dim) unit-norm.
        keys: (all, dim) unit-norm.
        usable: (views, all) bool, which keys are negatives of which view.
        hardest: how many of them, the most similar first, are mixed; where there are fewer, all.
        reach: in (0, 0.5], so that no mixture is more of the view than of its negative.
        spread: i, j and shares of the points, the same for all views.

    Returns:
        (views, points, dim) unit-norm, in the order of `spread`; and (views,) bool, whether the view has any negative.

    Source: Kalantidis et al., NeurIPS 2020, section 4, where i, j and shares are random; here they are points of a
    Sobol sequence. `beyond` is the second type of Giakoumoglou and Stathaki, "SynCo: Synthetic Hard Negatives for
    Contrastive Visual Representation Learning", 2024.
    """
    similarity = (queries @ keys.T).masked_fill(~usable, float("-inf"))
    values, order = similarity.topk(min(hardest, len(keys)), dim=1)  # (views, N)
    count = values.isfinite().sum(dim=1, keepdim=True)  # those that are negatives

    def ranks(uniform: Tensor, number: Tensor) -> Tensor:
        return (uniform * number).long()  # (views, points)

    def at(rank: Tensor) -> Tensor:
        return keys[order.gather(1, rank)]  # (views, points, dim)

    first = ranks(spread.between[:, 0], count)
    second = (first + 1 + ranks(spread.between[:, 1], (count - 1).clamp(min=0))) % count.clamp(min=1)
    share = spread.between[:, 2, None]
    between = share * at(first) + (1 - share) * at(second)
    share = reach * spread.towards[:, 1, None]
    towards = share * queries[:, None] + (1 - share) * at(ranks(spread.towards[:, 0], count))
    share = 1 + spread.beyond[:, 1, None] / 2
    beyond = (1 - share) * queries[:, None] + share * at(ranks(spread.beyond[:, 0], count))
    return F.normalize(torch.cat([between, towards, beyond], dim=1), dim=2), count[:, 0] > 0
