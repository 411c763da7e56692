"""One step's inputs: images, latents, and every random draw, made for the whole batch and cut to this process."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from synthcl.config.schema import Config
from synthcl.core import distributed, rng
from synthcl.core.device import resize, to_device, to_float
from synthcl.method.curriculum.knobs import Knobs
from synthcl.method.curriculum.mix import Mix
from synthcl.method.synthetic.gan.diffaugment import augmentation_draw
from synthcl.method.views import simclr


@dataclass
class Batch:
    """This process's share of one step's inputs; every draw was made for the whole batch."""

    real: Tensor
    """(real, C, H, W) float in [0, 1]"""
    latents: Tensor
    """(latents, latent_dim) standard normal"""
    real_for_d: Tensor
    """(latents, C, h, w) float in [0, 1], real images at G's size for D"""
    groups: Tensor
    """(views,) int64: which views belong together"""
    draw: simclr.Draw
    """T's parameters, one per view"""
    augmentation: simclr.Draw | None
    """parameters of the augmentation D sees its real images through, then the generated ones"""


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
        mine = distributed.rows(len(ids))
        for _ in range(blocks):
            groups.append(ids[mine])
            rows.append(start + torch.arange(len(ids))[mine])
            start += len(ids)
    return torch.cat(groups), torch.cat(rows)


def make_batch(
    config: Config, knobs: Knobs, mix: Mix, step: int, real: Tensor, real_for_d: Tensor, device: torch.device
) -> Batch:
    """Draw everything random in a step: latents, views and the discriminator's augmentations.

    Args:
        real: uint8 (real / processes, C, H, W), this process's images for the encoder.
        real_for_d: uint8 (latents / processes, C, H, W), this process's real images for D; may be empty.
    """
    seed = config.training.seed
    groups, order = groups_and_order(mix, config)
    total = 2 * config.training.batch_images
    draw = simclr.draw(config.views, total, knobs.view_strength, rng.generator(seed, "views", step))
    latents = torch.randn(mix.latents, config.gan.latent_dim, generator=rng.generator(seed, "latents", step))
    own = distributed.rows(mix.latents)
    augmentation = None
    if len(real_for_d):
        generators = (rng.generator(seed, f"augment {name}", step) for name in ("real", "fake"))
        whole = augmentation_draw(config.gan.augment_strength, mix.latents, *generators)
        augmentation = whole.rows(torch.arange(2 * mix.latents).view(2, -1)[:, own].flatten()).to(device)
    return Batch(
        real=to_float(real),
        latents=to_device(latents[own], device),
        real_for_d=resize(to_float(real_for_d), config.gan_image_size),
        groups=to_device(groups, device),
        draw=draw.rows(order).to(device),
        augmentation=augmentation,
    )
