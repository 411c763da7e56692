"""One step's inputs: images, and every random draw, made for the whole batch and cut to this process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from synthcl.core import distributed, rng
from synthcl.core.device import to_device, to_float
from synthcl.method.curriculum.knobs import Knobs
from synthcl.method.curriculum.mix import Mix
from synthcl.method.encoders.style import Draw as StyleDraw
from synthcl.method.encoders.style import Style
from synthcl.method.scene import Asked, Draw, Source, View
from synthcl.method.synthetic.folder import rows_of_slots
from synthcl.method.views.hard_views import HardViews


@dataclass
class Batch:
    """This process's share of one step's inputs; every draw was made for the whole batch."""

    real: Tensor
    """(real, C, H, W) float in [0, 1]"""
    groups: Tensor
    """(views,) int64: which views belong together"""
    images: Tensor
    """(views,) int64: position in the data set of the image that is shown, or that it was made from; -1 of others"""
    draws: dict[str, Draw | None]
    """by view: its random numbers, one row a view"""
    proposed: dict[str, list[Draw]]
    """by view that chooses: further draws of the base view, one row a view"""
    asked: dict[str, Asked]
    """by source, where it has a part in this step: what it makes its images from"""
    apart: TakenApart | None = None
    """what one term alone looks at; none where no term takes images, or too few are there"""
    style: StyleDraw | None = None
    """one row a view, those apart last; none in a step without perturbed feature maps"""


class TakenApart(NamedTuple):
    """This process's real images whose views one term alone looks at."""

    real: Tensor
    """(n, C, H, W) float in [0, 1]"""
    rows: Tensor
    """(views,) int64: the place of each view among those of all processes"""
    draws: dict[str, Draw | None]
    """by view: its random numbers, one row a view"""


class Layout(Protocol):
    """What the blocks of a source depend on."""

    @property
    def views_per_group(self) -> int: ...

    @property
    def attached(self) -> bool: ...


class Fetched(NamedTuple):
    """What a step shows of a folder of images, this process's share."""

    chosen: Tensor
    """(groups,) int64 position in the folder; -1 where a slot shows its real image"""
    images: Tensor
    """(m, C, S, S) uint8, those of the m slots that show a file"""


def groups_and_order(mix: Mix, views_per_image: int, sources: Mapping[str, Layout]) -> tuple[Tensor, Tensor]:
    """Group ids of this process's views, and their rows among the views of the whole batch.

    A step's views are laid out in blocks: `views_per_image` blocks of the real images, then blocks of each source in
    turn; a GAN's are G, G, G_ema, G_ema or G, G_ema as a pair, else G, G. Ids and rows are global, so a view
    gets the same group and the same random parameters however many processes share the batch. The ids are those of
    the step: where an epoch ends inside it, an image that is shown twice has two. Views of an attached source have the
    ids of their real rows.

    Args:
        mix: of the step.
        views_per_image: of a real image.
        sources: by name, in the order of their blocks; those without groups in the mix have no block.

    Returns:
        groups (views,) int64 and rows (views,) int64.
    """
    blocks = [(torch.arange(mix.real), views_per_image)]
    free = mix.real  # the first id that nobody has
    for name, source in sources.items():
        count = mix.groups.get(name, 0)
        ids = rows_of_slots(count, mix.real) if source.attached else free + torch.arange(count)
        free += 0 if source.attached else count
        blocks.append((ids, source.views_per_group))
    groups, rows, start = [], [], 0
    for ids, repeated in blocks:
        groups += [ids[distributed.rows(len(ids))]] * repeated
        rows.append(start + _rows_of_blocks(len(ids), repeated))
        start += repeated * len(ids)
    return torch.cat(groups), torch.cat(rows)


def _rows_of_blocks(count: int, blocks: int) -> Tensor:
    """This process's rows (n,) int64 among blocks of `count` rows, of each block its share."""
    return torch.cat([block * count + torch.arange(count)[distributed.rows(count)] for block in range(blocks)])


def make_batch(
    images: Tensor,
    positions: Tensor,
    mix: Mix,
    knobs: Knobs,
    *,
    views: Mapping[str, View],
    sources: Mapping[str, Source],
    style: Style | None = None,
    fetched: Mapping[str, Fetched] = MappingProxyType({}),
    views_per_image: int,
    seed: int,
    step: int,
    device: torch.device,
) -> Batch:
    """Draw everything random in a step: latents, views and the discriminator's augmentations.

    Args:
        images: uint8 (n, C, H, W), this process's images for the encoder, those with views apart last, then those
            that the sources read.
        positions: (n,) int64, where they stand in the data set.
        mix: what the step is made of, over all processes.
        knobs: of the step.
        views, sources, style: which draw.
        fetched: of sources that are folders, by name.
        views_per_image: views of a real image.
        seed, step: of the run; with them every draw is a function of its arguments.
    """
    own_real, own_apart = (number // distributed.world_size() for number in (mix.real, mix.apart))
    real, of_images = to_float(images[:own_real]), [positions[:own_real]] * views_per_image
    asked: dict[str, Asked] = {}
    views_and_factors = [(views_per_image * mix.real, 1.0)]
    begin = own_real + own_apart
    for name, source in sources.items():
        if not (count := mix.groups.get(name, 0)):
            continue
        own = torch.arange(count)[distributed.rows(count)]
        whole = source.draw(count, seed, step)
        draw = whole and whole.rows(own)
        read = source.reads_real(count) // distributed.world_size()
        slots = rows_of_slots(len(own), own_real) if source.attached else None
        shown = _shown(fetched[name], real, slots) if name in fetched else None
        asked[name] = Asked(draw and draw.to(device), to_float(images[begin : begin + read]), shown)
        ids = source.ids(draw) if slots is None else positions[:own_real][slots]
        of_images += [torch.full((len(own),), -1) if ids is None else ids] * source.views_per_group
        factor = knobs.own(f"synthetic.{name}").get("view_strength_factor", 1.0)
        views_and_factors.append((source.views_per_group * count, factor))
        begin += read
    groups, order = groups_and_order(mix, views_per_image, sources)
    rows_apart = _rows_of_blocks(mix.apart, views_per_image)
    views_and_factors.append((views_per_image * mix.apart, 1.0))
    shown_images = torch.cat(of_images)
    draws: dict[str, Draw | None] = {}
    draws_apart: dict[str, Draw | None] = {}
    counts = torch.tensor([count for count, _ in views_and_factors])
    total, after = int(counts.sum()), int(counts[:-1].sum())
    factors = torch.tensor([factor for _, factor in views_and_factors], dtype=torch.float64)
    strength: float | Tensor = knobs.view_strength
    if any(factor != 1 for _, factor in views_and_factors):  # else one number does
        strength = knobs.view_strength * factors.repeat_interleave(counts)
    proposed: dict[str, list[Draw]] = {}
    for name, view in views.items():
        for number in range(view.proposals if isinstance(view, HardViews) else 0):
            generator = rng.generator(seed, f"views {name} proposal {number}", step)
            further = views["base"].draw(total, strength, generator)
            assert further is not None, "a base view draws"
            proposed.setdefault(name, []).append(further.rows(order).to(device))
        key = "views" if name == "base" else f"views {name}"
        drawn = view.draw(total, strength, rng.generator(seed, key, step))
        draws[name] = drawn and drawn.rows(order).to(device)
        if mix.apart:
            draws_apart[name] = drawn and drawn.rows(after + rows_apart).to(device)
    perturbed = None
    if style is not None:
        drawn = style.draw(total, knobs.own("encoder.style"), rng.generator(seed, "encoder style", step))
        perturbed = drawn and drawn.rows(torch.cat([order, after + rows_apart])).to(device)
    apart = None
    if mix.apart:
        own = images[own_real : own_real + own_apart]
        apart = TakenApart(to_float(own), to_device(rows_apart, device), draws_apart)
    return Batch(
        real=real,
        groups=to_device(groups, device),
        images=to_device(shown_images, device),
        draws=draws,
        proposed=proposed,
        asked=asked,
        apart=apart,
        style=perturbed,
    )


def _shown(fetched: Fetched, real: Tensor, slots: Tensor | None) -> Tensor:
    """What the slots of a folder show: files, and where there is none the real image of the slot's row.

    Args:
        fetched: of this process.
        real: (n, C, S, S) float, this process's real images.
        slots: (groups,) int64, their rows in them; None of a source whose images are no views of real ones.
    """
    if slots is None:
        return to_float(fetched.images)
    shown = real[to_device(slots, real.device)]
    filled = to_device((fetched.chosen >= 0).nonzero().flatten(), real.device)
    return shown.index_copy(0, filled, to_float(fetched.images).to(shown.dtype))
