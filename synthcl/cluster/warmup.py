"""The GANs that trials share, warmed up once each: on this machine, or side by side on the nodes of the cluster."""

from __future__ import annotations

import signal
from collections.abc import Sequence

import torch

from synthcl.cluster import preemption
from synthcl.cluster.remote_warmup import warm_up_on_ray
from synthcl.cluster.resources import gpus_per_worker, resources
from synthcl.config.schema import Config
from synthcl.core.device import use_threads
from synthcl.core.errors import Leaving
from synthcl.data import ImageSource, open_split
from synthcl.runs.gan_cache import CacheEntry, ShowProgress, bar, warm_up
from synthcl.runs.location import below
from synthcl.runs.storage import Storage
from synthcl.training.gan_warmup import Statistics
from synthcl.training.networks import GanState

WORTH_SECONDS = 20.0
"""warm-ups that take less are sooner made here, one after the other, than processes start that can make them"""

CPU = torch.device("cpu")


def warmed_gan(config: Config, images: ImageSource, storage: Storage) -> GanState | None:
    """The GAN that all trials share, from the cache under the storage root or trained now; None when none is needed.

    Where trials get GPUs, the warm-up gets one too, on whichever node has it free. Its state lies under the storage
    root, so that it continues on another node, or by the same command.

    Raises:
        UserError: when the images or the cached file are unusable, or the warm-up diverges.
        KeyboardInterrupt: on notice to leave; the state has been kept.
    """
    return warmed_gans([(config, images)], storage)[0]


def warmed_gans(
    wanted: Sequence[tuple[Config, ImageSource]], storage: Storage, each_seconds: float = 0.0
) -> list[GanState | None]:
    """`warmed_gan` for several sets of images; what is not there is trained side by side where that is sooner.

    On CPUs several share those of this machine, whether they run at the same time or not, and each has as many as a
    trial at least: so a GAN does not depend on how many of the others are there already.

    Args:
        wanted: configurations, which differ in their images only, with these.
        storage: of the run.
        each_seconds: what a warm-up takes, from `WORTH_SECONDS` on side by side; on GPUs they always are.
    """
    root = below(storage.root, "gan") if storage.is_uri else None
    entries = [
        CacheEntry(config, images, storage.shared / "gan", root) if config.needs_gan else None
        for config, images in wanted
    ]
    if missing := list({entry.path: entry for entry in entries if entry and not entry.made}.values()):
        (storage.shared / "gan").mkdir(parents=True, exist_ok=True)
        config, available = missing[0].config, resources()
        gpus = min(1.0, gpus_per_worker(config, available))
        cpus = config.compute.cpus_per_worker
        if not gpus and not config.compute.address:
            cpus = max(cpus, available["CPU"] // len(wanted))
        try:
            if gpus or (len(missing) > 1 and each_seconds > WORTH_SECONDS):
                with bar(True, len(missing)) as show:
                    warm_up_on_ray(missing, cpus, gpus, show)
            else:
                for entry in missing:
                    entry.write(*_warm_up_here(entry, cpus if len(wanted) > 1 else torch.get_num_threads()))
        finally:
            storage.push()
    return [entry.read(CPU) if entry else None for entry in entries]


def _warm_up_here(entry: CacheEntry, cpus: float, progress: bool | ShowProgress = True) -> tuple[GanState, Statistics]:
    images = open_split(entry.config.data, "unlabelled", "cpu").images  # decoded once, where preflight only counts
    threads = torch.get_num_threads()
    use_threads(cpus)
    with preemption.catching_signals(signal.SIGINT, signal.SIGTERM):
        try:
            return warm_up(entry.config, images, CPU, progress, entry.place, preemption.signalled)
        except Leaving:
            raise KeyboardInterrupt from None
        finally:
            torch.set_num_threads(threads)
