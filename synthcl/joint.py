"""The joint step: the paper on one page.

    encoder    minimises  PPCL
    generator  minimises  adversarial(G, D) - hardness * PPCL
    D          minimises  its adversarial loss, judging G only
    G_ema      <- m G_ema + (1 - m) G

Source: Wu et al., "Synthetic Data Can Also Teach: Synthesizing Effective Data for Unsupervised Visual
Representation Learning", AAAI 2023.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthcl import adversary, parallel, rng, views
from synthcl.adversary import Shown
from synthcl.config import Config
from synthcl.curriculum import Knobs, Mix
from synthcl.losses import ppcl
from synthcl.memory import to_device
from synthcl.minmax import fork
from synthcl.models.encoder import normalise


@dataclass
class Networks:
    """The five networks; the GAN's are None in a real-only run."""

    encoder: nn.Module
    projector: nn.Module
    generator: nn.Module | None = None
    generator_ema: nn.Module | None = None
    discriminator: nn.Module | None = None


@dataclass
class Optimizers:
    """One optimiser per adversary; G's and D's are None where they do not learn."""

    encoder: torch.optim.Optimizer
    generator: torch.optim.Optimizer | None = None
    discriminator: torch.optim.Optimizer | None = None


@dataclass
class Batch:
    """This process's share of one step's inputs; every draw was made for the whole batch."""

    real: Tensor
    """(real, C, H, W) float in [0, 1]"""
    latents: Tensor
    """(latents, latent_dim) standard normal"""
    judged: Tensor
    """(latents, C, h, w) float in [0, 1], real images at G's size for D"""
    groups: Tensor
    """(views,) int64: which views belong together"""
    draw: views.Draw
    """T's parameters, one per view"""
    augmentation: views.Draw | None
    """parameters of the augmentation D sees the judged images through, then the generated ones"""


def groups_and_order(mix: Mix, config: Config) -> tuple[Tensor, Tensor]:
    """Group ids of this process's views, and their rows among the views of the whole batch.

    A step's views are laid out in blocks: `views_per_image` blocks of the real images, then blocks of
    the latents (G, G, G_ema, G_ema or G, G_ema as a pair, else G, G). Ids and rows are global, so a view
    gets the same group and the same random parameters however many processes share the batch.

    Returns:
        groups (views,) int64 and rows (views,) int64.
    """
    real, latents = torch.arange(mix.real), torch.arange(mix.latents)
    method = config.method
    groups, rows, start = [], [], 0
    for ids, blocks in ((real, method.views_per_image), (latents + mix.real, method.views_per_latent)):
        mine = parallel.rows(len(ids))
        for _ in range(blocks):
            groups.append(ids[mine])
            rows.append(start + torch.arange(len(ids))[mine])
            start += len(ids)
    return torch.cat(groups), torch.cat(rows)


def make_batch(
    config: Config, knobs: Knobs, mix: Mix, step: int, real: Tensor, judged: Tensor, device: torch.device
) -> Batch:
    """Draw everything random in a step: latents, views and the discriminator's augmentations.

    Args:
        real: uint8 (real / processes, C, H, W), this process's images for the encoder.
        judged: uint8 (latents / processes, C, H, W), this process's real images for D; may be empty.
    """
    seed = config.training.seed
    groups, order = groups_and_order(mix, config)
    total = 2 * config.training.batch_images
    draw = views.draw(config.views, total, knobs.view_strength, rng.generator(seed, "views", step))
    latents = torch.randn(mix.latents, config.gan.latent_dim, generator=rng.generator(seed, "latents", step))
    own = parallel.rows(mix.latents)
    augmentation = None
    if len(judged):
        generators = (rng.generator(seed, f"augment {name}", step) for name in ("real", "fake"))
        whole = adversary.augmentation_draw(config, mix.latents, *generators)
        augmentation = whole.rows(torch.arange(2 * mix.latents).view(2, -1)[:, own].flatten()).to(device)
    return Batch(
        real=to_float(real),
        latents=to_device(latents[own], device),
        judged=resize(to_float(judged), config.gan_image_size),
        groups=to_device(groups, device),
        draw=draw.rows(order).to(device),
        augmentation=augmentation,
    )


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
    fake, twin = synthesise(networks, batch, config)

    if optimizers.generator is None or optimizers.discriminator is None or not len(batch.latents):
        descend(contrast(networks, batch, fake.detach(), twin, config, statistics), optimizers.encoder)
        return statistics

    norms = torch.zeros(2, device=fake.device)
    for_encoder, for_discriminator = fork(fake, knobs.hardness, config.method.hardness_unit, norms)
    assert batch.augmentation is not None
    shown = adversary.show(batch.judged, for_discriminator, batch.augmentation)
    descend(judge(networks, shown, config, statistics), optimizers.discriminator)

    if config.method.update == "alternating":
        descend(contrast(networks, batch, fake.detach(), twin, config, statistics), optimizers.encoder)

    deceived = deceive(networks, shown, config, statistics)
    if config.method.update == "alternating":
        with frozen(networks.encoder), frozen(networks.projector):
            contrasted = contrast(networks, batch, for_encoder, twin, config, {})
        descend(contrasted + deceived, optimizers.generator)
    else:
        contrasted = contrast(networks, batch, for_encoder, twin, config, statistics)
        descend(contrasted + deceived, optimizers.encoder, optimizers.generator)

    assert networks.generator is not None
    assert networks.generator_ema is not None
    follow(networks.generator_ema, networks.generator, knobs.pair_decay)
    if knobs.hardness > 0:  # else the node that measures them was not passed
        statistics |= {"gan/contrast_gradient": norms[0], "gan/realism_gradient": norms[1]}
    return statistics


def synthesise(networks: Networks, batch: Batch, config: Config) -> tuple[Tensor, Tensor | None]:
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
    seen = views.apply_to_each(sets, counts, batch.draw, config.view_size)  # (views, C, s, s) in parts
    features = networks.encoder([normalise(part) for part in seen])  # (views, features)
    embeddings = networks.projector(features)  # (views, dim), unit-norm
    loss = ppcl(embeddings, batch.groups, config.training.temperature)
    statistics["loss/contrast"] = loss.detach()
    centre = parallel.mean(embeddings.detach().float().mean(dim=0))
    statistics["encoder/variance"] = 1 - centre.square().sum()  # total, of unit vectors
    if len(fake):
        watch(features.detach().float(), embeddings.detach().float(), batch, twin is not None, config, statistics)
    return loss


def judge(networks: Networks, shown: Shown, config: Config, statistics: dict[str, Tensor]) -> Tensor:
    """D's loss on real and generated images."""
    assert networks.discriminator is not None
    loss, observed = adversary.discriminator_objective(networks.discriminator, shown, config)
    statistics |= {"loss/discriminator": loss.detach()} | {f"gan/{name}": value for name, value in observed.items()}
    return loss


def deceive(networks: Networks, shown: Shown, config: Config, statistics: dict[str, Tensor]) -> Tensor:
    """G's adversarial loss; D is looked through, not taught."""
    assert networks.discriminator is not None
    with frozen(networks.discriminator):
        loss = adversary.generator_objective(networks.discriminator, shown, config)
    statistics["loss/generator"] = loss.detach()
    return loss


def descend(loss: Tensor, *optimizers: torch.optim.Optimizer) -> None:
    """Backward, mean over processes, step."""
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    loss.backward()
    parallel.average_gradients(
        parameter for optimizer in optimizers for group in optimizer.param_groups for parameter in group["params"]
    )
    for optimizer in optimizers:
        optimizer.step()


@torch.no_grad()
def follow(slow: nn.Module, fast: nn.Module, decay: float) -> None:
    """slow <- decay * slow + (1 - decay) * fast, buffers copied."""
    torch._foreach_lerp_(list(slow.parameters()), list(fast.parameters()), 1 - decay)
    for buffer, source in zip(slow.buffers(), fast.buffers(), strict=True):
        buffer.copy_(source)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Forward passes inside take no gradient to the module's parameters, only through them."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


@torch.no_grad()
def watch(
    features: Tensor, embeddings: Tensor, batch: Batch, paired: bool, config: Config, statistics: dict[str, Tensor]
) -> None:
    """Measure whether the adversary plays fair.

    `synthetic/pair_similarity`: mean cosine of the embeddings of G(z) and G_ema(z), high when pairs are easy.
    `synthetic/realism_gap`: squared distance of means plus that of standard deviations between synthetic and
    real features, over the real features' total variance (a diagonal Frechet distance); 0 is indistinguishable.
    `synthetic/diversity`: covariance over latents of the features of two views of a latent, of G(z) where it has
    two, over the real features' total variance; 0 is a collapsed G. (Views alone give one and the same image a quarter
    of the variance of real ones.)
    """
    real_views = len(batch.real) * config.method.views_per_image
    latents = len(batch.latents)
    if paired:
        of_generator, of_average = embeddings[real_views:].view(2, -1, latents, embeddings.shape[1])
        statistics["synthetic/pair_similarity"] = (of_generator[0] * of_average[0]).sum(dim=1).mean()
    if real_views > 1:
        real, synthetic = parallel.gather(features[:real_views]), parallel.gather(features[real_views:])
        deviation_real, deviation_synthetic = real.std(dim=0, correction=0), synthetic.std(dim=0, correction=0)
        total = deviation_real.square().sum().clamp(min=1e-12)
        gap = (real.mean(dim=0) - synthetic.mean(dim=0)).square() + (deviation_real - deviation_synthetic).square()
        statistics["synthetic/realism_gap"] = gap.sum() / total
        first, second, *_ = synthetic.view(parallel.world_size(), -1, latents, synthetic.shape[1]).transpose(0, 1)
        both = (first - first.mean(dim=(0, 1))) * (second - second.mean(dim=(0, 1)))  # (processes, latents, features)
        statistics["synthetic/diversity"] = both.mean(dim=(0, 1)).sum() / total


def to_float(images: Tensor) -> Tensor:
    """uint8 [0, 255] to float32 [0, 1]."""
    return images.float() / 255


def resize(images: Tensor, size: int) -> Tensor:
    """Images at `size` pixels a side, antialiased, differentiable."""
    if images.shape[-1] == size or not len(images):
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True)
