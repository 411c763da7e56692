"""One step's inputs: images, and every random draw, made for the whole batch and cut to this process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from synthcl.core import distributed, rng
from synthcl.core.device import to_device, to_float
from synthcl.method.curriculum.knobs import Knobs
from synthcl.method.curriculum.mix import Mix
from synthcl.method.scene import Draw, Source, View


@dataclass
class Batch:
    """This process's share of one step's inputs; every draw was made for the whole batch."""

    real: Tensor
    """(real, C, H, W) float in [0, 1]"""
    groups: Tensor
    """(views,) int64: which views belong together"""
    images: Tensor
    """(views,) int64: position in the data set of the image that is shown; -1 of synthetic ones"""
    draws: dict[str, Draw | None]
    """by view: its random numbers, one row a view"""
    asked: dict[str, tuple[Any, Tensor]]
    """by source, where it has a part in this step: its random numbers, and the real images that it reads"""


def groups_and_order(mix: Mix, views_per_image: int, views_per_latent: int) -> tuple[Tensor, Tensor]:
    """Group ids of this process's views, and their rows among the views of the whole batch.

    A step's views are laid out in blocks: `views_per_image` blocks of the real images, then blocks of
    the latents (G, G, G_ema, G_ema or G, G_ema as a pair, else G, G). Ids and rows are global, so a view
    gets the same group and the same random parameters however many processes share the batch. The ids are those of
    the step: where an epoch ends inside it, an image that is shown twice has two.

    Returns:
        groups (views,) int64 and rows (views,) int64.
    """
    real, latents = torch.arange(mix.real), torch.arange(mix.latents)
    groups, rows, start = [], [], 0
    for ids, blocks in ((real, views_per_image), (latents + mix.real, views_per_latent)):
        mine = distributed.rows(len(ids))
        for _ in range(blocks):
            groups.append(ids[mine])
            rows.append(start + torch.arange(len(ids))[mine])
            start += len(ids)
    return torch.cat(groups), torch.cat(rows)


def make_batch(
    images: Tensor,
    positions: Tensor,
    mix: Mix,
    knobs: Knobs,
    *,
    views: Mapping[str, View],
    sources: Mapping[str, Source],
    views_per_image: int,
    seed: int,
    step: int,
    device: torch.device,
) -> Batch:
    """Draw everything random in a step: latents, views and the discriminator's augmentations.

    Args:
        images: uint8 (n, C, H, W), this process's images for the encoder, then those that the sources read.
        positions: (n,) int64, where they stand in the data set.
        mix: what the step is made of, over all processes.
        knobs: of the step.
        views, sources: which draw.
        views_per_image: views of a real image.
        seed, step: of the run; with them every draw is a function of its arguments.
    """
    own_real = mix.real // distributed.world_size()
    asked: dict[str, tuple[Any, Tensor]] = {}
    factors: dict[str, float] = {}
    views_per_latent, ids = 1, None
    for name, source in sources.items() if mix.latents else ():
        own = torch.arange(mix.latents)[distributed.rows(mix.latents)]
        draw = source.draw(mix.latents, seed, step).rows(own)
        asked[name] = draw.to(device), to_float(images[own_real:])
        views_per_latent, ids = source.views_per_group, source.ids(draw)
        factors[name] = knobs.own(f"synthetic.{name}").get("view_strength_factor", 1.0)
    groups, order = groups_and_order(mix, views_per_image, views_per_latent)
    of_synthetic = torch.full((len(groups) - views_per_image * own_real,), -1)
    if ids is not None:
        of_synthetic = torch.cat([ids] * views_per_latent)
    shown = torch.cat([*[positions[:own_real]] * views_per_image, of_synthetic])
    draws: dict[str, Draw | None] = {}
    of_real, of_latents = views_per_image * mix.real, views_per_latent * mix.latents
    strength: float | Tensor = knobs.view_strength
    if any(factor != 1 for factor in factors.values()):  # else one number does
        counts = torch.tensor([of_real] + [of_latents] * len(factors))
        strength = knobs.view_strength * torch.tensor([1.0, *factors.values()], dtype=torch.float64).repeat_interleave(
            counts
        )
    for name, view in views.items():
        key = "views" if name == "base" else f"views {name}"
        drawn = view.draw(of_real + of_latents, strength, rng.generator(seed, key, step))
        draws[name] = drawn and drawn.rows(order).to(device)
    return Batch(
        real=to_float(images[:own_real]),
        groups=to_device(groups, device),
        images=to_device(shown, device),
        draws=draws,
        asked=asked,
    )
