"""The GAN that all trials share, warmed up once: on this machine, or on a node with a GPU."""

from __future__ import annotations

import signal
from functools import partial

import torch

from synthcl.cluster import preemption
from synthcl.cluster.remote_warmup import warm_up_on_gpu
from synthcl.cluster.resources import gpus_per_worker, resources
from synthcl.config.schema import Config
from synthcl.core.errors import Leaving
from synthcl.data import ImageSource, open_split
from synthcl.runs.gan_cache import ShowProgress, cached_gan, warm_up
from synthcl.runs.location import below
from synthcl.runs.storage import Storage
from synthcl.training.gan_warmup import Statistics
from synthcl.training.networks import GanState


def warmed_gan(config: Config, images: ImageSource, storage: Storage) -> GanState | None:
    """The GAN that all trials share, from the cache under the storage root or trained now; None when none is needed.

    Where trials get GPUs, the warm-up gets one too, on whichever node has it free. Its state lies under the storage
    root, so that it continues on another node, or by the same command.

    Raises:
        UserError: when the images or the cached file are unusable, or the warm-up diverges.
        KeyboardInterrupt: on notice to leave; the state has been kept.
    """
    if not config.needs_gan:
        return None
    gpus = min(1.0, gpus_per_worker(config, resources()))
    train = partial(warm_up_on_gpu, config, gpus) if gpus else partial(_warm_up_here, config)
    root = below(storage.root, "gan") if storage.is_uri else None
    gan = cached_gan(config, images, storage.shared / "gan", torch.device("cpu"), train=train, root=root)
    storage.push()
    return gan


def _warm_up_here(config: Config, place: str, progress: ShowProgress) -> tuple[GanState, Statistics]:
    images = open_split(config.data, "unlabelled", "cpu").images  # decoded once, where preflight only counts
    with preemption.catching_signals(signal.SIGINT, signal.SIGTERM):
        try:
            return warm_up(config, images, torch.device("cpu"), progress, place, preemption.signalled)
        except Leaving:
            raise KeyboardInterrupt from None
