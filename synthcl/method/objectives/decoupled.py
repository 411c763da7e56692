"""Decoupled mixing: the two images of a mixed view do not compete with each other.

Source: Liu et al., "Harnessing Hard Mixed Samples with Decoupled Regularizer", NeurIPS 2023.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from synthcl.core import distributed
from synthcl.core.plugin import Fraction
from synthcl.method.curriculum import AnySchedule
from synthcl.method.curriculum.ramps import Constant
from synthcl.method.objectives.pairs import by_membership
from synthcl.method.objectives.term import Temperature, TermSection
from synthcl.method.scene import Own, Seen, Term


class DecoupledConfig(TermSection):
    """Beside ppcl, for mixed views: each of a view's images attracts it as if the other were not in the batch."""

    kind: Literal["decoupled"] = "decoupled"
    weight: AnySchedule = Field(
        Constant(start=0.1),
        description="of the loss in the sum; the paper has 0.1 for pasted boxes, 0.01 for mixup",
    )
    temperature: Temperature = Field(Constant(start=0.2), description="of the softmax over similarities")
    power: Fraction = Field(0.5, description="of the weight with which a membership counts")
    mode: Literal["both", "more", "less"] = Field(
        "both", description="memberships that count: all, those of half a view and more, or of half and less"
    )

    def build(self, dim: int) -> Decoupled:
        return Decoupled(self)


class Decoupled(Term):
    """Views that are not mixed add nothing."""

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {
        "weight.start": {"low": 0.01, "high": 0.5, "log": True},
        "power": {"low": 0.0, "high": 1.0},
    }

    def __init__(self, section: DecoupledConfig) -> None:
        super().__init__()
        self.plays, self._section = section.plays, section

    def forward(self, seen: Seen, own: Own) -> Tensor:
        views, section = seen.views, self._section
        embeddings = seen.embeddings(section.head)
        if views.weights is None:
            return 0.0 * embeddings.float().sum()
        losses = decoupled(embeddings, views.members, views.weights, own["temperature"], section.power, section.mode)
        return (losses if views.anchors is None else views.anchors * losses).mean()


def decoupled(
    embeddings: Tensor, members: Tensor, weights: Tensor, temperature: float, power: float = 0.5, mode: str = "both"
) -> Tensor:
    """Attraction of mixed views to each of their images, without those that show only its rivals.

        sum_a v_ia^power (log sum_{k != i, k not in R_ia} exp(s_ik) - sum_j M_iaj s_ij / C_ia),   s_ij = z_i . z_j / t,

    over memberships a with weight of views that have weight in another group too; v, M and C as in `ppcl`. R_ia are the
    views that belong to another group of i and not to a's.

    Args:
        embeddings: (views, dim) unit-norm, this process's views.
        members: (views, m) int64, groups; ids are global over processes.
        weights: (views, m) at least 0.
        temperature: above 0.
        power: in [0, 1].
        mode: 'both', or memberships with v of at least ('more') or at most ('less') one half.

    Returns:
        (views,) float32 losses.

    Source: Liu et al., NeurIPS 2023, eq. 5, with groups of views in place of classes; a view's weights may be equal.
    """
    own, weights = embeddings.float(), weights.float()
    everyone = distributed.gather_with_gradient(own)  # (all, dim)
    groups, belonging = distributed.gather(members), distributed.gather(weights)  # (all, m)
    rows = torch.arange(len(own), device=own.device) + distributed.rank() * len(own)
    itself = rows[:, None] == torch.arange(len(everyone), device=own.device)  # (views, all)
    with torch.autocast(own.device.type, enabled=False):
        similarity = own @ everyone.T / temperature
    shares = weights / weights.sum(dim=1, keepdim=True)  # (views, m)
    positives = by_membership(members, groups, belonging, itself)
    losses = torch.zeros_like(shares[:, 0])
    for a, member in enumerate(members.unbind(1)):
        others = (members != member[:, None]) & (weights > 0)  # (views, m): memberships in other groups
        rivals = torch.zeros_like(itself)
        for b, of_other in enumerate(positives):
            rivals = rivals | (others[:, b, None] & (of_other > 0))
        rivals = rivals & (positives[a] == 0)
        log_normaliser = similarity.masked_fill(itself | rivals, float("-inf")).logsumexp(dim=1)
        count = positives[a].sum(dim=1)
        attraction = (positives[a] * similarity).sum(dim=1) / torch.where(count > 0, count, 1.0)
        counts = others.any(dim=1) & (weights[:, a] > 0) & (count > 0)
        if mode != "both":
            counts = counts & (shares[:, a] >= 0.5 if mode == "more" else shares[:, a] <= 0.5)
        loss = shares[:, a] ** power * (log_normaliser - attraction)
        losses = losses + torch.where(counts, loss, 0.0)
    return losses
