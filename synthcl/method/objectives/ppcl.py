"""PPCL, the loss of the paper, and NT-Xent as its special case, as pure functions of tensors.

They see the views of all processes: negatives and positives are gathered with
their gradient, and each process returns the mean over its own anchors, so averaging gradients over
processes gives the gradient of the loss over the whole batch.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from synthcl.core import distributed
from synthcl.method.curriculum.ramps import Constant
from synthcl.method.objectives.negatives import of_another_source, share_a_group
from synthcl.method.objectives.pairs import by_membership
from synthcl.method.objectives.soft_positives import soft_positives
from synthcl.method.objectives.term import Temperature, TermSection
from synthcl.method.scene import Own, Seen, Term


class PpclConfig(TermSection):
    """Views of one group attract, all others repel; `ppcl` has the equation."""

    kind: Literal["ppcl"] = "ppcl"
    temperature: Temperature = Field(Constant(start=0.2), description="of the softmax over similarities")
    within_source: bool = Field(
        False, description="views repel views of their own source alone: real ones real ones, generated ones their like"
    )
    soft_positives: float | None = Field(
        None,
        ge=0.05,
        le=10,
        description="temperature at which a view near the others of its group attracts them more than one far from "
        "them, where they are three or more; none weighs all alike",
    )

    def build(self, dim: int) -> Ppcl:
        return Ppcl(self)


class Ppcl(Term):
    """The contrastive loss of the paper, on unit-length embeddings."""

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {"temperature.start": {"low": 0.07, "high": 0.5, "log": True}}

    def __init__(self, section: PpclConfig) -> None:
        super().__init__()
        self.head, self.plays, self.within_source = section.head, section.plays, section.within_source
        self.soft_positives = section.soft_positives

    def forward(self, seen: Seen, own: Own) -> Tensor:
        return self.loss(seen, own["temperature"])

    def loss(
        self,
        seen: Seen,
        temperature: float | Tensor,
        *,
        shift: Tensor | None = None,
        further: Tensor | None = None,
        price: Tensor | None = None,
    ) -> Tensor:
        """PPCL of what is seen, without views of other sources where they do not count; arguments as of `ppcl`."""
        views, embeddings, hidden, soft = seen.views, seen.embeddings(self.head), None, None
        if self.soft_positives is not None:
            soft = soft_positives(embeddings, views.members, views.weights, self.soft_positives)
        if self.within_source:
            mates = share_a_group(views)
            # A view alone in its group has no loss, and might have nothing left in its softmax.
            hidden = of_another_source(views) & ~mates & (mates.sum(dim=1, keepdim=True) > 1)
        return ppcl(
            embeddings,
            views.members,
            temperature,
            views.weights,
            views.anchors,
            soft=soft,
            hidden=hidden,
            shift=shift,
            further=further,
            price=price,
        )


def ppcl(
    embeddings: Tensor,
    members: Tensor,
    temperature: float | Tensor,
    weights: Tensor | None = None,
    anchors: Tensor | None = None,
    *,
    soft: Tensor | None = None,
    hidden: Tensor | None = None,
    shift: Tensor | None = None,
    further: Tensor | None = None,
    price: Tensor | None = None,
) -> Tensor:
    """Partially pseudo-labelled contrastive loss: views of one group attract, all others repel.

        mean_i [ -1/|P(i)| sum_{p in P(i)} log softmax_{a != i}(z_i . z_a / temperature)[p] ],
        P(i) = {p != i : g_p = g_i}

    Groups of size two give NT-Xent, class labels as groups give SupCon (L_out). A mixed view i belongs to the groups
    g_ia with weights w_ia; each of its memberships is normalised by itself:

        mean_i [ c_i sum_{a: C_ia > 0} w_ia / |w_i| * (-sum_{j != i} M_iaj log softmax(...)[j] / C_ia) ],
        M_iaj = sum_b w_jb [g_jb = g_ia],   C_ia = sum_{j != i} M_iaj

    Args:
        embeddings: (views, dim) unit-norm, this process's views.
        members: (views,) or (views, m) int64, equal for views of one real image or of one latent; ids are global over
            processes. A view alone in its group attracts nothing and adds 0 to the mean.
        temperature: above 0; one number, or (views, all) of pairs.
        weights: (views, m) at least 0, of the memberships; None means whole ones.
        anchors: (views,) with mean 1, how much each view counts as an anchor; None means all alike.
        soft: (views, m) at least 0, how much each view counts as a positive of its groups; None means all alike. It
            stands in M beside w_jb, and changes no view's share of an anchor's loss.
        hidden: (views, all) bool, views of all processes that are no negatives of a view; never its positives.
        shift: (views, all) float, added to z_i . z_a / temperature in the denominator.
        further: (views, k) float, z_i . h / temperature of negatives h from elsewhere; -inf is none.
        price: (views, all) float, what the pair of a view and a positive costs beside its share of the softmax.

    Returns:
        0-dim float32 loss.

    Source: Wu et al., "Synthetic Data Can Also Teach", AAAI 2023; Khosla et al., "Supervised
    Contrastive Learning", NeurIPS 2020, eq. 2; of mixed views, i-Mix (Lee et al., ICLR 2021, eq. 5) is the case of
    one clean key a group.

    Example:
        >>> z = torch.eye(2).repeat(2, 1)                                      # two images, two equal views each
        >>> round(ppcl(z, torch.tensor([0, 1, 0, 1]), temperature=1.0).item(), 4)    # ln(e + 2) - 1
        0.5514
    """
    members = members.view(len(members), -1)  # (views, m)
    own = embeddings.float()
    everyone = distributed.gather_with_gradient(own)  # (all, dim)
    rows = torch.arange(len(own), device=own.device) + distributed.rank() * len(own)
    itself = rows[:, None] == torch.arange(len(everyone), device=own.device)  # (views, all)
    with torch.autocast(own.device.type, enabled=False):  # bfloat16 has two digits; temperatures are small
        similarity = own @ everyone.T / temperature
    logits = similarity if shift is None else similarity + shift
    logits = logits.masked_fill(itself if hidden is None else itself | hidden, float("-inf"))
    logits = logits if further is None else torch.cat([logits, further], dim=1)
    log_normaliser = logits.logsumexp(dim=1)
    pull = similarity if price is None else similarity - price
    groups = distributed.gather(members)  # (all, m)
    if weights is None and soft is None and members.shape[1] == 1:
        positives = ((members == groups[:, 0]) & ~itself).float()
        count = positives.sum(dim=1)
        attraction = (positives * pull).sum(dim=1) / count.clamp(min=1)
        losses = (log_normaliser - attraction) * (count > 0)
    else:
        weights = torch.ones_like(members, dtype=torch.float32) if weights is None else weights.float()
        belonging = distributed.gather(weights if soft is None else weights * soft)  # (all, m)
        shares = weights / weights.sum(dim=1, keepdim=True)
        losses = torch.zeros_like(log_normaliser)
        of_members = by_membership(members, groups, belonging, itself)
        for positives, share in zip(of_members, shares.unbind(1), strict=True):
            count = positives.sum(dim=1)  # below 1 where memberships are
            attraction = (positives * pull).sum(dim=1) / torch.where(count > 0, count, 1.0)
            losses = losses + share * (log_normaliser - attraction) * (count > 0)
    return (losses if anchors is None else anchors * losses).mean()


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Normalised temperature-scaled cross entropy over pairs of views.

    Args:
        first: (images, dim) unit-norm.
        second: (images, dim) unit-norm; row i is the other view of row i of `first`.
        temperature: above 0.

    Source: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", 2020, eq. 1.
    """
    images = torch.arange(len(first), device=first.device) + distributed.rank() * len(first)
    return ppcl(torch.cat([first, second]), torch.cat([images, images]), temperature)
