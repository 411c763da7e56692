"""What D and G minimise, seen through the differentiable augmentation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from synthcl.core.updates import frozen
from synthcl.method.synthetic.gan.diffaugment import Augmented
from synthcl.method.synthetic.gan.losses import discriminator_loss, generator_loss, gradient_penalty
from synthcl.method.synthetic.gan.settings import GanConfig


def discriminator_objective(
    discriminator: nn.Module, augmented: Augmented, gan: GanConfig, penalty_weight: float | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """What D minimises: its adversarial loss and, where asked for, a gradient penalty at what it sees.

    Args:
        discriminator: images (n, C, H, W) in [0, 1] -> logits (n,).
        augmented: to which no gradient flows.
        gan: gives the loss, and with it where the penalty looks (at real images for 'hinge', at both for
            'relativistic').
        penalty_weight: of this step, at least 0; None means `gan.gradient_penalty`.

    Returns:
        The loss, and 0-dim statistics: `order` (share of the pairs of a real and a generated image in which D rates
        the real one higher; 0.5 tells nothing apart), `accuracy` (of the signs of the logits, 0.5 also where a weak
        D gives all of them one sign; `order` where the loss is relativistic and logits have no zero), `real_logit`,
        `fake_logit` and, if weighed, `penalty`.
    """
    weight = gan.gradient_penalty if penalty_weight is None else penalty_weight
    penalised = weight > 0
    seen = torch.cat(augmented).detach()  # (2n, C, H, W)
    seen.requires_grad_(penalised)
    logits = discriminator(seen)
    real_logits, fake_logits = logits.float().chunk(2)
    loss = discriminator_loss(real_logits, fake_logits, gan.loss)
    statistics = {"real_logit": real_logits.detach().mean(), "fake_logit": fake_logits.detach().mean()}
    statistics["order"] = (real_logits > fake_logits).float().mean()
    if gan.loss == "relativistic":
        statistics["accuracy"] = statistics["order"]
    else:
        statistics["accuracy"] = ((real_logits > 0).float().mean() + (fake_logits < 0).float().mean()) / 2
    if penalised:
        penalised_logits = logits if gan.loss == "relativistic" else real_logits
        penalty = 2 * gradient_penalty(penalised_logits, seen)  # a mean over 2n rows; each half's mean is over n
        statistics["penalty"] = penalty.detach()
        loss = loss + weight * penalty
    return loss, statistics


def generator_objective(discriminator: nn.Module, augmented: Augmented, gan: GanConfig) -> Tensor:
    """What G minimises against D, which is looked through and not taught; the gradient flows into `augmented.fake`.

    Arguments as in `discriminator_objective`; real images matter for the relativistic loss only.
    """
    with frozen(discriminator):
        if gan.loss != "relativistic":
            return generator_loss(discriminator(augmented.fake).float(), None, gan.loss)
        real_logits, fake_logits = discriminator(torch.cat(augmented)).float().chunk(2)
        return generator_loss(fake_logits, real_logits, gan.loss)
