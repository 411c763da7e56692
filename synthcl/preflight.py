"""What can be found wrong with networks and data before a cluster is joined or a GPU minute is spent."""

from __future__ import annotations

import torch

from synthcl.arms import apply_arm
from synthcl.config import Config
from synthcl.curriculum import is_real_only, mix
from synthcl.data import ImageSource, SplitName, StreamedImages, open_split, open_transfer, require_classes
from synthcl.errors import UserError
from synthcl.evaluation.labels import require_labels
from synthcl.models.gan import make_discriminator, make_generator
from synthcl.training import require_enough_images


def open_data(config: Config) -> ImageSource:
    """Open everything a run reads, test splits aside, for the networks that will look at it.

    Args:
        config: its networks, its data, and the data sets its evaluation transfers to.

    Returns:
        The unlabelled images, on the CPU.

    Raises:
        UserError: on a synthetic fraction that comes to nothing, sizes no generator makes, missing or broken data,
            missing labels or classes, or fewer images than a real-only step needs.
    """
    if not is_real_only(config):
        require_latents(config)
        own = config.gan.generator is not None  # is run once on two latents, which takes memory and numbers
        with torch.device("cpu" if own else "meta"):
            for make in (make_generator, make_discriminator):
                make(config.gan, config.data.channels, config.gan_image_size)
    images = open_split(config.data, "unlabelled", "cpu").images
    require_enough_images(apply_arm(config, "real-only"), len(images))
    parts: tuple[SplitName, ...] = ("train", "validation")
    for part in parts:
        opened = {target: open_transfer(target, config.data, part, "cpu") for target in config.evaluation.transfer}
        for name, split in ({config.data.source: open_split(config.data, part, "cpu")} | opened).items():
            require_classes(split, name, part)
            if part == "train" and name == config.data.source:
                require_labels(config.evaluation, len(split.labels), len(split.classes))
            if isinstance(split.images, StreamedImages):
                split.images.require_images()
    return images


def require_latents(config: Config) -> None:
    """Find a synthetic fraction that rounds to no latent at all.

    Raises:
        UserError: when neither the first nor the last step has a synthetic view.
    """
    asked, views = config.curriculum.synthetic_fraction.bounds[1], 2 * config.training.batch_images
    if not any(mix(config, progress).latents for progress in (0.0, 1.0)):
        raise UserError(
            f"curriculum.synthetic_fraction {asked:g} of {views} views on {config.compute.workers_per_trial} workers "
            "rounds to no latent; raise training.batch_images or the fraction, or lower compute.workers_per_trial"
        )
