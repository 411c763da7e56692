"""What a search is going to spend, known before it spends it."""

from __future__ import annotations

from pathlib import Path

from synthcl.comparison.arms import BASELINES, OWN
from synthcl.config.schema import Config
from synthcl.runs.disk import checkpoint_bytes
from synthcl.runs.location import is_uri
from synthcl.search.space import Space


def describe(config: Config, space: Space) -> str:
    """The plan of a search: runs, steps, images, views and disk, an upper bound where early stopping saves some.

    Where the configuration's own values lie outside the space, the plan names them.
    """
    training, search = config.training, config.search
    runs = search.trials + len(BASELINES)
    confirms = confirm_runs(config)
    checkpoint = checkpoint_bytes(config)
    storage = config.compute.storage
    place = storage if is_uri(storage) else str(Path(storage).expanduser().absolute())
    most = "at most " if config.gan.warmup_passes_max else ""
    rows = {
        "search": f"{search.trials} trials over {len(space.dimensions)} dimensions and {len(BASELINES)} baselines "
        f"({', '.join(BASELINES)}), rungs at {', '.join(f'{rung:.1%}' for rung in config.evaluation.rungs)}",
        "confirm": f"{confirms} runs: the best {search.confirm_top}, {OWN}, the baselines and a control, "
        f"{search.confirm_seeds} seeds each",
        "a run": f"{training.steps} steps of {training.batch_images} images ({2 * training.batch_images} views), "
        f"{training.steps * training.batch_images / 1000:.1f} kimg",
        "images": f"at most {(runs + confirms) * training.steps * training.batch_images / 1000:.0f} kimg, "
        f"after a GAN warm-up of {most}{config.gan.warmup_kimg:g} kimg",
        "disk": f"{(confirms + 1) * checkpoint / 2**20:.0f} MiB of checkpoints in the end "
        f"({checkpoint / 2**20:.1f} MiB each), and two for each run at a time",
        "storage": f"{place.rstrip('/')}/{config.name}",
    }
    if outside := space.outside(config):
        fields = "; ".join(f"{field}={value} (space: {space.dimensions[field]})" for field, value in outside.items())
        rows["outside"] = f"{fields}; the first trial draws these fields at random, as your values are not in the space"
    return "\n".join(f"{name:<10} {row}" for name, row in rows.items())


def confirm_runs(config: Config) -> int:
    """Runs of the confirm stage: the best configurations, the one the search began with, the baselines and a control,
    each with every fresh seed."""
    return (config.search.confirm_top + len((OWN, *BASELINES)) + 1) * config.search.confirm_seeds
