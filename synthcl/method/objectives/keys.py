"""PPCL with keys in place of the other views: queries of one network against targets that take no gradient."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthcl.core import distributed
from synthcl.method.objectives.pairs import by_membership
from synthcl.method.scene import Views

MOST_IMAGES = 4
"""of a view that a bank remembers: two mixers after each other"""


class Others(NamedTuple):
    """Negatives from outside the batch."""

    keys: Tensor
    """(K, dim) unit-norm"""
    hidden: Tensor
    """(views, K) bool: not a negative of this view"""


def ppcl_to_keys(
    queries: Tensor, keys: Tensor, views: Views, temperature: float, others: Others | None = None
) -> Tensor:
    """Queries attract the keys of their groups and repel all others.

    As `ppcl`, with s_ij = q_i . k_j / t: positives are the keys of the other views of i's groups, in proportion to what
    they share, and the softmax goes over all keys of the batch but i's own, and over `others`. A key of another group
    that shows one of i's images is in neither.

    Args:
        queries: (views, dim) unit-norm, this process's.
        keys: (views, dim) unit-norm of the same views, without gradient.
        views: which of them belong together, and what they show.
        temperature: above 0.
        others: further negatives; None means none.

    Returns:
        (views,) float32 losses; a view alone in its group has 0.

    Source: He et al., CVPR 2020, eq. 1; keys of the same batch as negatives as in Chen et al., "An Empirical Study of
    Training Self-Supervised Vision Transformers", ICCV 2021.
    """
    own, everyone = queries.float(), distributed.gather(keys.detach().float())
    members = views.members
    weights = torch.ones_like(members, dtype=torch.float32) if views.weights is None else views.weights.float()
    groups, belonging = distributed.gather(members), distributed.gather(weights)  # (all, m)
    rows = torch.arange(len(own), device=own.device) + distributed.rank() * len(own)
    itself = rows[:, None] == torch.arange(len(everyone), device=own.device)  # (views, all)
    positives = by_membership(members, groups, belonging, itself)
    of_group = sum((shared * weight[:, None] for shared, weight in zip(positives, weights.unbind(1), strict=True)))
    images = shown(views)
    twins = same_image(images, distributed.gather(images)) & (of_group == 0)
    with torch.autocast(own.device.type, enabled=False):
        similarity = own @ everyone.T / temperature
        logits = [similarity.masked_fill(itself | twins, float("-inf"))]
        if others is not None:
            logits.append((own @ others.keys.T / temperature).masked_fill(others.hidden, float("-inf")))
    log_normaliser = torch.cat(logits, dim=1).logsumexp(dim=1)
    shares = weights / weights.sum(dim=1, keepdim=True)
    losses = torch.zeros_like(log_normaliser)
    for shared, share in zip(positives, shares.unbind(1), strict=True):
        count = shared.sum(dim=1)
        attraction = (shared * similarity).sum(dim=1) / torch.where(count > 0, count, 1.0)
        losses = losses + torch.where(count > 0, share * (log_normaliser - attraction), 0.0)
    return losses


def mean_over_anchors(losses: Tensor, views: Views) -> Tensor:
    """0-dim mean of (views,) losses, by how much each view counts."""
    return (losses if views.anchors is None else views.anchors * losses).mean()


def shown(views: Views) -> Tensor:
    """(views, m) int64: images that a view shows any part of; -1 elsewhere."""
    if views.images is None:
        return torch.full_like(views.members, -1)
    return views.images if views.weights is None else views.images.masked_fill(views.weights == 0, -1)


def same_image(images: Tensor, others: Tensor) -> Tensor:
    """Whether two views show an image in common: (views, others) bool.

    Args:
        images: (views, m) int64; -1 equals nothing.
        others: (others, k) int64.
    """
    mine = images.masked_fill(images == -1, -(2**62))
    return (mine[:, None, :, None] == others[None, :, None, :]).flatten(2).any(dim=2)


class Bank(nn.Module):
    """The last so many keys with the images that they show; the same however many processes fill it.

    Args:
        size: keys.
        dim: of a key.
    """

    keys: Tensor
    images: Tensor
    filled: Tensor
    place: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("keys", torch.zeros(size, dim))
        self.register_buffer("images", torch.full((size, MOST_IMAGES), -1))
        self.register_buffer("filled", torch.zeros(size, dtype=torch.bool))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))

    def hidden(self, images: Tensor) -> Tensor:
        """Keys that are none yet, or show one of these images (views, m): (views, size) bool."""
        return same_image(images, self.images) | ~self.filled

    @torch.no_grad()
    def push(self, keys: Tensor, views: Views) -> None:
        """Put the keys (views, dim) of all processes in place of the oldest, those of a step in order of groups."""
        size, images = len(self.keys), shown(views)
        if not size:
            return
        if images.shape[1] > MOST_IMAGES and views.weights is not None:
            images = images.gather(1, views.weights.topk(MOST_IMAGES, dim=1).indices)
        images = F.pad(images, (0, MOST_IMAGES - images.shape[1]), value=-1)
        order = distributed.gather(views.members[:, 0]).argsort(stable=True)
        keys, images = (distributed.gather(each)[order][-size:] for each in (keys.detach().float(), images))
        places = (self.place + torch.arange(len(keys), device=keys.device)) % size
        self.keys.index_copy_(0, places, keys)
        self.images.index_copy_(0, places, images)
        self.filled.index_fill_(0, places, True)
        self.place.copy_((self.place + len(keys)) % size)
