"""The differentiable augmentation through which D and G look at images."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from synthcl.method.views import simclr
from synthcl.method.views.simclr import SimclrConfig

AUGMENTATION = SimclrConfig(
    crop_area_min=0.7, jitter_probability=1.0, hue=0.0, grayscale_probability=0.0, blur_probability=0.0
)
"""What D sees at strength 1: mild crops, flips, brightness, contrast and saturation, so that it cannot learn
few images by heart; nothing that would teach G grey or blurred images.

Source: Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training", 2020.
"""


def augmentation_draw(strength: float, count: int, *generators: torch.Generator) -> simclr.Draw:
    """Draw the augmentation of `count` images a generator; processes that share a batch take their rows of one draw.

    Args:
        strength: 1 is `AUGMENTATION` as it is, 0 leaves images alone.
        count: number of images.
        generators: on the CPU.
    """
    return simclr.draw(AUGMENTATION, count, strength, *generators)


class Augmented(NamedTuple):
    """What D sees: the same for its own update and for G's."""

    real: Tensor  # (n, C, H, W) in [0, 1]
    fake: Tensor  # (n, C, H, W) in [0, 1], with the graph that leads to G


def augment(real: Tensor, fake: Tensor, draw: simclr.Draw) -> Augmented:
    """Augment images for D.

    Args:
        real: (n, C, H, W) in [0, 1].
        fake: (n, C, H, W) in [0, 1], generated.
        draw: augmentation of the n real images, then of the n generated ones.
    """
    return Augmented(*simclr.apply_to_each([real, fake], [len(real), len(fake)], draw, real.shape[-1]))
