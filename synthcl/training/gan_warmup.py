"""The GAN learns the unlabelled images once, before any encoder meets it: one step after the other."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from synthcl.config.schema import Config
from synthcl.core import rng
from synthcl.core.device import resize, to_device, to_float
from synthcl.core.errors import UserError
from synthcl.core.updates import ema_update, update
from synthcl.data import ImageSource
from synthcl.method.synthetic.gan.diffaugment import augment, augmentation_draw
from synthcl.method.synthetic.gan.networks import make_discriminator, make_generator
from synthcl.method.synthetic.gan.objectives import discriminator_objective, generator_objective
from synthcl.method.synthetic.gan.settings import GanConfig

SEED = "warm-up"
"""first key of everything random here: every run of a study begins with the same GAN"""
CHECK_STEPS = 50
"""between two looks at the statistics"""

Statistics = dict[str, float]

_PARTS = ("generator", "discriminator", "average", "for_generator", "for_discriminator")


def budget_kimg(gan: GanConfig, available_images: int) -> float:
    """Thousand images that a warm-up shows: `warmup_kimg`, or `warmup_passes_max` passes where those are fewer.

    Args:
        gan: the gan section.
        available_images: number of unlabelled images.

    Example:
        >>> budget_kimg(GanConfig(warmup_kimg=5000, warmup_passes_max=400), 2000)
        800.0
    """
    passes = float("inf") if gan.warmup_passes_max is None else gan.warmup_passes_max
    return min(gan.warmup_kimg, passes * available_images / 1000)


class GanWarmUp:
    """G, D, their optimisers, the averaged G and the step; random numbers are functions of the step."""

    def __init__(self, config: Config, device: torch.device) -> None:
        gan = config.gan
        self.config, self.device, self.step = config, device, 0
        self.statistics: Statistics = {}  # of the last step at which they were looked at
        self.generator, self.discriminator = warmup_networks(config, device)
        self.average = copy.deepcopy(self.generator).requires_grad_(False)
        self.for_generator, self.for_discriminator = (
            torch.optim.Adam(network.parameters(), rate, (gan.beta1, gan.beta2), fused=True)
            for network, rate in (
                (self.generator, gan.warmup_generator_learning_rate),
                (self.discriminator, gan.warmup_discriminator_learning_rate),
            )
        )
        self.decay = 0.5 ** (gan.warmup_batch_images / (1000 * gan.warmup_half_life_kimg))

    def advance(self, images: ImageSource, check: bool) -> None:
        """One step; with `check` the statistics are fetched and must be finite."""
        config, step, device = self.config, self.step, self.device
        batch = config.gan.warmup_batch_images
        chosen = torch.randint(len(images), (batch,), generator=rng.generator(SEED, "images", step))
        real = resize(to_float(images.fetch(chosen).to(device)), config.gan_image_size)  # (n, C, h, w)
        drawn = torch.randn(batch, config.gan.latent_dim, generator=rng.generator(SEED, "latents", step))
        generators = (rng.generator(SEED, f"augment {name}", step) for name in ("real", "fake"))
        augmentation = augmentation_draw(config.gan.augment_strength, batch, *generators)
        augmented = augment(real, self.generator(to_device(drawn, device)), augmentation.to(device))

        penalty = config.gan.penalty_at(step, warmup=True)
        loss, observed = discriminator_objective(self.discriminator, augmented, config.gan, penalty)
        update(loss, self.for_discriminator)
        realism = generator_objective(self.discriminator, augmented, config.gan)
        update(realism, self.for_generator)
        ema_update(self.average, self.generator, self.decay)
        self.step += 1
        if check:
            observed |= {"loss_discriminator": loss, "loss_generator": realism}
            self.statistics = {name: value.item() for name, value in observed.items()}
            _require_finite(self.statistics, step, config)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, and the statistics."""
        parts = {name: getattr(self, name).state_dict() for name in _PARTS}
        return {"step": self.step, "statistics": self.statistics, "parts": parts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        for name in _PARTS:
            getattr(self, name).load_state_dict(state["parts"][name])
        self.step, self.statistics = state["step"], state["statistics"]


def warmup_networks(config: Config, device: torch.device) -> tuple[nn.Module, nn.Module]:
    channels, size = config.data.channels, config.gan_image_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.seed_from(SEED, "initialisation"))
        networks = make_generator(config.gan, channels, size), make_discriminator(config.gan, channels, size)
    generator, discriminator = (network.to(device).to(memory_format=torch.channels_last) for network in networks)
    return generator, discriminator


def _require_finite(statistics: dict[str, float], step: int, config: Config) -> None:
    for name, value in statistics.items():
        if not torch.tensor(value).isfinite():
            raise UserError(
                f"GAN warm-up diverged: {name} is {value} at step {step}; in synthetic.gan, lower "
                f"warmup_generator_learning_rate ({config.gan.warmup_generator_learning_rate:g}) and "
                f"warmup_discriminator_learning_rate ({config.gan.warmup_discriminator_learning_rate:g})"
            )
