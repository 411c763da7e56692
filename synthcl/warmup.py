"""The GAN learns the unlabelled images once, before any encoder meets it; the result is cached by content."""

from __future__ import annotations

import copy
import hashlib
import io
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
from torch import Tensor, nn
from torchvision.utils import save_image

from synthcl import adversary, rng, warmup_checkpoint
from synthcl.config import Config, GanConfig
from synthcl.data import ImageSource
from synthcl.errors import Leaving, UserError
from synthcl.files import write_whole
from synthcl.joint import descend, follow, frozen, resize, to_float
from synthcl.memory import keep_freed_memory, to_device
from synthcl.models.gan import make_discriminator, make_generator
from synthcl.progress import Progress
from synthcl.storage import below
from synthcl.training import Pause, never

SEED = "warm-up"
"""first key of everything random here: every run of a study begins with the same GAN"""
JOINT_ONLY = {"generator_learning_rate", "discriminator_learning_rate"}
"""fields of the gan section that the warm-up does not read"""
CHECK_STEPS = 50
LOOK_SECONDS = 1.0
"""between two looks whether to leave"""

GanState = dict[str, dict[str, Tensor]]
"""{"generator": state dict of the averaged G, "discriminator": state dict of D}"""
Statistics = dict[str, float]
ShowProgress = Callable[[int, int, Statistics], None]
"""told of images done, images in all and the last statistics, which are empty at first"""


def cached_gan(
    config: Config,
    images: ImageSource,
    folder: Path,
    device: torch.device,
    progress: bool | ShowProgress = True,
    train: Callable[[str, ShowProgress], tuple[GanState, Statistics]] | None = None,
    root: str | None = None,
) -> GanState:
    """The warmed-up GAN, from `folder/<key>.safetensors` or else trained and written there.

    Beside it lie `<key>.png`, a grid of 64 samples, and `<key>.json`, the settings and the last statistics. The key
    covers the images' content and everything the warm-up reads. Processes that make the same file at once each
    write a temporary one and rename it, so a reader never meets half a file. A warm-up that was interrupted continues.

    Args:
        folder: of the cache; made if missing.
        progress: as of `warm_up`.
        train: does the work of `warm_up` elsewhere, on a node with a GPU say, given `place` and `progress`; none
            trains here.
        root: folder or URI in which an unfinished warm-up has its state; none means the cache's own folder.

    Raises:
        UserError: on an unreadable or foreign file, or when the training diverges.
    """
    key = cache_key(config, images)
    path = folder / f"{key}.safetensors"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        place = below(root or str(folder), f".{key}.unfinished")
        with bar(progress) as show:
            state, statistics = train(place, show) if train else warm_up(config, images, device, show, place)
        samples = _samples(config, state["generator"], device)
        record = {"settings": _settings(config, images), "statistics": statistics}
        png = io.BytesIO()
        save_image(samples, png, nrow=8, format="png")
        write_whole(folder / f"{key}.png", png.getvalue())
        write_whole(folder / f"{key}.json", json.dumps(record, indent=2))
        tensors = {
            f"{name}.{field}": value.contiguous() for name, part in state.items() for field, value in part.items()
        }
        write_whole(path, safetensors.torch.save(tensors))  # last: where it lies, the others do
        warmup_checkpoint.forget(place)
    return _read(path, config, device)


def cache_key(config: Config, images: ImageSource) -> str:
    """First 16 hex digits of the SHA-256 over everything the warm-up depends on."""
    return hashlib.sha256(json.dumps(_settings(config, images), sort_keys=True).encode()).hexdigest()[:16]


def _settings(config: Config, images: ImageSource) -> dict[str, Any]:
    return {
        "images": images.content_key,
        "gan": config.gan.model_dump(mode="json", exclude={*JOINT_ONLY, "warmup_passes_max"})
        | {"warmup_kimg": budget_kimg(config.gan, len(images))},
        "image_size": config.gan_image_size,
        "channels": config.data.channels,
        "seed": SEED,
    }


def budget_kimg(gan: GanConfig, available_images: int) -> float:
    """Thousand images that a warm-up shows: `warmup_kimg`, or `warmup_passes_max` passes where those are fewer.

    Args:
        gan: the gan section.
        available_images: number of unlabelled images.

    Example:
        >>> budget_kimg(GanConfig(warmup_kimg=5000, warmup_passes_max=400), 2000)
        800.0
    """
    passes = float("inf") if gan.warmup_passes_max is None else gan.warmup_passes_max
    return min(gan.warmup_kimg, passes * available_images / 1000)


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
    steps = round(1000 * budget_kimg(config.gan, len(images)) / batch)
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
def bar(progress: bool | ShowProgress) -> Iterator[ShowProgress]:
    """What shows how far the warm-up is, here or on another machine: a bar, nothing, or what is given."""
    if callable(progress):
        yield progress
        return
    with ExitStack() as ends:
        shown: Progress | None = None
        done = 0

        def show(done_images: int, total_images: int, statistics: Statistics) -> None:
            nonlocal shown, done
            if shown is None:
                shown = ends.enter_context(
                    Progress("GAN warm-up", total_images, "img", percent=True, done=done_images, shown=progress)
                )
                done = done_images
            if statistics:
                shown.describe(note=f"D in order {statistics['order']:.2f}")
            shown.advance(done_images - done)
            done = done_images

        yield show


class _WarmUp:
    """G, D, their optimisers, the averaged G and the step; random numbers are functions of the step."""

    def __init__(self, config: Config, device: torch.device) -> None:
        gan = config.gan
        self.config, self.device, self.step = config, device, 0
        self.statistics: Statistics = {}  # of the last step at which they were looked at
        self.generator, self.discriminator = _networks(config, device)
        self.average = copy.deepcopy(self.generator).requires_grad_(False)
        self.for_generator, self.for_discriminator = (
            torch.optim.Adam(network.parameters(), rate, (gan.beta1, gan.beta2), fused=True)
            for network, rate in (
                (self.generator, gan.warmup_generator_learning_rate),
                (self.discriminator, gan.warmup_discriminator_learning_rate),
            )
        )
        self.decay = 0.5 ** (gan.warmup_batch_images / (1000 * gan.warmup_half_life_kimg))

    def advance(self, images: ImageSource, check: bool) -> None:
        """One step; with `check` the statistics are fetched and must be finite."""
        config, step, device = self.config, self.step, self.device
        batch = config.gan.warmup_batch_images
        chosen = torch.randint(len(images), (batch,), generator=rng.generator(SEED, "images", step))
        real = resize(to_float(images.fetch(chosen).to(device)), config.gan_image_size)  # (n, C, h, w)
        drawn = torch.randn(batch, config.gan.latent_dim, generator=rng.generator(SEED, "latents", step))
        generators = (rng.generator(SEED, f"augment {name}", step) for name in ("real", "fake"))
        augmentation = adversary.augmentation_draw(config, batch, *generators)
        shown = adversary.show(real, self.generator(to_device(drawn, device)), augmentation.to(device))

        loss, observed = adversary.discriminator_objective(self.discriminator, shown, config)
        descend(loss, self.for_discriminator)
        with frozen(self.discriminator):
            deceived = adversary.generator_objective(self.discriminator, shown, config)
        descend(deceived, self.for_generator)
        follow(self.average, self.generator, self.decay)
        self.step += 1
        if check:
            observed |= {"loss_discriminator": loss, "loss_generator": deceived}
            self.statistics = {name: value.item() for name, value in observed.items()}
            _require_finite(self.statistics, step, config)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, and the statistics."""
        parts = {name: getattr(self, name).state_dict() for name in _PARTS}
        return {"step": self.step, "statistics": self.statistics, "parts": parts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        for name in _PARTS:
            getattr(self, name).load_state_dict(state["parts"][name])
        self.step, self.statistics = state["step"], state["statistics"]


_PARTS = ("generator", "discriminator", "average", "for_generator", "for_discriminator")


def _resumed(config: Config, device: torch.device, place: str | None, key: str) -> _WarmUp:
    """The warm-up as it was kept, or a new one."""
    run = _WarmUp(config, device)
    if place and (state := warmup_checkpoint.kept(place, key, device)):
        try:
            run.load_state_dict(state)
        except (RuntimeError, ValueError, KeyError, TypeError) as error:  # of other networks than this version makes
            warmup_checkpoint.ignored(place, error)
            return _WarmUp(config, device)
    return run


def _require_finite(statistics: dict[str, float], step: int, config: Config) -> None:
    for name, value in statistics.items():
        if not torch.tensor(value).isfinite():
            raise UserError(
                f"GAN warm-up diverged: {name} is {value} at step {step}; lower gan.warmup_generator_learning_rate "
                f"({config.gan.warmup_generator_learning_rate:g}) and gan.warmup_discriminator_learning_rate "
                f"({config.gan.warmup_discriminator_learning_rate:g})"
            )


def _networks(config: Config, device: torch.device) -> tuple[nn.Module, nn.Module]:
    channels, size = config.data.channels, config.gan_image_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.seed_from(SEED, "initialisation"))
        networks = make_generator(config.gan, channels, size), make_discriminator(config.gan, channels, size)
    generator, discriminator = (network.to(device).to(memory_format=torch.channels_last) for network in networks)
    return generator, discriminator


@torch.no_grad()
def _samples(config: Config, state: dict[str, Tensor], device: torch.device) -> Tensor:
    generator, _ = _networks(config, device)
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
        generator, discriminator = _networks(config, torch.device("cpu"))
        generator.load_state_dict(state["generator"])
        discriminator.load_state_dict(state["discriminator"])
    except RuntimeError:
        raise UserError(
            f"{path} does not hold this generator and discriminator; delete it and it will be made anew"
        ) from None
    return state
