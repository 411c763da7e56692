"""Latents chosen among candidates by how real D finds their images, in proportion to e^(D(G(z)) / temperature).

No gradient comes through the choice: what is kept is as if it had been drawn at once.

Source: the choice after Bradley and Terry of Ferbach et al., "Self-Consuming Generative Models with Curated Data
Provably Optimize Human Preferences", NeurIPS 2024, with D in place of people.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from synthcl.core import rng
from synthcl.core.device import to_device
from synthcl.core.updates import evaluating, frozen


class Candidates(NamedTuple):
    """The random numbers of a choice among K candidates for each of n latents, the first of which is drawn anyway."""

    others: Tensor  # (n, K - 1, latent_dim) standard normal
    gumbel: Tensor  # (n, K) standard Gumbel

    def rows(self, indices: Tensor) -> Candidates:
        return Candidates(self.others[indices], self.gumbel[indices])

    def to(self, device: torch.device | str) -> Candidates:
        return Candidates(to_device(self.others, device), to_device(self.gumbel, device))


def drawn(number: int, groups: int, latent_dim: int, seed: int, step: int) -> Candidates:
    """Those of a step over all processes; a function of its arguments alone.

    Args:
        number: K, at least 2.
        groups: n, latents to choose.
        latent_dim: of each.
        seed, step: of the run.
    """
    others = torch.randn(groups, number - 1, latent_dim, generator=rng.generator(seed, "candidates", step))
    waits = torch.empty(groups, number).exponential_(generator=rng.generator(seed, "choice of candidates", step))
    return Candidates(others, -waits.log())


def chosen(rewards: Tensor, gumbel: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """One of each row, in proportion to e^(reward / temperature).

    The largest sum of a logarithm of a probability and a number of Gumbel's distribution is a draw with that
    probability, so that a choice is a function of its arguments.

    Args:
        rewards: (n, K) of any scale; what is added to all of a row changes nothing.
        gumbel: (n, K) standard Gumbel.
        temperature: above 0; towards 0 the best is taken, and a large one chooses at random.

    Returns:
        (n,) int64 in [0, K), and 0-dim, the mean entropy of the n choices over that of a choice at random, in [0, 1].

    Example:
        >>> rewards = torch.tensor([[0.0, 2.0, 1.0]])
        >>> chosen(rewards, torch.zeros(1, 3), temperature=0.001)
        (tensor([1]), tensor(0.))
    """
    scaled = (rewards - rewards.amax(dim=1, keepdim=True)) / temperature  # the best has 0, however cold it is
    entropy = torch.special.entr(scaled.softmax(dim=1)).sum(dim=1).mean()
    return (scaled + gumbel).argmax(dim=1), entropy / math.log(rewards.shape[1])


def kept(
    latents: Tensor, candidates: Candidates, generator: nn.Module, discriminator: nn.Module, temperature: float
) -> tuple[Tensor, Tensor]:
    """The latents whose images a step shows.

    Both networks are in evaluation mode, so that spectral normalisation and whatever else a pass updates stay as they
    are. They hold still, since autocast in torch 2.9 keeps the copies of weights for later passes, and those that are
    made here would have no gradient.

    Args:
        latents: (n, latent_dim), the first candidate of each.
        candidates: the others, and the numbers that choose.
        generator: latents (m, latent_dim) -> images (m, C, h, w) in [0, 1].
        discriminator: images -> logits (m,), large for real; it sees them without augmentation.
        temperature: above 0.

    Returns:
        (n, latent_dim), and 0-dim, the entropy as of `chosen`.
    """
    together = torch.cat([latents[:, None], candidates.others], dim=1)  # (n, K, latent_dim)
    with torch.no_grad(), frozen(generator), frozen(discriminator), evaluating(generator, discriminator):
        logits = discriminator(generator(together.flatten(0, 1)))  # (n K,)
    choice, entropy = chosen(logits.float().view_as(candidates.gumbel), candidates.gumbel, temperature)
    return together.take_along_dim(choice[:, None, None], dim=1).squeeze(1), entropy
