"""What discriminator and generator do to each other, both looking through differentiable augmentation."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from synthcl import views
from synthcl.config import Config, ViewsConfig
from synthcl.losses import discriminator_loss, generator_loss, gradient_penalty

AUGMENTATION = ViewsConfig(
    crop_area_min=0.7, jitter_probability=1.0, hue=0.0, grayscale_probability=0.0, blur_probability=0.0
)
"""What D sees at strength 1: mild crops, flips, brightness, contrast and saturation, so that it cannot learn
few images by heart; nothing that would teach G grey or blurred images.

Source: Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training", 2020.
"""


def augmentation_draw(config: Config, count: int, *generators: torch.Generator) -> views.Draw:
    """Draw the augmentation of `count` images a generator; processes that share a batch take their rows of one draw.

    Args:
        config: `config.gan.augment_strength` is the strength.
        count: number of images.
        generators: on the CPU.
    """
    return views.draw(AUGMENTATION, count, config.gan.augment_strength, *generators)


class Shown(NamedTuple):
    """What D sees: the same for its own update and for G's."""

    real: Tensor  # (n, C, H, W) in [0, 1]
    fake: Tensor  # (n, C, H, W) in [0, 1], with the graph that leads to G


def show(real: Tensor, fake: Tensor, draw: views.Draw) -> Shown:
    """Augment images for D.

    Args:
        real: (n, C, H, W) in [0, 1].
        fake: (n, C, H, W) in [0, 1], generated.
        draw: augmentation of the n real images, then of the n generated ones.
    """
    return Shown(*views.apply_to_each([real, fake], [len(real), len(fake)], draw, real.shape[-1]))


def discriminator_objective(discriminator: nn.Module, shown: Shown, config: Config) -> tuple[Tensor, dict[str, Tensor]]:
    """What D minimises: its adversarial loss and, where asked for, a gradient penalty at what it sees.

    Args:
        discriminator: images (n, C, H, W) in [0, 1] -> logits (n,).
        shown: to which no gradient flows.
        config: `config.gan` gives the loss and the penalty's weight (on real images for 'hinge', on both for
            'relativistic').

    Returns:
        The loss, and 0-dim statistics: `order` (share of the pairs of a real and a generated image in which D rates
        the real one higher; 0.5 tells nothing apart), `accuracy` (of the signs of the logits, 0.5 also where a weak
        D gives all of them one sign; `order` where the loss is relativistic and logits have no zero), `real_logit`,
        `fake_logit` and, if weighed, `penalty`.
    """
    gan = config.gan
    penalised = gan.gradient_penalty > 0
    seen = torch.cat(shown).detach()  # (2n, C, H, W)
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
        judged = logits if gan.loss == "relativistic" else real_logits
        penalty = 2 * gradient_penalty(judged, seen)  # a mean over 2n rows; each half's mean is over n
        statistics["penalty"] = penalty.detach()
        loss = loss + gan.gradient_penalty * penalty
    return loss, statistics


def generator_objective(discriminator: nn.Module, shown: Shown, config: Config) -> Tensor:
    """What G minimises against D; its gradient flows through D into `shown.fake`.

    Arguments as in `discriminator_objective`; real images matter for the relativistic loss only.
    """
    if config.gan.loss != "relativistic":
        return generator_loss(discriminator(shown.fake).float(), None, config.gan.loss)
    real_logits, fake_logits = discriminator(torch.cat(shown)).float().chunk(2)
    return generator_loss(fake_logits, real_logits, config.gan.loss)
