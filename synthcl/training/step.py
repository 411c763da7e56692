"""The joint step: the paper on one page.

    encoder    minimises  PPCL
    generator  minimises  adversarial(G, D) - hardness * PPCL
    D          minimises  its adversarial loss, judging G only
    G_ema      <- m G_ema + (1 - m) G

Source: Wu et al., "Synthetic Data Can Also Teach: Synthesizing Effective Data for Unsupervised Visual
Representation Learning", AAAI 2023.
"""

from __future__ import annotations

import torch
from torch import Tensor

from synthcl.config.schema import Config
from synthcl.core import distributed
from synthcl.core.device import normalise, resize
from synthcl.core.updates import ema_update, frozen, update
from synthcl.method.curriculum.knobs import Knobs
from synthcl.method.objectives.ppcl import ppcl
from synthcl.method.synthetic.gan.diffaugment import Shown, show
from synthcl.method.synthetic.gan.objectives import discriminator_objective, generator_objective
from synthcl.method.synthetic.gradient_reversal import reverse_gradient
from synthcl.method.views import simclr
from synthcl.training.batch import Batch
from synthcl.training.diagnostics import diagnostics
from synthcl.training.networks import Networks, Optimizers


def joint_step(
    networks: Networks, optimizers: Optimizers, batch: Batch, knobs: Knobs, config: Config
) -> dict[str, Tensor]:
    """One update of every network that learns.

    Returns:
        0-dim tensors on the device, to be averaged and fetched at intervals.
    """
    statistics: dict[str, Tensor] = {}
    for group in optimizers.encoder.param_groups:
        group["lr"] = knobs.learning_rate
    fake, twin = sample(networks, batch, config)

    if optimizers.generator is None or optimizers.discriminator is None or not len(batch.latents):
        update(contrast(networks, batch, fake.detach(), twin, config, statistics), optimizers.encoder)
        return statistics

    norms = torch.zeros(2, device=fake.device)
    for_encoder, for_discriminator = reverse_gradient(fake, knobs.hardness, config.method.hardness_unit, norms)
    assert batch.augmentation is not None
    shown = show(batch.judged, for_discriminator, batch.augmentation)
    update(discriminator_loss(networks, shown, config, statistics), optimizers.discriminator)

    if config.method.update == "alternating":
        update(contrast(networks, batch, fake.detach(), twin, config, statistics), optimizers.encoder)

    deceived = generator_loss(networks, shown, config, statistics)
    if config.method.update == "alternating":
        with frozen(networks.encoder), frozen(networks.projector):
            contrasted = contrast(networks, batch, for_encoder, twin, config, {})
        update(contrasted + deceived, optimizers.generator)
    else:
        contrasted = contrast(networks, batch, for_encoder, twin, config, statistics)
        update(contrasted + deceived, optimizers.encoder, optimizers.generator)

    assert networks.generator is not None
    assert networks.generator_ema is not None
    ema_update(networks.generator_ema, networks.generator, knobs.pair_decay)
    if knobs.hardness > 0:  # else the node that measures them was not passed
        statistics |= {"gan/contrast_gradient": norms[0], "gan/realism_gradient": norms[1]}
    return statistics


def sample(networks: Networks, batch: Batch, config: Config) -> tuple[Tensor, Tensor | None]:
    """G(z) with its graph and, for pairs, G_ema(z) without one, from the same latents, at G's size."""
    if networks.generator is None or not len(batch.latents):
        return batch.judged[:0], None
    with torch.set_grad_enabled(not config.method.frozen):
        fake = networks.generator(batch.latents)  # (latents, C, h, w)
    if not config.method.pair:
        return fake, None
    assert networks.generator_ema is not None
    with torch.no_grad():
        return fake, networks.generator_ema(batch.latents)


def contrast(
    networks: Networks, batch: Batch, fake: Tensor, twin: Tensor | None, config: Config, statistics: dict[str, Tensor]
) -> Tensor:
    """PPCL over two (or four) views of each real image and two (or one) of each synthetic one."""
    method, sets, counts = config.method, [], []
    for images, times in (
        (batch.real, method.views_per_image),
        (fake, method.views_per_sample),
        (twin, method.views_per_sample),
    ):
        if images is not None and len(images):
            sets.append(resize(images.float(), config.data.image_size))
            counts.append(times * len(images))
    seen = simclr.apply_to_each(sets, counts, batch.draw, config.view_size)  # (views, C, s, s) in parts
    features = networks.encoder([normalise(part) for part in seen])  # (views, features)
    embeddings = networks.projector(features)  # (views, dim), unit-norm
    loss = ppcl(embeddings, batch.groups, config.training.temperature)
    statistics["loss/contrast"] = loss.detach()
    centre = distributed.mean(embeddings.detach().float().mean(dim=0))
    statistics["encoder/variance"] = 1 - centre.square().sum()  # total, of unit vectors
    if len(fake):
        diagnostics(features.detach().float(), embeddings.detach().float(), batch, twin is not None, config, statistics)
    return loss


def discriminator_loss(networks: Networks, shown: Shown, config: Config, statistics: dict[str, Tensor]) -> Tensor:
    """D's loss on real and generated images."""
    assert networks.discriminator is not None
    loss, observed = discriminator_objective(networks.discriminator, shown, config.gan)
    statistics |= {"loss/discriminator": loss.detach()} | {f"gan/{name}": value for name, value in observed.items()}
    return loss


def generator_loss(networks: Networks, shown: Shown, config: Config, statistics: dict[str, Tensor]) -> Tensor:
    """G's adversarial loss; D is looked through, not taught."""
    assert networks.discriminator is not None
    with frozen(networks.discriminator):
        loss = generator_objective(networks.discriminator, shown, config.gan)
    statistics["loss/generator"] = loss.detach()
    return loss
