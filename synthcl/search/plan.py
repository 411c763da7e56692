"""What a search is going to spend, known before it spends it."""

from __future__ import annotations

from pathlib import Path

import torch

from synthcl.arms import BASELINES
from synthcl.config import Config
from synthcl.curriculum import is_real_only
from synthcl.models.encoder import make_encoder, make_projector
from synthcl.models.gan import make_discriminator, make_generator
from synthcl.search.space import Space


def describe(config: Config, space: Space) -> str:
    """The plan of a search: runs, steps, images, views and disk, an upper bound where early stopping saves some."""
    training, search = config.training, config.search
    runs = search.trials + len(BASELINES)
    confirms = (search.confirm_top + len(BASELINES) + 1) * search.confirm_seeds
    checkpoint = checkpoint_bytes(config)
    storage = config.compute.storage
    place = storage if "://" in storage else str(Path(storage).expanduser().absolute())
    rows = {
        "search": f"{search.trials} trials over {len(space.dimensions)} dimensions and {len(BASELINES)} baselines "
        f"({', '.join(BASELINES)}), rungs at {', '.join(f'{rung:.1%}' for rung in config.evaluation.rungs)}",
        "confirm": f"{confirms} runs: the best {search.confirm_top}, the baselines and a control, "
        f"{search.confirm_seeds} seeds each",
        "a run": f"{training.steps} steps of {training.batch_images} images ({2 * training.batch_images} views), "
        f"{training.steps * training.batch_images / 1000:.1f} kimg",
        "images": f"at most {(runs + confirms) * training.steps * training.batch_images / 1000:.0f} kimg, "
        f"after a GAN warm-up of {config.gan.warmup_kimg:g} kimg",
        "disk": f"at most {(runs + confirms) * checkpoint / 2**20:.0f} MiB of checkpoints "
        f"({checkpoint / 2**20:.1f} MiB a run)",
        "storage": f"{place.rstrip('/')}/{config.name}",
    }
    return "\n".join(f"{name:<8} {row}" for name, row in rows.items())


def checkpoint_bytes(config: Config) -> int:
    """Size of one checkpoint: weights, and the optimisers' moments for those that learn."""
    with torch.device("meta"):
        encoder = make_encoder(config.encoder, config.data.channels)
        projector = make_projector(config.encoder, encoder)
        learners, followers = [encoder, projector], []
    if not is_real_only(config):
        generator = make_generator(config.gan, config.data.channels, config.gan_image_size)
        learners += [generator, make_discriminator(config.gan, config.data.channels, config.gan_image_size)]
        followers.append(generator)
    moments = 2 if config.training.optimizer == "adamw" else 1
    count = sum(p.numel() for net in learners for p in net.parameters()) * (1 + moments)
    return 4 * (count + sum(p.numel() for net in followers for p in net.parameters()))
