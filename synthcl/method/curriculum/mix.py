"""How a batch is shared between real and synthetic images, and between the sources of synthetic ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from synthcl.method.curriculum.schedule import Schedule


class Share(NamedTuple):
    """What a source asks of a step."""

    views_per_group: int
    portion: float
    """synthetic views of this source, over those of a source with portion 1"""


class Mix(NamedTuple):
    """What a step is made of, over all workers."""

    real: int
    """Real images, `views_per_image` views each."""
    groups: Mapping[str, int]
    """Groups of each source by name, such as latents of a GAN, `views_per_group` views each."""

    apart: int = 0
    """Real images whose views one term alone looks at, `views_per_image` views each."""

    @property
    def images(self) -> int:
        """All real images."""
        return self.real + self.apart

    @property
    def latents(self) -> int:
        """Groups of the GAN."""
        return self.groups.get("gan", 0)


def mix_at(
    synthetic_fraction: Schedule,
    progress: float,
    *,
    batch_images: int,
    views_per_image: int,
    sources: Mapping[str, Share],
    workers: int,
    in_pairs: bool = False,
    apart: float = 0.0,
) -> Mix:
    """Split the step's `2 * batch_images` views into real ones and those of each source.

    The synthetic share is rounded to units that are whole groups of every source, in equal numbers for every worker;
    the rest is real, so that every step of every arm encodes the same number of views. Sources divide the units by
    their portions, with the largest remainders. Where views are mixed in pairs of rows, every worker has even numbers
    of all. Of the real images, the share `apart` has views that one term alone looks at, as near as equal numbers for
    every worker allow.

    Example:
        >>> from synthcl.method.curriculum.ramps import Constant
        >>> two = {"gan": Share(4, 1.0), "mine": Share(2, 0.5)}
        >>> mix_at(Constant(start=0.5), 0.0, batch_images=48, views_per_image=2, sources=two, workers=1)
        Mix(real=24, groups={'gan': 8, 'mine': 8}, apart=0)
    """
    views = 2 * batch_images
    of_all = [share.views_per_group for share in sources.values()]
    unit = math.lcm(views_per_image, *of_all) * workers * (2 if in_pairs else 1)
    units = round(views * synthetic_fraction.value_at(progress) / unit) if sources else 0
    groups = {
        name: unit * number // sources[name].views_per_group
        for name, number in divided(units, {name: share.portion for name, share in sources.items()}).items()
    }
    images, each = (views - unit * units) // views_per_image, workers * (2 if in_pairs else 1)
    taken = each * round(apart * images / each)
    return Mix(images - taken, groups, taken)


def divided(units: int, portions: Mapping[str, float]) -> dict[str, int]:
    """Whole units by name, in proportion as near as they can be; of equal remainders, the first names get more."""
    total = sum(portions.values()) or 1.0  # of none that has a share
    exact = {name: units * portion / total for name, portion in portions.items()}
    whole = {name: math.floor(number) for name, number in exact.items()}
    by_remainder = sorted(exact, key=lambda name: whole[name] - exact[name])  # stable
    for name in by_remainder[: units - sum(whole.values())]:
        whole[name] += 1
    return whole
