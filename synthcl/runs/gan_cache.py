"""The warmed-up GAN of a set of images: trained once, resumable, and cached by content."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from synthcl.config.schema import Config
from synthcl.core import rng
from synthcl.core.atomic import write_whole
from synthcl.core.errors import Leaving, UserError
from synthcl.core.image_grid import grid_png
from synthcl.core.malloc import keep_freed_memory
from synthcl.core.progress import Progress
from synthcl.data import ImageSource
from synthcl.runs import warmup_checkpoint
from synthcl.runs.location import below
from synthcl.training.gan_warmup import CHECK_STEPS, SEED, GanWarmUp, Statistics, budget_kimg, warmup_networks
from synthcl.training.networks import GanState
from synthcl.training.trainer import Pause, never

LOOK_SECONDS = 1.0
"""between two looks whether to leave"""

ShowProgress = Callable[[int, int, Statistics], None]
"""told of images done, images in all and the last statistics, which are empty at first"""


class CacheEntry:
    """Where the warmed-up GAN of a configuration lies: `folder/<key>.safetensors`.

    Beside it lie `<key>.png`, a grid of 64 samples, and `<key>.json`, the settings and the last statistics. The key
    covers the images' content and everything the warm-up reads. Processes that make the same file at once each
    write a temporary one and rename it, so a reader never meets half a file.

    Args:
        config: the gan section and the image sizes.
        images: the unlabelled images.
        folder: of the cache.
        root: folder or URI in which an unfinished warm-up has its state; none means the cache's own folder.
    """

    def __init__(self, config: Config, images: ImageSource, folder: Path, root: str | None = None) -> None:
        self.config, self.images = config, images
        self._key = cache_key(config, images)
        self.path = folder / f"{self._key}.safetensors"
        self.place = below(root or str(folder), f".{self._key}.unfinished")
        """path or URI of the state of an unfinished warm-up"""

    @property
    def made(self) -> bool:
        """Whether it is there."""
        return self.path.is_file()

    def write(self, state: GanState, statistics: Statistics) -> None:
        """Keep what `warm_up` returned, and forget the state of the unfinished one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        device = next(iter(state["generator"].values())).device
        samples = _samples(self.config, state["generator"], device)
        record = {"settings": _settings(self.config, self.images), "statistics": statistics}
        write_whole(self.path.with_suffix(".png"), grid_png(samples, columns=8))
        write_whole(self.path.with_suffix(".json"), json.dumps(record, indent=2))
        tensors = {
            f"{name}.{field}": value.contiguous() for name, part in state.items() for field, value in part.items()
        }
        write_whole(self.path, safetensors.torch.save(tensors))  # last: where it lies, the others do
        warmup_checkpoint.forget(self.place)

    def read(self, device: torch.device) -> GanState:
        """What was written.

        Raises:
            UserError: on an unreadable or foreign file.
        """
        return _read(self.path, self.config, device)


def cached_gan(
    config: Config,
    images: ImageSource,
    folder: Path,
    device: torch.device,
    progress: bool | ShowProgress = True,
) -> GanState:
    """The warmed-up GAN, from its `CacheEntry` or else trained and written there; one that was interrupted continues.

    Args:
        folder: of the cache; made if missing.
        progress: as of `warm_up`.

    Raises:
        UserError: on an unreadable or foreign file, or when the training diverges.
    """
    entry = CacheEntry(config, images, folder)
    if not entry.made:
        folder.mkdir(parents=True, exist_ok=True)
        entry.write(*warm_up(config, images, device, progress, entry.place))
    return entry.read(device)


def cache_key(config: Config, images: ImageSource) -> str:
    """First 16 hex digits of the SHA-256 over everything the warm-up depends on."""
    return hashlib.sha256(json.dumps(_settings(config, images), sort_keys=True).encode()).hexdigest()[:16]


def _settings(config: Config, images: ImageSource) -> dict[str, Any]:
    reads = config.gan.warmup_reads()
    return {
        "images": images.content_key,
        "gan": {name: value for name, value in reads.items() if name != "warmup_passes_max"}
        | {"warmup_kimg": budget_kimg(config.gan, len(images))},
        "image_size": config.gan_image_size,
        "channels": config.data.channels,
        "seed": SEED,
    }


def total_images(config: Config, images: ImageSource) -> int:
    """How many real images a warm-up shows: whole steps of the budget."""
    batch = config.gan.warmup_batch_images
    return round(1000 * budget_kimg(config.gan, len(images)) / batch) * batch


def warm_up(
    config: Config,
    images: ImageSource,
    device: torch.device,
    progress: bool | ShowProgress = True,
    place: str | None = None,
    pause: Pause = never,
) -> tuple[GanState, Statistics]:
    """Train G and D on the unlabelled images alone for `budget_kimg` thousand real images.

    Args:
        config: the gan section and the image sizes; of the training section only how often to keep the state.
        images: the unlabelled images.
        device: where to train.
        progress: whether to show a bar, or what is told instead.
        place: path or URI of the state of an unfinished warm-up. It is kept there every
            `training.checkpoint_minutes`, and the same call continues from it, bit for bit; none keeps nothing.
        pause: asked about once a second whether to leave.

    Returns:
        The averaged generator with the discriminator, and the last statistics.

    Raises:
        UserError: when the training diverges.
        Leaving: when `pause` says so; the state has been kept.
    """
    keep_freed_memory()
    key = cache_key(config, images) if place else ""
    run = _resumed(config, device, place, key)
    batch = config.gan.warmup_batch_images
    steps = total_images(config, images) // batch
    looked = kept = time.monotonic()
    with bar(progress) as show:
        show(run.step * batch, steps * batch, run.statistics)
        while run.step < steps:
            run.advance(images, check=(run.step + 1) % CHECK_STEPS == 0 or run.step + 1 == steps)
            show(run.step * batch, steps * batch, run.statistics)
            now = time.monotonic()
            leaving = False
            if now - looked >= LOOK_SECONDS and run.step < steps:
                looked, leaving = now, pause()
            if place and (leaving or now - kept >= 60 * config.training.checkpoint_minutes) and run.step < steps:
                warmup_checkpoint.keep(place, key, run.state_dict())
                kept = time.monotonic()
            if leaving:
                raise Leaving("told to leave; the GAN warm-up goes on from its checkpoint")
    return {"generator": run.average.state_dict(), "discriminator": run.discriminator.state_dict()}, run.statistics


@contextmanager
def bar(progress: bool | ShowProgress, count: int = 1) -> Iterator[ShowProgress]:
    """What shows how far a warm-up is, or `count` together, here or elsewhere: a bar, nothing, or what is given."""
    if callable(progress):
        yield progress
        return
    with ExitStack() as ends:
        shown: Progress | None = None
        done = 0

        def show(done_images: int, total_images: int, statistics: Statistics) -> None:
            nonlocal shown, done
            if shown is None:
                what = "GAN warm-up" if count == 1 else f"{count} GAN warm-ups"
                shown = ends.enter_context(
                    Progress(what, total_images, "img", percent=True, done=done_images, shown=progress)
                )
                done = done_images
            if statistics:
                shown.describe(note=f"D in order {statistics['order']:.2f}")
            shown.advance(done_images - done)
            done = done_images

        yield show


def _resumed(config: Config, device: torch.device, place: str | None, key: str) -> GanWarmUp:
    """The warm-up as it was kept, or a new one."""
    run = GanWarmUp(config, device)
    if place and (state := warmup_checkpoint.kept(place, key, device)):
        try:
            run.load_state_dict(state)
        except (RuntimeError, ValueError, KeyError, TypeError) as error:  # of other networks than this version makes
            warmup_checkpoint.ignored(place, error)
            return GanWarmUp(config, device)
    return run


@torch.no_grad()
def _samples(config: Config, state: dict[str, Tensor], device: torch.device) -> Tensor:
    generator, _ = warmup_networks(config, device)
    generator.load_state_dict(state)
    latents = torch.randn(64, config.gan.latent_dim, generator=rng.generator(SEED, "samples"))
    return generator.eval()(latents.to(device))  # (64, C, h, w)


def _read(path: Path, config: Config, device: torch.device) -> GanState:
    try:
        tensors = load_file(path, device=str(device))
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is unreadable ({error}); delete it and it will be made anew") from None
    state: GanState = {"generator": {}, "discriminator": {}}
    for name, value in tensors.items():
        network, _, field = name.partition(".")
        state.setdefault(network, {})[field] = value
    try:
        generator, discriminator = warmup_networks(config, torch.device("cpu"))
        generator.load_state_dict(state["generator"])
        discriminator.load_state_dict(state["discriminator"])
    except RuntimeError:
        raise UserError(
            f"{path} does not hold this generator and discriminator; delete it and it will be made anew"
        ) from None
    return state
