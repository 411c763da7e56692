"""How much disk a run needs, known before it begins."""

from __future__ import annotations

import shutil
from typing import cast

import torch
from torch import nn

from synthcl.config.schema import Config
from synthcl.core.errors import UserError
from synthcl.method.synthetic.gan.networks import make_discriminator, make_generator
from synthcl.runs.storage import Storage

_FRAME_BYTES = 2**18
"""names and settings in a checkpoint, a grid of samples beside it"""


def checkpoint_bytes(config: Config) -> int:
    """Size of one checkpoint: weights, and the optimisers' moments for those that learn."""
    parts: list[tuple[nn.Module, int]] = []  # a network and how many numbers are kept for each of its weights
    with torch.device("meta"):
        encoder = config.encoder.build(config.data.channels, config.view_size)
        moments = 2 if config.training.optimizer == "adamw" else 1
        parts += [(encoder, 1 + moments), (config.heads["main"].build(cast(int, encoder.feature_dim)), 1 + moments)]
    if config.needs_gan:
        with torch.device("cpu" if config.gan.generator else "meta"):  # the user's own is run once on two latents
            generator = make_generator(config.gan, config.data.channels, config.gan_image_size)
            discriminator = make_discriminator(config.gan, config.data.channels, config.gan_image_size)
        adam = 0 if config.gan.frozen else 2
        parts += [(generator, 1 + adam), (generator, 1), (discriminator, 1 + adam)]
    return _FRAME_BYTES + sum(_bytes(network, times) for network, times in parts)


def encoder_bytes(config: Config) -> int:
    """Size of an exported encoder."""
    with torch.device("meta"):
        return _FRAME_BYTES + _bytes(config.encoder.build(config.data.channels, config.view_size), 1)


def _bytes(network: nn.Module, times: int) -> int:
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in network.buffers())
    return buffers + times * sum(weight.numel() * weight.element_size() for weight in network.parameters())


def require_space(storage: Storage, config: Config, kept: int, at_a_time: int) -> None:
    """Refuse to begin what would fill the disk; what a bucket holds is not known.

    Args:
        storage: of the run; what is there already counts as spent.
        config: what is trained.
        kept: checkpoints that stay.
        at_a_time: runs beside each other; each writes its next checkpoint before it drops the last.

    Raises:
        UserError: naming what is needed and what is free.
    """
    if storage.is_uri:
        return
    there = next(path for path in (storage.folder, *storage.folder.parents) if path.is_dir())
    spent = sum(file.stat().st_size for file in storage.folder.rglob("*") if file.is_file())
    needed = (kept + 2 * at_a_time) * checkpoint_bytes(config) + encoder_bytes(config) - spent
    free = shutil.disk_usage(there).free
    if needed > free:
        raise UserError(
            f"compute.storage {storage.root!r} has {free / 2**20:.0f} MiB free, {config.name!r} needs "
            f"{needed / 2**20:.0f} MiB: {kept} checkpoints of {checkpoint_bytes(config) / 2**20:.1f} MiB, and two for "
            f"each of {at_a_time} runs at a time; make room, or name another place"
        )
