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
from synthcl.core.device import normalise, resize
from synthcl.core.updates import ema_update, update
from synthcl.method.curriculum.knobs import Knobs
from synthcl.method.objectives.ppcl import ppcl
from synthcl.method.synthetic.gan.diffaugment import augment
from synthcl.method.synthetic.gan.objectives import discriminator_objective, generator_objective
from synthcl.method.synthetic.gradient_reversal import reverse_gradient
from synthcl.method.synthetic.settings import MethodConfig
from synthcl.method.views import simclr
from synthcl.training.batch import Batch
from synthcl.training.diagnostics import of_embeddings, of_synthetic
from synthcl.training.networks import Networks, Optimizers

Statistics = dict[str, Tensor]
"""0-dim tensors on the device, to be averaged and fetched at intervals"""


def joint_step(networks: Networks, optimizers: Optimizers, batch: Batch, knobs: Knobs, config: Config) -> Statistics:
    """One update of every network that learns."""
    for group in optimizers.encoder.param_groups:
        group["lr"] = knobs.learning_rate

    # Synthetic images. One latent z gives a positive pair, G(z) and G_ema(z); only G(z) keeps its graph.
    fake, fake_ema = sample(networks, batch, config.method)
    if optimizers.generator is None or optimizers.discriminator is None or not len(batch.latents):
        loss, statistics = contrast(networks, batch, fake.detach(), fake_ema, config)
        update(loss, optimizers.encoder)
        return statistics
    assert networks.generator is not None
    assert networks.generator_ema is not None
    assert networks.discriminator is not None
    assert batch.augmentation is not None

    # G(z) goes two ways. What comes back from the encoder has its sign turned and is scaled by the hardness.
    norms = torch.zeros(2, device=fake.device)
    fake_for_encoder, fake_for_d = reverse_gradient(fake, knobs.hardness, config.method.hardness_unit, norms)

    # D learns to tell real from generated images; it and G look at the same augmented ones.
    augmented = augment(batch.real_for_d, fake_for_d, batch.augmentation)
    judgement, order = discriminator_objective(networks.discriminator, augmented, config.gan)
    update(judgement, optimizers.discriminator)
    realism = generator_objective(networks.discriminator, augmented, config.gan)

    # One backward pass: the encoder descends PPCL; G descends its realism and, through the reversal, ascends PPCL.
    loss, statistics = contrast(networks, batch, fake_for_encoder, fake_ema, config)
    update(loss + realism, optimizers.encoder, optimizers.generator)
    ema_update(networks.generator_ema, networks.generator, knobs.pair_decay)

    statistics |= {"loss/discriminator": judgement.detach(), "loss/generator": realism.detach()}
    statistics |= {f"gan/{name}": value for name, value in order.items()}
    if knobs.hardness > 0:  # else the node that measures them was not passed
        statistics |= {"gan/contrast_gradient": norms[0], "gan/realism_gradient": norms[1]}
    return statistics


def sample(networks: Networks, batch: Batch, method: MethodConfig) -> tuple[Tensor, Tensor | None]:
    """G(z) with its graph and, for pairs, G_ema(z) without one, from the same latents, at G's size."""
    if networks.generator is None or not len(batch.latents):
        return batch.real_for_d[:0], None
    with torch.set_grad_enabled(not method.frozen):
        fake = networks.generator(batch.latents)  # (latents, C, h, w)
    if not method.pair:
        return fake, None
    assert networks.generator_ema is not None
    with torch.no_grad():
        return fake, networks.generator_ema(batch.latents)


def contrast(
    networks: Networks, batch: Batch, fake: Tensor, fake_ema: Tensor | None, config: Config
) -> tuple[Tensor, Statistics]:
    """PPCL over two (or four) views of each real image and two (or one) of each synthetic one.

    Views of one image, or of one latent, share a group: they attract each other, and repel all others.
    """
    method = config.method
    blocks = [(batch.real, method.views_per_image), (fake, method.views_per_sample)]
    blocks += [] if fake_ema is None else [(fake_ema, method.views_per_sample)]
    images = [resize(part.float(), config.data.image_size) for part, _ in blocks if len(part)]
    counts = [times * len(part) for part, times in blocks if len(part)]
    views = simclr.apply_to_each(images, counts, batch.draw, config.view_size)  # (views, C, s, s) in parts
    features = networks.encoder([normalise(part) for part in views])  # (views, features)
    embeddings = networks.projector(features)  # (views, dim), unit-norm
    loss = ppcl(embeddings, batch.groups, config.training.temperature)

    statistics = {"loss/contrast": loss.detach()} | of_embeddings(embeddings)
    if len(fake):
        real_views = method.views_per_image * len(batch.real)
        statistics |= of_synthetic(features, embeddings, real_views, len(batch.latents), paired=fake_ema is not None)
    return loss, statistics
