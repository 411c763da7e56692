"""A trainer small enough for tests: 16 px grey images, networks of a few channels, steps of 16 images."""

import io
from typing import Any

import torch

from synthcl.config.schema import Config
from synthcl.core import rng
from synthcl.data import ResidentImages, SyntheticImages
from synthcl.method.curriculum.knobs import Knobs
from synthcl.method.objectives.distil import taught
from synthcl.method.synthetic.folder import Twins
from synthcl.method.synthetic.gan.networks import make_discriminator, make_generator
from synthcl.training.batch import Batch, make_batch
from synthcl.training.lab import Lab
from synthcl.training.trainer import Trainer

CPU = torch.device("cpu")

SMALL: dict[str, Any] = {
    "data.image_size": 16,
    "encoder.width": 8,
    "heads.main.hidden": 16,
    "heads.main.dim": 8,
    "synthetic.gan.latent_dim": 8,
    "synthetic.gan.generator_width": 4,
    "synthetic.gan.discriminator_width": 4,
    "training.batch_images": 16,
    "training.kimg": 0.128,  # 8 steps
    "training.log_kimg": 0.016,  # every step
    "training.optimizer": "sgd",  # Adam's first step turns rounding errors of tiny gradients into whole steps
    "training.learning_rate": 0.1,
    "training.warmup_fraction": 0.0,
}


def tiny_config(overrides: dict[str, Any] | None = None) -> Config:
    overrides = overrides or {}
    others = "encoder" in overrides or overrides.get("encoder.kind", "conv") != "conv"  # which have no width
    small = {field: value for field, value in SMALL.items() if field != "encoder.width" or not others}
    return Config(name="tiny").with_overrides(small | overrides)


def random_images(count: int = 40, size: int = 16, *key: str) -> ResidentImages:
    pixels = torch.randint(0, 256, (count, 1, size, size), generator=rng.generator("images", *key), dtype=torch.uint8)
    return ResidentImages(pixels, CPU)


FOLDER: dict[str, Any] = {"synthetic.mine": {"kind": "folder", "path": "mine"}}
"""a source beside the GAN"""


def random_folders(config: Config, count: int = 30, real: int = 40) -> dict[str, SyntheticImages]:
    """Images of every folder that is on; image i of a paired one was made from real image 2i modulo their number."""
    return {
        name: SyntheticImages(
            images=random_images(count, config.data.image_size, name),
            twins=Twins.of(2 * torch.arange(count) % real, real) if section.attached else None,
            real=real,
            found=count,
            dropped={},
            copies="",
            place=section.path,
        )
        for name, section in config.folders_on.items()
    }


def random_targets(config: Config, images: int = 40, dim: int = 6) -> dict[str, torch.Tensor]:
    """What the teachers of terms would make of the images."""
    return {name: unit(images, dim, "targets", name) for name in taught(config.terms_on)}


def trainer_of(config: Config) -> Trainer:
    """On random images, with an untrained GAN, random folders and random targets where the configuration has them."""
    gan = untrained_gan(config) if config.needs_gan else None
    return Trainer(config, random_images(), gan, CPU, random_folders(config), random_targets(config))


def continued(trainer: Trainer) -> Trainer:
    """Another trainer with the state of this one, by way of a file that is read as users' files are."""
    file = io.BytesIO()
    torch.save(trainer.state_dict(), file)
    file.seek(0)
    other = trainer_of(trainer.config)
    other.load_state_dict(torch.load(file, weights_only=True))
    return other


def whole_and_continued(config: Config, stop: int, steps: int) -> tuple[Trainer, Trainer]:
    """A run of so many steps, logged at each, and one that stopped and went on, which has logged the same since."""
    whole, first = trainer_of(config), trainer_of(config)
    history = whole.advance(steps)
    first.advance(stop)
    second = continued(first)
    assert second.advance(steps) == history[stop:]
    return whole, second


def batch_of(lab: Lab, at: Knobs | None = None, step: int = 0) -> Batch:
    """A step's batch of random images as half-way through a run, with the knobs of then unless they are given."""
    config, pixels = lab.config, random_images().pixels
    mix = config.mix_at(0.5)
    count = mix.images + mix.latents
    return make_batch(
        pixels[:count],
        torch.arange(count),
        mix,
        at or config.knobs_at(0.5),
        views=lab.views,
        sources=lab.sources,
        style=lab.style,
        views_per_image=config.training.views_per_image,
        seed=config.training.seed,
        step=step,
        device=CPU,
    )


def untrained_gan(config: Config) -> dict[str, dict[str, torch.Tensor]]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator = make_generator(config.gan, config.data.channels, config.gan_image_size)
        discriminator = make_discriminator(config.gan, config.data.channels, config.gan_image_size)
    return {"generator": generator.state_dict(), "discriminator": discriminator.state_dict()}


def unit(rows: int, dim: int, *key: int | str) -> torch.Tensor:
    """Random rows on the unit sphere."""
    return torch.nn.functional.normalize(torch.randn(rows, dim, generator=rng.generator("unit", *key)), dim=1)
