"""Soft positives: a view that lies far from the others of its group attracts them less.

Source: after Wang et al., "Unilaterally Aggregated Contrastive Learning with Hierarchical Augmentation for Anomaly
Detection", ICCV 2023 (UniCon-HA).
"""

from __future__ import annotations

import torch
from torch import Tensor

from synthcl.core import distributed
from synthcl.method.objectives.pairs import by_membership


@torch.no_grad()
def soft_positives(embeddings: Tensor, members: Tensor, weights: Tensor | None, temperature: float) -> Tensor:
    """How much each view counts as a positive of its groups, over the one that counts most there.

        e_ia = sum_{j != i} M_iaj exp(z_i . z_j / temperature),   M as in `ppcl`

    A loss that divides by the sum of a group's weights takes them for any multiple of them, so they need no sum of 1.
    Two views of a group lie equally far from each other, and both have 1; so have all where the temperature is high.
    The view itself is left out of the sum: there are hundreds in the paper's, which one among them does not change, and
    among three views the largest summand would be the same for all of them.

    Args:
        embeddings: (views, dim) unit-norm, this process's views.
        members: (views, m) int64, groups; ids are global over processes.
        weights: (views, m) at least 0, of the memberships; None means whole ones.
        temperature: at least 0.05, below which distant views have no float32.

    Returns:
        (views, m) float32 in [0, 1] without gradient; 0 for a view alone in its group.

    Source: Wang et al., ICCV 2023, section 3.2. Equation 6 there has the weights within the logarithm, where constants
    change no gradient but by a factor; they stand outside here, as its text says.

    Example:
        >>> three = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> soft_positives(three, torch.zeros(3, 1, dtype=torch.int64), None, temperature=0.5)[:, 0]
        tensor([1.0000, 1.0000, 0.2384])
    """
    own = embeddings.detach().float()
    everyone, groups = distributed.gather(own), distributed.gather(members)
    weights = torch.ones_like(members, dtype=torch.float32) if weights is None else weights.float()
    belonging = distributed.gather(weights)  # (all, m)
    rows = torch.arange(len(own), device=own.device) + distributed.rank() * len(own)
    itself = rows[:, None] == torch.arange(len(everyone), device=own.device)  # (views, all)
    with torch.autocast(own.device.type, enabled=False):
        near = ((own @ everyone.T - 1) / temperature).exp()  # at most 1
    shared = by_membership(members, groups, belonging, itself)
    near = torch.stack([(of_group * near).sum(dim=1) for of_group in shared], dim=1)  # (views, m)
    there = distributed.gather(near.masked_fill(weights == 0, 0.0))  # (all, m)
    largest = torch.stack(
        [((member[:, None, None] == groups) * there).flatten(1).amax(dim=1) for member in members.unbind(1)], dim=1
    )
    return near / torch.where(largest > 0, largest, 1.0)
