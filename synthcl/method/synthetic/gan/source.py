"""The GAN as a source of synthetic images, and as the player that makes them hard.

generator  minimises  adversarial(G, D) - hardness * (the terms that play - teacher * the same of the slow encoder)
D          minimises  its adversarial loss, on G(z) alone
G_ema      <- m G_ema + (1 - m) G
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from synthcl.core import rng
from synthcl.core.device import resize, to_device
from synthcl.core.updates import ema_update, update
from synthcl.method.scene import Asked, Made, Own, Seen, Source, Statistics
from synthcl.method.synthetic.gan.candidates import Candidates, drawn, kept
from synthcl.method.synthetic.gan.diffaugment import Augmented, augment, augmentation_draw
from synthcl.method.synthetic.gan.objectives import discriminator_objective, generator_objective
from synthcl.method.synthetic.gan.settings import GanConfig
from synthcl.method.synthetic.gradient_reversal import reverse_gradient
from synthcl.method.synthetic.teacher import Teacher
from synthcl.method.views import simclr


@dataclass
class GanNetworks:
    """The three networks, and an optimiser for each of the two that learn; None where they don't."""

    generator: nn.Module
    generator_ema: nn.Module
    discriminator: nn.Module
    for_generator: torch.optim.Optimizer | None = None
    for_discriminator: torch.optim.Optimizer | None = None


class GanDraw(NamedTuple):
    """The random numbers of n latents."""

    latents: Tensor  # (n, latent_dim) standard normal
    augmentation: simclr.Draw | None  # what D sees n real images through, then n generated ones; none of a frozen GAN
    others: Tensor | None = None  # (n, latent_dim) standard normal, towards which G_ema's latents walk
    ids: Tensor | None = None  # (n,) int64 below -1: which latent of the pool each is
    penalty: float = 0.0  # weight of D's gradient penalty at this step
    candidates: Candidates | None = None  # among which, and the latents, are chosen those that are shown

    def rows(self, indices: Tensor) -> GanDraw:
        both = torch.cat([indices, len(self.latents) + indices])
        others, ids = (each if each is None else each[indices] for each in (self.others, self.ids))
        augmentation = self.augmentation and self.augmentation.rows(both)
        candidates = self.candidates and self.candidates.rows(indices)
        return GanDraw(self.latents[indices], augmentation, others, ids, self.penalty, candidates)

    def to(self, device: torch.device | str) -> GanDraw:
        others, ids = (each if each is None else to_device(each, device) for each in (self.others, self.ids))
        augmentation = self.augmentation and self.augmentation.to(device)
        candidates = self.candidates and self.candidates.to(device)
        return GanDraw(to_device(self.latents, device), augmentation, others, ids, self.penalty, candidates)


class Judged(NamedTuple):
    """What D learns from in a step, and G from D."""

    augmented: Augmented  # what both look at
    penalty: float  # weight of D's gradient penalty
    shown: Tensor  # (n, C, H, W) the images that the encoder gets views of
    teacher: Teacher | None  # what bounds how hard they become


class Gan(Source):
    """One latent z gives G(z) and, for pairs, G_ema(z); only G(z) keeps its graph.

    Args:
        name: of the source.
        section: its settings.
        networks: G, G_ema and D, with optimisers where they learn.
    """

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {
        "generator_learning_rate.start": {"low": 5e-5, "high": 4e-3, "log": True},
        "discriminator_learning_rate.start": {"low": 5e-5, "high": 4e-3, "log": True},
        "walk.start": {"low": 0.05, "high": 0.8},
        "teacher.start": {"low": 0.1, "high": 2.0},
        "candidates_temperature.start": {"low": 0.1, "high": 10.0, "log": True},
    }

    def __init__(self, name: str, section: GanConfig, networks: GanNetworks) -> None:
        super().__init__()
        self.name, self.section, self.networks = name, section, networks
        self.views_per_group, self.views_per_part = section.views_per_latent, section.views_per_sample
        self.plays = networks.for_discriminator is not None
        self._observed: Statistics = {}

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        assert self.networks.for_generator is not None
        return self.networks.for_generator

    def reads_real(self, groups: int) -> int:
        return groups if self.plays else 0

    def ids(self, draw: GanDraw) -> Tensor | None:
        return draw.ids

    def draw(self, groups: int, seed: int, step: int) -> GanDraw:
        gan = self.section
        shape, ids, others = (groups, gan.latent_dim), None, None
        if gan.pool is None:
            latents = torch.randn(shape, generator=rng.generator(seed, "latents", step))
        else:
            chosen = rng.epoch_indices(gan.pool, step * groups, groups, seed, "pool")
            latents, ids = of_pool(chosen, gan.latent_dim, seed), -2 - chosen
        if gan.walk.bounds[1] > 0:
            others = torch.randn(shape, generator=rng.generator(seed, "latents of a walk", step))
        candidates = None
        if gan.candidates > 1:
            candidates = drawn(gan.candidates, groups, gan.latent_dim, seed, step)
        if not self.plays:
            return GanDraw(latents, None, others, ids, candidates=candidates)
        generators = (rng.generator(seed, f"augment {name}", step) for name in ("real", "fake"))
        augmentation = augmentation_draw(gan.augment_strength, groups, *generators)
        return GanDraw(latents, augmentation, others, ids, gan.penalty_at(step), candidates)

    def make(self, asked: Asked, own: Own) -> Made:
        draw: GanDraw = asked.draw
        self._observed = {}
        if draw.candidates is not None:
            judges, temperature = (self.networks.generator, self.networks.discriminator), own["candidates_temperature"]
            latents, entropy = kept(draw.latents, draw.candidates, *judges, temperature)
            draw, self._observed = draw._replace(latents=latents), {"gan/choice_entropy": entropy}
        with torch.set_grad_enabled(self.plays):
            fake = self.networks.generator(draw.latents)  # (latents, C, h, w)
        slow: tuple[Tensor, ...] = ()
        if self.section.pair:
            with torch.no_grad():
                slow = (self.networks.generator_ema(walked(draw.latents, draw.others, own["walk"])),)
        if draw.augmentation is None:
            return Made((fake, *slow))

        # G(z) goes two ways. What comes back from the encoder has its sign turned and is scaled by the hardness.
        norms = torch.zeros(2, device=fake.device)
        share = own.get("teacher", 0.0)
        teacher = Teacher(share) if share > 0 and own["hardness"] > 0 else None
        hardness, unit = own["hardness"], self.section.hardness_unit
        fake_for_encoder, fake_for_d = reverse_gradient(fake, hardness, unit, norms, teacher)
        if own["hardness"] > 0:  # else the node that measures them was not passed
            self._observed |= {"gan/contrast_gradient": norms[0], "gan/realism_gradient": norms[1]}
        augmented = augment(resize(asked.real, fake.shape[-1]), fake_for_d, draw.augmentation)
        return Made((fake_for_encoder, *slow), Judged(augmented, draw.penalty, fake_for_encoder, teacher))

    def prepare(self, own: Judged) -> None:
        """D learns to tell real from generated images; it and G look at the same augmented ones."""
        networks, gan = self.networks, self.section
        assert networks.for_discriminator is not None
        loss, observed = discriminator_objective(networks.discriminator, own.augmented, gan, own.penalty)
        update(loss, networks.for_discriminator)
        self._observed |= {"loss/discriminator": loss.detach()}
        self._observed |= {f"gan/{name}": value for name, value in observed.items()}

    def restraint(self, own: Judged) -> Tensor:
        """Realism: what G minimises against D."""
        loss = generator_objective(self.networks.discriminator, own.augmented, self.section)
        self._observed |= {"loss/generator": loss.detach()}
        return loss

    def heed(self, own: Judged, slow: Callable[[], Tensor | None]) -> None:
        """The teacher looks at the views of G(z)."""
        if own.teacher is not None and (loss := slow()) is not None:
            own.teacher.look(loss, own.shown)
            self._observed |= {"gan/slow_loss": loss.detach()}

    def after(self, seen: Seen, own: Own) -> None:
        """G_ema follows G."""
        if self.plays and self.name in seen.views.spans:
            ema_update(self.networks.generator_ema, self.networks.generator, own["pair_decay"])

    def measures(self, seen: Seen) -> Statistics:
        return self._observed if self.name in seen.views.spans else {}


def walked(latents: Tensor, others: Tensor | None, distance: float) -> Tensor:
    """Latents some way towards others, standard normal again: sqrt(1 - distance^2) z + distance z'.

    Args:
        latents, others: (n, latent_dim) standard normal; without others, as without a distance, they stay.
        distance: in [0, 1], the square root of 1 less the squared correlation with where they were.

    Source: Jahanian et al., "Generative Models as a Data Source for Multiview Representation Learning", ICLR 2022,
    whose z + w grows the norm; this step has the same distribution again.
    """
    if others is None or distance == 0:
        return latents
    return (1 - distance**2) ** 0.5 * latents + distance * others


def of_pool(chosen: Tensor, latent_dim: int, seed: int) -> Tensor:
    """Latents (n, latent_dim) of the pool of a run, by their numbers (n,) int64."""
    return torch.stack(
        [torch.randn(latent_dim, generator=rng.generator(seed, "latent of the pool", n)) for n in chosen.tolist()]
    )
