"""What terms over pairs of views look at: the views of all processes, and how far any two show the same image."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from synthcl.core import distributed
from synthcl.method.curriculum import AnySchedule
from synthcl.method.curriculum.ramps import Constant
from synthcl.method.objectives.term import TermSection
from synthcl.method.scene import Seen


class PairsSection(TermSection):
    """A regulariser of what the head gives, beside a contrastive loss; players do not ascend it unless asked."""

    weight: AnySchedule = Field(Constant(start=0.02), description="of the loss in the sum; 0 all along builds nothing")
    plays: bool = Field(False, description="whether generators ascend it; else it never reaches an image")


def all_pairs(seen: Seen, head: str) -> tuple[Tensor, Tensor]:
    """Every process sees the whole batch, so that statistics are those of all views; gradients flow to the owners.

    Args:
        seen: this process's views.
        head: whose output is meant.

    Returns:
        (all, dim) float32 raw vectors, and (all, all) float32 `together` of the same views.
    """
    vectors = distributed.gather_with_gradient(seen.head(head).float())
    members, weights = distributed.gather(seen.views.members), seen.views.weights
    return vectors, together(members, None if weights is None else distributed.gather(weights))


def together(members: Tensor, weights: Tensor | None) -> Tensor:
    """How far two views show the same image: 1 for views of one group, sum_ab w_ia w_jb [g_ia = g_jb] for mixed ones.

    Args:
        members: (views, m) int64, groups.
        weights: (views, m) at least 0; None means whole memberships.

    Returns:
        (views, views) float32, symmetric, 0 for a view with itself.
    """
    shared = torch.zeros(len(members), len(members), device=members.device)
    for a, mine in enumerate(members.unbind(1)):
        for b, others in enumerate(members.unbind(1)):
            same = (mine[:, None] == others).float()
            shared = shared + (same if weights is None else same * weights[:, a, None] * weights[:, b])
    return shared.fill_diagonal_(0.0)


def by_membership(members: Tensor, groups: Tensor, belonging: Tensor, itself: Tensor) -> list[Tensor]:
    """How far every view belongs to each group of a view: M_iaj = sum_b w_jb [g_jb = g_ia], and 0 for itself.

    Args:
        members: (views, m) int64, this process's groups.
        groups: (all, m) int64, those of all processes.
        belonging: (all, m) float at least 0, how far each view belongs to each of them.
        itself: (views, all) bool, where both are one view.

    Returns:
        m tensors (views, all), one for each membership a.
    """
    return [
        ((member[:, None, None] == groups) * belonging).sum(dim=2).masked_fill(itself, 0.0)
        for member in members.unbind(1)
    ]
