"""BYOL: predict what a slow encoder makes of another view; nothing repels.

Source: Grill et al., "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning", NeurIPS 2020.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from synthcl.core import distributed
from synthcl.core.plugin import Count
from synthcl.method.objectives.keys import mean_over_anchors
from synthcl.method.objectives.pairs import together
from synthcl.method.objectives.predictor import make_predictor
from synthcl.method.objectives.term import TermSection
from synthcl.method.scene import Own, Seen, Term, Views


class ByolConfig(TermSection):
    """What a predictor makes of a view comes close to the slow encoder's other views; `distances` has the equation."""

    kind: Literal["byol"] = "byol"
    hidden: Count = Field(256, description="units of the predictor's hidden layer")

    def build(self, dim: int) -> Byol:
        return Byol(self, dim)


class Byol(Term):
    """In [0, 4]: 0 where every prediction is right, 4 where it is the opposite."""

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {"hidden": {"low": 32, "high": 1024, "log": True}}
    needs_slow = True

    def __init__(self, section: ByolConfig, dim: int) -> None:
        super().__init__()
        self.plays, self._head = section.plays, section.head
        self.predictor: nn.Module = make_predictor(dim, section.hidden)

    def forward(self, seen: Seen, own: Own) -> Tensor:
        predicted = self.predictor(seen.head(self._head))
        return mean_over_anchors(distances(predicted, self._targets(seen), seen.views), seen.views)

    def _targets(self, seen: Seen) -> Tensor:
        return seen.slow(self._head)


def distances(predicted: Tensor, targets: Tensor, views: Views) -> Tensor:
    """Squared distance of predictions from the targets of the other views of their groups, both of unit length.

        sum_j p_ij |norm(q_i) - norm(t_j)|^2 / sum_j p_ij,   p_ij what two views share

    Args:
        predicted: (views, dim), this process's.
        targets: (views, dim) of the same views, which take no gradient.
        views: which of them belong together; those of a group are in one process.

    Returns:
        (views,) float32 losses; a view alone in its group has 0.

    Source: Grill et al., NeurIPS 2020, eq. 2, both directions.
    """
    with torch.autocast(predicted.device.type, enabled=False):
        own = F.normalize(predicted.float(), dim=1)
        everyone = distributed.gather(F.normalize(targets.detach().float(), dim=1))
        cosines = own @ everyone.T  # (views, all)
    weights = None if views.weights is None else distributed.gather(views.weights.float())
    first = distributed.rank() * len(own)
    pairs = together(distributed.gather(views.members), weights)[first : first + len(own)]
    total = pairs.sum(dim=1)
    return torch.where(total > 0, 2 - 2 * (pairs * cosines).sum(dim=1) / torch.where(total > 0, total, 1.0), 0.0)
