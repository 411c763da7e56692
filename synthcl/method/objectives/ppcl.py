"""The losses, as pure functions of tensors.

The contrastive losses see the views of all processes: negatives and positives are gathered with
their gradient, and each process returns the mean over its own anchors, so averaging gradients over
processes gives the gradient of the loss over the whole batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from synthcl.core import distributed


def ppcl(embeddings: Tensor, groups: Tensor, temperature: float) -> Tensor:
    """Partially pseudo-labelled contrastive loss: views of one group attract, all others repel.

        mean_i [ -1/|P(i)| sum_{p in P(i)} log softmax_{a != i}(z_i . z_a / temperature)[p] ],
        P(i) = {p != i : g_p = g_i}

    Groups of size two give NT-Xent, class labels as groups give SupCon (L_out).

    Args:
        embeddings: (views, dim) unit-norm, this process's views.
        groups: (views,) int64, equal for views of one real image or of one latent; ids are global over
            processes. A view alone in its group attracts nothing and adds 0 to the mean.
        temperature: above 0.

    Returns:
        0-dim float32 loss.

    Source: Wu et al., "Synthetic Data Can Also Teach", AAAI 2023; Khosla et al., "Supervised
    Contrastive Learning", NeurIPS 2020, eq. 2.
    """
    anchors = embeddings.float()
    everyone = distributed.gather_with_gradient(anchors)  # (all, dim)
    own = torch.arange(len(anchors), device=anchors.device) + distributed.rank() * len(anchors)
    itself = own[:, None] == torch.arange(len(everyone), device=anchors.device)  # (views, all)
    positives = ((groups[:, None] == distributed.gather(groups)) & ~itself).float()

    with torch.autocast(anchors.device.type, enabled=False):  # bfloat16 has two digits; temperatures are small
        similarity = anchors @ everyone.T / temperature
    log_normaliser = similarity.masked_fill(itself, float("-inf")).logsumexp(dim=1)
    count = positives.sum(dim=1)
    attraction = (positives * similarity).sum(dim=1) / count.clamp(min=1)
    return ((log_normaliser - attraction) * (count > 0)).mean()


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
