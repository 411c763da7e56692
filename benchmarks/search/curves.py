"""Learning curves of random configurations of a search space: recorded once, one JSON line each, and read back."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
import torch

from synthcl import data
from synthcl.config.compatibility import NOT_LEARNED, first_difference
from synthcl.config.schema import Config
from synthcl.core.errors import UserError
from synthcl.core.progress import Progress
from synthcl.runs.gan_cache import cached_gan
from synthcl.runs.session import evaluation
from synthcl.search.space import Space
from synthcl.training.loop import run_to_end
from synthcl.training.trainer import Trainer

REPEAT_EVERY = 8
REPEAT_SEEDS = (1, 2)
"""every eighth configuration is trained with these seeds as well as with 0: they tell what is noise"""


@dataclass(frozen=True)
class Curve:
    """One run: its number and training seed, what was searched, and the score by images seen at every rung."""

    number: int
    seed: int
    overrides: dict[str, Any]
    scores: dict[int, float]


def read(file: Path, config: Config, space: Space) -> list[Curve]:
    """The recorded curves of this configuration and space.

    Raises:
        UserError: on a missing file, or on curves of another configuration or space.
    """
    if not file.is_file():
        raise UserError(f"--curves {str(file)!r}: there is no such file; --record 64 makes it")
    header, *lines = map(json.loads, file.read_text().splitlines())
    differs = first_difference(header["config"], config, NOT_LEARNED)
    if differs or header["space"] != space.text:
        field, was, now = differs or ("search.space", "another space", config.search.space)
        raise UserError(f"{str(file)!r} has {field}={was!r}, asked for {now!r}; give --curves another file")
    return [Curve(**line | {"scores": {int(k): score for k, score in line["scores"].items()}}) for line in lines]


def record(file: Path, config: Config, space: Space, count: int) -> None:
    """Train `count` random configurations, every eighth with two more seeds, and append a line for each run.

    Args:
        file: goes on where it ends.
        config: what the configurations change; its GAN is warmed up once, under `compute.storage`.
        space: what they are drawn from.
        count: configurations, those in the file included.

    Raises:
        UserError: when the file holds curves of another configuration or space.
    """
    if not file.is_file():
        free = {field for field in NOT_LEARNED if "." not in field}
        header: dict[str, Any] = {"config": config.model_dump(mode="json", exclude=free), "space": space.text}
        for section, field in (path.split(".") for path in NOT_LEARNED if "." in path):
            del header["config"][section][field]
        file.write_text(json.dumps(header) + "\n")
    done = {(curve.number, curve.seed) for curve in read(file, config, space)}
    torch.set_num_threads(1)  # how many there are changes the last bits
    device = torch.device("cpu")
    images = data.open_split(config.data, "unlabelled", device).images
    gan = cached_gan(config, images, Path(config.compute.storage) / "gan", device)
    left = [run for run in _plan(space, count) if run[:2] not in done]
    with Progress("curves", len(left), "run") as progress:
        for number, seed, overrides in left:
            run = config.with_overrides(overrides | {"training.seed": seed})
            reports = run_to_end(Trainer(run, images, gan, device), evaluation(run, False))
            scores = {report.images: round(report.score, 4) for report in reports if report.score is not None}
            with file.open("a") as stream:
                stream.write(json.dumps(asdict(Curve(number, seed, overrides, scores))) + "\n")
            progress.advance()


def _plan(space: Space, count: int) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Number, seed and overrides of every run, the same for every count up to its end."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for number in range(count):
        overrides = space.sample(study.ask())
        for seed in (0, *(REPEAT_SEEDS if number % REPEAT_EVERY == 0 else ())):
            yield number, seed, overrides
