"""Does a warmed-up generator have an image like each real one? The gate of a bank of inverted images.

    python -m benchmarks.search.inversion [--preset NAME] [--images 100,1000] [--quick] [field=value ...]

For each of 64 real images that G was warmed up on, z = argmin |G(z) - x|^2 is looked for, as NaTra has it: squared
distances of pixels and of the features of a classifier that was trained on the preset's labels, each over its variance
among the real images, added up; Adam from two random latents, of which the best is kept. `over nearest` is the median
distance of G(z) to x over the median distance of x to the nearest other real image that G was warmed up on. Above the
bound of 1, G(z) says less of x than another image does, and is no view of it. Beside it the same of images that G
itself made, which shows whether latents can be found at all. `--quick`: a tenth of the steps, one number of images.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.search.generator import CPU, features, first, make_judge, samples
from benchmarks.support.harness import arguments, comma_separated, finish, table
from synthcl import load_preset
from synthcl.comparison.plan import unlabelled_count
from synthcl.config.cli import parse_overrides
from synthcl.config.schema import Config
from synthcl.core.device import normalise, resize
from synthcl.core.rng import generator
from synthcl.data import open_split
from synthcl.method.synthetic.gan.networks import make_generator
from synthcl.runs.gan_cache import warm_up

INVERTED, STARTS, STEPS, LEARNING_RATE = 64, 2, 200, 0.1
SPACES = ("pixels", "features")


class Spaces(NamedTuple):
    """Where images are compared: as they are, and as a classifier sees them; squared distances over the variance."""

    encoder: nn.Module
    variances: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, encoder: nn.Module, images: Tensor) -> Spaces:
        """Measured by real images (n, C, S, S) in [0, 1]."""
        seen = features(encoder, images).float()
        return cls(encoder, (images.var(dim=0).sum(), seen.var(dim=0).sum()))

    def vectors(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(n, C * S * S) and (n, feature_dim), with the gradient to the images; their distances need no scaling."""
        points = images.flatten(1), self.encoder(normalise(images))
        pixels, seen = (each / variance.sqrt() for each, variance in zip(points, self.variances, strict=True))
        return pixels, seen


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--preset", default="cifar10-weak-views")
    parser.add_argument("--images", type=comma_separated(int), default=[100, 1000], help="that G is warmed up on")
    parser.add_argument("overrides", nargs="*", metavar="field=value")
    options = parser.parse_intermixed_args()
    whole = load_preset(options.preset).with_overrides(parse_overrides(options.overrides))
    whole = whole.with_overrides({"data.image_fraction": 1.0})
    if options.quick:
        whole = whole.with_overrides({"synthetic.gan.warmup_kimg": whole.gan.warmup_kimg / 10})
    steps, counts = (STEPS // 10, options.images[:1]) if options.quick else (STEPS, options.images)

    rows, figures = [], {}
    for count in counts:
        config = whole.with_overrides({"data.image_fraction": count / unlabelled_count(whole.data)})
        encoder = make_judge(whole).encoder.requires_grad_(False)
        images = open_split(config.data, "unlabelled", CPU).images
        real, chosen = first(images, len(images)), first(images, INVERTED)
        spaces = Spaces.of(encoder, real)
        nearest = nearest_others(spaces, chosen, real)
        state, _ = warm_up(config, images, CPU, progress=False)
        found = inverted(config, state["generator"], spaces, chosen, steps)
        control = inverted(config, state["generator"], spaces, samples(config, state["generator"])[:INVERTED], steps)
        for space, to_itself, to_other, of_samples in zip(SPACES, found, nearest, control, strict=True):
            ratio = to_itself / to_other
            rows.append([count, space, *(f"{each:.3f}" for each in (to_itself, to_other, ratio, of_samples))])
            figures[f"{space} of inverted over nearest, {count} images"] = ratio
    table(["images", "space", "inverted", "nearest real", "over nearest", "inverted samples of G"], rows)
    finish(figures)


def nearest_others(spaces: Spaces, images: Tensor, real: Tensor) -> list[float]:
    """Median squared distance of each image, which is among the real ones, to the nearest other, in each space."""
    with torch.no_grad():
        pairs = zip(spaces.vectors(images), spaces.vectors(real), strict=True)
        return [
            torch.cdist(one, other).square().topk(2, largest=False).values[:, 1].median().item() for one, other in pairs
        ]


def inverted(config: Config, state: dict[str, Tensor], spaces: Spaces, images: Tensor, steps: int) -> list[float]:
    """Median squared distance of the best G(z) to each image, in each space.

    Args:
        config: its generator and image sizes.
        state: of the generator.
        spaces: whose distances are added up.
        images: (n, C, S, S) in [0, 1].
        steps: of Adam.
    """
    network = make_generator(config.gan, config.data.channels, config.gan_image_size)
    network.load_state_dict(state)
    network.requires_grad_(False)
    with torch.no_grad():
        goals = [goal.repeat(STARTS, 1) for goal in spaces.vectors(images)]
    latents = torch.randn(len(goals[0]), config.gan.latent_dim, generator=generator("inversion")).requires_grad_()
    optimizer = torch.optim.Adam([latents], LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

    def distances() -> Tensor:
        """(2, STARTS * n)"""
        made = spaces.vectors(resize(network(latents), config.data.image_size))
        return torch.stack([(one - goal).square().sum(dim=1) for one, goal in zip(made, goals, strict=True)])

    for _ in range(steps):
        optimizer.zero_grad()
        distances().sum().backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        reached = distances().unflatten(1, (STARTS, len(images)))
    best = reached.sum(dim=0).argmin(dim=0)
    return [space[best, torch.arange(len(images))].median().item() for space in reached]


if __name__ == "__main__":
    main()
