"""The losses, as pure functions of tensors.

The contrastive losses see the views of all processes: negatives and positives are gathered with
their gradient, and each process returns the mean over its own anchors, so averaging gradients over
processes gives the gradient of the loss over the whole batch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from synthcl import parallel


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
    everyone = parallel.gather_with_gradient(anchors)  # (all, dim)
    own = torch.arange(len(anchors), device=anchors.device) + parallel.rank() * len(anchors)
    itself = own[:, None] == torch.arange(len(everyone), device=anchors.device)  # (views, all)
    positives = ((groups[:, None] == parallel.gather(groups)) & ~itself).float()

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
    images = torch.arange(len(first), device=first.device) + parallel.rank() * len(first)
    return ppcl(torch.cat([first, second]), torch.cat([images, images]), temperature)


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor, kind: str) -> Tensor:
    """What D minimises.

    Args:
        real_logits: (n,) D's logits of real images.
        fake_logits: (n,) D's logits of generated images.
        kind: 'hinge' (Lim and Ye 2017) or 'relativistic' (pairwise: Jolicoeur-Martineau 2018; R3GAN,
            Huang et al. 2024, eq. 2).
    """
    if kind == "hinge":
        return F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()
    return F.softplus(fake_logits - real_logits).mean()


def generator_loss(fake_logits: Tensor, real_logits: Tensor | None, kind: str) -> Tensor:
    """What G minimises; arguments as in `discriminator_loss`, the real logits for 'relativistic' only."""
    if kind == "hinge":
        return -fake_logits.mean()
    assert real_logits is not None, "the relativistic loss compares with real logits"
    return F.softplus(real_logits - fake_logits).mean()


def gradient_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """Half the mean squared norm of D's gradient at the images: R1 on real ones, R2 on generated ones.

    Args:
        logits: (n,) D's logits of `images`.
        images: (n, C, H, W) that require a gradient.

    Source: Mescheder et al., "Which Training Methods for GANs do actually Converge?", 2018, eq. 9.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean() / 2
