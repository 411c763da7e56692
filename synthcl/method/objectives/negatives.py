"""Which views of the batch are negatives of which: those of other groups, of every source or of the own one alone."""

from __future__ import annotations

import torch
from torch import Tensor

from synthcl.core import distributed
from synthcl.method.objectives.keys import same_image
from synthcl.method.scene import Views


def share_a_group(views: Views) -> Tensor:
    """(views, all) bool: whether two views have a group in common, as one has with itself."""
    groups = views.members if views.weights is None else views.members.masked_fill(views.weights == 0, -1)
    return same_image(groups, distributed.gather(groups))


def of_another_source(views: Views) -> Tensor:
    """(views, all) bool: whether two views come from different sources, one of which are the real images."""
    mine = torch.zeros_like(views.members[:, 0])
    for number, rows in enumerate(views.spans.values()):
        mine[rows] = number
    return mine[:, None] != distributed.gather(mine)


def negatives(views: Views, within_source: bool = False) -> Tensor:
    """(views, all) bool: views that the loss pushes away from each view.

    Args:
        views: this process's.
        within_source: whether views of other sources are none.
    """
    apart = ~share_a_group(views)
    return apart & ~of_another_source(views) if within_source else apart
