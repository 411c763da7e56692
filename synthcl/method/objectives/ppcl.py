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
from synthcl.method.objectives.term import Temperature, TermSection
from synthcl.method.scene import Own, Seen, Term


class PpclConfig(TermSection):
    """Views of one group attract, all others repel; `ppcl` has the equation."""

    kind: Literal["ppcl"] = "ppcl"
    temperature: Temperature = Field(Constant(start=0.2), description="of the softmax over similarities")
    within_source: bool = Field(
        False, description="views repel views of their own source alone: real ones real ones, generated ones their like"
    )

    def build(self, dim: int) -> Ppcl:
        return Ppcl(self)


class Ppcl(Term):
    """The contrastive loss of the paper, on unit-length embeddings."""

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {"temperature.start": {"low": 0.07, "high": 0.5, "log": True}}

    def __init__(self, section: PpclConfig) -> None:
        super().__init__()
        self.head, self.plays, self.within_source = section.head, section.plays, section.within_source

    def forward(self, seen: Seen, own: Own) -> Tensor:
        return self.loss(seen, own["temperature"])

    def loss(
        self, seen: Seen, temperature: float, shift: Tensor | None = None, further: Tensor | None = None
    ) -> Tensor:
        """PPCL of what is seen, without views of other sources where they do not count; arguments as of `ppcl`."""
        views, hidden = seen.views, None
        if self.within_source:
            mates = share_a_group(views)
            # A view alone in its group has no loss, and might have nothing left in its softmax.
            hidden = of_another_source(views) & ~mates & (mates.sum(dim=1, keepdim=True) > 1)
        return ppcl(
            seen.embeddings(self.head),
            views.members,
            temperature,
            views.weights,
            views.anchors,
            hidden=hidden,
            shift=shift,
            further=further,
        )


def ppcl(
    embeddings: Tensor,
    members: Tensor,
    temperature: float,
    weights: Tensor | None = None,
    anchors: Tensor | None = None,
    *,
    hidden: Tensor | None = None,
    shift: Tensor | None = None,
    further: Tensor | None = None,
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
        temperature: above 0.
        weights: (views, m) at least 0, of the memberships; None means whole ones.
        anchors: (views,) with mean 1, how much each view counts as an anchor; None means all alike.
        hidden: (views, all) bool, views of all processes that are no negatives of a view; never its positives.
        shift: (views, all) float, added to z_i . z_a / temperature in the denominator.
        further: (views, k) float, z_i . h / temperature of negatives h from elsewhere; -inf is none.

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
    groups = distributed.gather(members)  # (all, m)
    if weights is None and members.shape[1] == 1:
        positives = ((members == groups[:, 0]) & ~itself).float()
        count = positives.sum(dim=1)
        attraction = (positives * similarity).sum(dim=1) / count.clamp(min=1)
        losses = (log_normaliser - attraction) * (count > 0)
    else:
        weights = torch.ones_like(members, dtype=torch.float32) if weights is None else weights.float()
        belonging = distributed.gather(weights)  # (all, m)
        shares = weights / weights.sum(dim=1, keepdim=True)
        losses = torch.zeros_like(log_normaliser)
        for member, share in zip(members.unbind(1), shares.unbind(1), strict=True):
            positives = ((member[:, None, None] == groups) * belonging).sum(dim=2).masked_fill(itself, 0.0)
            count = positives.sum(dim=1)  # below 1 where memberships are
            attraction = (positives * similarity).sum(dim=1) / torch.where(count > 0, count, 1.0)
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
