"""How good are a warmed-up generator's samples? Their Frechet distance to images that nothing was trained on.

    python -m benchmarks.search.generator [--preset NAME] [--images 100,200,1000] [--quick] [field=value ...]
    python -m benchmarks.search.generator \
        --compare synthetic.gan.gradient_penalty=0.05,2 --compare synthetic.gan.augment_strength=0.2,1 --draws 2

G and D are warmed up on so many unlabelled images; 4,000 samples are then compared with as many validation images, as
Gaussians in the features of a classifier that was trained on the preset's labels (Heusel et al. 2017, with this one in
place of Inception), divided by the features' total variance. The bounds: 0, and how far the unlabelled images
themselves are from validation, which a generator that only repeats them comes to. `order`: share of pairs of a real
and a generated image that D rates in this order at the last step. `--quick`: a fifth of the warm-up, one number.

`--compare`, once a field, runs every combination of the listed values and prints the best first. `--draws` repeats
everything on other draws of the images, because the distance of a single GAN run is uncertain by a quarter.
`--records` writes a line for every GAN run and skips those that are there, so that the same command resumes.
"""

import json
from argparse import ArgumentTypeError
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from statistics import mean
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.support.harness import arguments, comma_separated, finish, table
from synthcl import load_preset
from synthcl.comparison.plan import unlabelled_count
from synthcl.config.cli import parse_overrides
from synthcl.config.schema import Config
from synthcl.core.device import normalise, to_float
from synthcl.core.rng import generator
from synthcl.data import ImageSource, Split, open_split
from synthcl.method.synthetic.gan.networks import make_generator
from synthcl.runs.gan_cache import warm_up

SAMPLES = 4000
STEPS, BATCH_IMAGES, LEARNING_RATE = 1500, 128, 3e-3
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Judge:
    """Distances of images to the validation images."""

    encoder: nn.Module
    validation: Tensor  # (n, feature_dim)

    def distance(self, images: Tensor) -> float:
        """Of images (n, C, S, S) in [0, 1], over the validation features' total variance."""
        spread = self.validation.var(dim=0).sum().item()
        return frechet(features(self.encoder, images), self.validation) / spread


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--preset", default="cifar10-weak-views")
    parser.add_argument("--images", type=comma_separated(int), default=[100, 200, 1000], help="numbers of them")
    parser.add_argument("--compare", type=_choices, action="append", default=[], metavar="FIELD=A,B", help="values")
    parser.add_argument("--draws", type=int, default=1, help="draws of the images: data.split_seed, + 1, ...")
    parser.add_argument("--records", type=Path, help="JSON lines, one a GAN run; runs found there are skipped")
    parser.add_argument("overrides", nargs="*", metavar="field=value")
    options = parser.parse_intermixed_args()
    base = load_preset(options.preset).with_overrides(parse_overrides(options.overrides))
    counts = options.images
    if options.quick:
        base, counts = base.with_overrides({"synthetic.gan.warmup_kimg": base.gan.warmup_kimg / 5}), counts[:1]
    settings = [dict(chosen) for chosen in product(*options.compare)]
    found: dict[tuple[int, str], list[Measured]] = {}
    for draw in range(options.draws):
        whole = base.with_overrides({"data.split_seed": base.data.split_seed + draw, "data.image_fraction": 1.0})
        for count, setting in product(counts, settings):
            config = whole.with_overrides(setting | {"data.image_fraction": count / unlabelled_count(whole.data)})
            shown = " ".join(f"{field.split('.')[-1]}={value}" for field, value in setting.items())
            found.setdefault((count, shown), []).append(measure(config, whole, options.records))
    rows = [
        (count, shown or "-", mean(one.distance for one in runs), *(_column(runs, name) for name in Measured.COLUMNS))
        for (count, shown), runs in found.items()
    ]
    rows.sort(key=lambda row: (row[0], row[2]))
    header = ("images", "setting", "distance, mean", "of each draw", "of the images themselves", "order", "seconds")
    table(header, rows)
    finish(
        {
            f"distance of samples over that of {count} images" + (f", {shown}" if shown else ""): mean(
                one.distance / one.images_distance for one in runs
            )
            for (count, shown), runs in found.items()
        }
    )


def _choices(text: str) -> list[tuple[str, Any]]:
    field, separator, values = text.partition("=")
    if not separator or not values:
        raise ArgumentTypeError(f"{text!r} is not FIELD=A,B, such as synthetic.gan.gradient_penalty=0.05,2")
    return [(field, parse_overrides([f"{field}={value}"])[field]) for value in values.split(",")]


@dataclass(frozen=True)
class Measured:
    """One warmed-up GAN: distances over the validation features' total variance, D's order, seconds of the warm-up."""

    COLUMNS = ("distance", "images_distance", "order", "seconds")

    distance: float
    images_distance: float
    order: float
    seconds: float


def _column(runs: list[Measured], name: str) -> str:
    return ", ".join(f"{getattr(one, name):.3g}" for one in runs)


def measure(config: Config, whole: Config, records: Path | None) -> Measured:
    """Warm up one GAN and judge its samples, or read what an earlier command recorded of the same configuration.

    Args:
        config: with its number of unlabelled images.
        whole: the same with all of them, which the judge was trained on.
        records: of earlier runs; none keeps no record.
    """
    key = config.digest("data", "synthetic", "encoder")
    for line in _lines(records):
        if line["key"] == key:
            return Measured(**line["measured"])
    judge = make_judge(whole)
    images = open_split(config.data, "unlabelled", CPU).images
    began = perf_counter()
    state, statistics = warm_up(config, images, CPU, progress=False)
    seconds = perf_counter() - began
    made = judge.distance(samples(config, state["generator"]))
    measured = Measured(made, judge.distance(first(images, SAMPLES)), statistics["order"], seconds)
    if records:
        line = {"key": key, "images": len(images), "gan": config.gan.model_dump(), "measured": vars(measured)}
        with records.open("a") as file:
            file.write(json.dumps(line) + "\n")
    return measured


def _lines(records: Path | None) -> Iterator[dict[str, Any]]:
    if records and records.is_file():
        yield from map(json.loads, records.read_text().splitlines())


@cache
def make_judge(config: Config) -> Judge:
    """Train a classifier on the labels of the training images and look at the validation images with it."""
    train, validation = (open_split(config.data, name, CPU) for name in ("train", "validation"))
    encoder = classifier(config, train)
    return Judge(encoder, features(encoder, first(validation.images, SAMPLES)))


def classifier(config: Config, train: Split) -> nn.Module:
    """The preset's encoder, trained with labels, flipped images and a one-cycle learning rate."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = config.encoder.build(config.data.channels, config.view_size)
        head = nn.LazyLinear(int(train.labels.max()) + 1)
        head(features(encoder, first(train.images, 2)).float())
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS)
    draw = generator("classifier")
    for step in range(STEPS):
        chosen = torch.randint(len(train.images), (BATCH_IMAGES,), generator=draw)
        seen = to_float(train.images.fetch(chosen))
        seen = seen.flip(3) if step % 2 else seen
        loss = F.cross_entropy(head(encoder(normalise(seen))), train.labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return encoder.eval()


@torch.no_grad()
def features(encoder: nn.Module, images: Tensor) -> Tensor:
    """Of images (n, C, S, S) in [0, 1]: (n, feature_dim) float64."""
    return torch.cat([encoder(normalise(part)) for part in images.split(500)]).double()


def first(images: ImageSource, count: int) -> Tensor:
    return to_float(images.fetch(torch.arange(min(count, len(images)))))


@torch.no_grad()
def samples(config: Config, state: dict[str, Tensor]) -> Tensor:
    network = make_generator(config.gan, config.data.channels, config.gan_image_size)
    network.load_state_dict(state)
    latents = torch.randn(SAMPLES, config.gan.latent_dim, generator=generator("samples"))
    images = torch.cat([network(part) for part in latents.split(500)])
    size = config.data.image_size
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True).clamp(0, 1)


def frechet(one: Tensor, other: Tensor) -> float:
    """Squared Frechet distance between Gaussians with the means and covariances of two sets (n, dim)."""
    first_covariance, second_covariance = one.T.cov(), other.T.cov()
    crossed = torch.linalg.eigvals(first_covariance @ second_covariance).real.clamp(min=0).sqrt().sum()
    means = (one.mean(dim=0) - other.mean(dim=0)).square().sum()
    return (means + first_covariance.trace() + second_covariance.trace() - 2 * crossed).item()


if __name__ == "__main__":
    main()
