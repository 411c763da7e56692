"""The GAN learns the unlabelled images once, before any encoder meets it; the result is cached by content."""

from __future__ import annotations

import copy
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.utils import save_image

from synthcl import adversary, rng
from synthcl.config import Config
from synthcl.data import ImageSource
from synthcl.errors import UserError
from synthcl.files import write_whole
from synthcl.joint import descend, follow, frozen, resize, to_float
from synthcl.memory import keep_freed_memory, to_device
from synthcl.models.gan import make_discriminator, make_generator
from synthcl.progress import Progress

SEED = "warm-up"
"""first key of everything random here: every run of a study begins with the same GAN"""
JOINT_ONLY = {"generator_learning_rate", "discriminator_learning_rate"}
"""fields of the gan section that the warm-up does not read"""
CHECK_STEPS = 50

GanState = dict[str, dict[str, Tensor]]
"""{"generator": state dict of the averaged G, "discriminator": state dict of D}"""


def cached_gan(
    config: Config,
    images: ImageSource,
    folder: Path,
    device: torch.device,
    progress: bool | Callable[[float], None] = True,
    train: Callable[[], tuple[GanState, dict[str, float]]] | None = None,
) -> GanState:
    """The warmed-up GAN, from `folder/<key>.safetensors` or else trained and written there.

    Beside it lie `<key>.png`, a grid of 64 samples, and `<key>.json`, the settings and the last statistics. The key
    covers the images' content and everything the warm-up reads. Processes that make the same file at once each
    write a temporary one and rename it, so a reader never meets half a file.

    Args:
        folder: of the cache; made if missing.
        progress: as of `warm_up`.
        train: does the work of `warm_up` elsewhere, on a node with a GPU say; none trains here.

    Raises:
        UserError: on an unreadable or foreign file, or when the training diverges.
    """
    key = cache_key(config, images)
    path = folder / f"{key}.safetensors"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        state, statistics = train() if train else warm_up(config, images, device, progress)
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
    return _read(path, config, device)


def cache_key(config: Config, images: ImageSource) -> str:
    """First 16 hex digits of the SHA-256 over everything the warm-up depends on."""
    return hashlib.sha256(json.dumps(_settings(config, images), sort_keys=True).encode()).hexdigest()[:16]


def _settings(config: Config, images: ImageSource) -> dict[str, Any]:
    return {
        "images": images.content_key,
        "gan": config.gan.model_dump(mode="json", exclude=JOINT_ONLY),
        "image_size": config.gan_image_size,
        "channels": config.data.channels,
        "seed": SEED,
    }


def warm_up(
    config: Config, images: ImageSource, device: torch.device, progress: bool | Callable[[float], None] = True
) -> tuple[GanState, dict[str, float]]:
    """Train G and D on the unlabelled images alone for `gan.warmup_kimg` thousand real images.

    Args:
        config: the gan section and the image sizes; nothing of the training section.
        images: the unlabelled images.
        device: where to train.
        progress: whether it is shown; a function is told the share of the steps that are done, and nothing shown.

    Returns:
        The averaged generator with the discriminator, and the last statistics.

    Raises:
        UserError: when the training diverges.
    """
    gan, batch = config.gan, config.gan.warmup_batch_images
    keep_freed_memory()
    generator, discriminator = _networks(config, device)
    average = copy.deepcopy(generator).requires_grad_(False)
    betas = (gan.beta1, gan.beta2)
    for_generator = torch.optim.Adam(generator.parameters(), gan.warmup_generator_learning_rate, betas, fused=True)
    for_discriminator = torch.optim.Adam(
        discriminator.parameters(), gan.warmup_discriminator_learning_rate, betas, fused=True
    )
    decay = 0.5 ** (batch / (1000 * gan.warmup_half_life_kimg))
    steps = round(1000 * gan.warmup_kimg / batch)
    statistics: dict[str, float] = {}

    with Progress("GAN warm-up", steps * batch, "img", percent=True, shown=progress is True) as shown_progress:
        for step in range(steps):
            chosen = torch.randint(len(images), (batch,), generator=rng.generator(SEED, "images", step))
            real = resize(to_float(images.fetch(chosen).to(device)), config.gan_image_size)  # (n, C, h, w)
            latents = to_device(
                torch.randn(batch, gan.latent_dim, generator=rng.generator(SEED, "latents", step)), device
            )
            generators = (rng.generator(SEED, f"augment {name}", step) for name in ("real", "fake"))
            augmentation = adversary.augmentation_draw(config, batch, *generators)
            shown = adversary.show(real, generator(latents), augmentation.to(device))

            loss, observed = adversary.discriminator_objective(discriminator, shown, config)
            descend(loss, for_discriminator)
            with frozen(discriminator):
                deceived = adversary.generator_objective(discriminator, shown, config)
            descend(deceived, for_generator)
            follow(average, generator, decay)

            shown_progress.advance(batch)
            if callable(progress):
                progress((step + 1) / steps)
            if (step + 1) % CHECK_STEPS == 0 or step + 1 == steps:
                observed |= {"loss_discriminator": loss, "loss_generator": deceived}
                statistics = {name: value.item() for name, value in observed.items()}
                shown_progress.describe(note=f"D in order {statistics['order']:.2f}")
                _require_finite(statistics, step, config)
    return {"generator": average.state_dict(), "discriminator": discriminator.state_dict()}, statistics


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
