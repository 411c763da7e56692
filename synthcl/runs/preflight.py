"""What can be found wrong with networks and data before a cluster is joined or a GPU minute is spent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch

from synthcl.config.schema import Config
from synthcl.core.errors import UserError
from synthcl.data import Found, ImageSource, find, transfer_config
from synthcl.data.splits import images_of, source_of, unlabelled_parts
from synthcl.evaluation.labels import most_labels, require_labels
from synthcl.method.synthetic.gan.networks import make_discriminator, make_generator
from synthcl.training.gan_warmup import budget_kimg
from synthcl.training.trainer import require_enough_images

_NO_SYNTHETIC_VIEW = {"curriculum.synthetic_fraction": {"kind": "constant", "start": 0.0}}


@dataclass(frozen=True)
class Data:
    """Everything a run is going to read, found and not decoded.

    Args:
        config: of the run.
        own: the data set that it pretrains on.
        transfer: the data sets that its evaluation transfers to, by name.
    """

    config: Config
    own: Found
    transfer: dict[str, Found]

    @cached_property
    def images(self) -> ImageSource:
        """The unlabelled images on the CPU; files stay on disk, since the content key does without decoding them."""
        data = self.config.data
        source = source_of(data)
        return images_of(unlabelled_parts(source.train(data), source.extra(data), data), data, "cpu", False)

    def describe(self) -> str:
        """What was found, in a few lines: numbers of images, where each comes from, passes, and what is not read."""
        data, own = self.config.data, self.own
        rows = [("data", f"{data.source}, as {data.image_size} px {'RGB' if data.channels == 3 else 'grey'} images")]
        labels = most_labels(self.config.evaluation, len(own.train), len(own.train.classes), quick=False)
        rows += own.rows(labels).items()
        rows += [("transfer", f"{target}: {_counts(found)}") for target, found in self.transfer.items()]
        rows.append(("passes", _passes(self.config, own.unlabelled_images)))
        rows += [("not read", line) for found in (own, *self.transfer.values()) for line in found.unread]
        return "\n".join(f"{name:<10} {row}" for name, row in rows)


def open_data(config: Config, *, test: bool = True) -> Data:
    """Find everything a run reads, for the networks that will look at it.

    Of image files, only heads and ends are read, so memory does not grow with the images' pixels.

    Args:
        config: its networks, its data, and the data sets its evaluation transfers to.
        test: whether the run reads test parts in the end; they are counted and not scored here.

    Raises:
        UserError: on a synthetic fraction that comes to nothing, sizes no generator makes, missing or broken data,
            missing labels or classes, or fewer images than a real-only step needs.
    """
    require_plugins(config)
    if not config.is_real_only:
        require_latents(config)
        own = config.gan.generator is not None  # is run once on two latents, which takes memory and numbers
        with torch.device("cpu" if own else "meta"):
            for make in (make_generator, make_discriminator):
                make(config.gan, config.data.channels, config.gan_image_size)
    found = find(config.data, config.data.source, pretrains=True, test=test)
    require_enough_images(config.with_overrides(_NO_SYNTHETIC_VIEW), found.unlabelled_images)  # as real-only needs
    require_labels(config.evaluation, len(found.train), len(found.train.classes))
    transfer = {
        target: find(transfer_config(target, config.data), target, pretrains=False, test=test)
        for target in config.evaluation.transfer
    }
    for data in (found, *transfer.values()):
        data.require_readable()
    return Data(config, found, transfer)


def require_plugins(config: Config) -> None:
    """Build encoder, views and terms once, so that code of the user's own is called before anything is spent.

    Raises:
        UserError: naming the member that cannot be made.
    """
    with torch.device("cpu" if config.encoder.kind == "custom" else "meta"):
        config.encoder.build(config.data.channels)
    for name, view in config.views.items():
        with _named(f"views.{name}"):
            view.build(config.view_size)
    for name, term in config.terms.items():
        with _named(f"terms.{name}"):
            term.build()


@contextmanager
def _named(place: str) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UserError(f"{place}.{error}") from None


def require_latents(config: Config) -> None:
    """Find a synthetic fraction that rounds to no latent at all.

    Raises:
        UserError: when neither the first nor the last step has a synthetic view.
    """
    asked, views = config.curriculum.synthetic_fraction.bounds[1], 2 * config.training.batch_images
    if not any(config.mix_at(progress).latents for progress in (0.0, 1.0)):
        raise UserError(
            f"curriculum.synthetic_fraction {asked:g} of {views} views on {config.compute.workers_per_trial} workers "
            "rounds to no latent; raise training.batch_images or the fraction, or lower compute.workers_per_trial"
        )


def _counts(found: Found) -> str:
    parts = {"train": found.train, "validation": found.validation} | ({"test": found.test} if found.test else {})
    counts = ", ".join(f"{len(part):,} {name}" for name, part in parts.items())
    return f"{counts} images with labels in {len(found.train.classes):,} classes"


def _passes(config: Config, images: int) -> str:
    """How often a run shows each of its unlabelled images to the networks."""
    training = config.training
    real = sum(config.mix_at(step / training.steps).real for step in range(training.steps))
    passes = f"a run shows each unlabelled image to the encoder {_times(real, images)}"
    if config.is_real_only:
        return passes
    return (
        f"{passes} ({_times(training.steps * training.batch_images, images)} in real-only); "
        f"the GAN warm-up shows each {_times(1000 * budget_kimg(config.gan, images), images)}"
    )


def _times(shown: float, images: int) -> str:
    passes = shown / images
    return f"{passes:,.0f} times" if passes >= 10 else f"{passes:.1f} times"
