"""Adversarial losses of logits, and the gradient penalty."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


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
