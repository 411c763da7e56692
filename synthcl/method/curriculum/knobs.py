"""The values of one step: everything that changes during training, as a pure function of progress.

Progress is the fraction of the run's images already seen, in [0, 1]; it never depends on the size
of the data set, on the number of workers or on wall time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

from pydantic import Field, model_validator

from synthcl.core.plugin import Section
from synthcl.method.curriculum import AnyMix, AnySchedule
from synthcl.method.curriculum.balance import BalanceConfig
from synthcl.method.curriculum.loop import Loop
from synthcl.method.curriculum.ramps import Constant
from synthcl.method.curriculum.schedule import Schedule


class CurriculumConfig(Section):
    """How hard, how far apart, how many and how strongly augmented, over the run."""

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {
        "hardness.start": {"low": 0.02, "high": 1.0, "log": True},
        "pair_half_life_kimg.start": {"low": 1.0, "high": 100.0, "log": True},
        "synthetic_fraction.start": {"low": 0.1, "high": 0.7},
        "view_strength.start": {"low": 0.3, "high": 1.3},
        "balance.strength": {"low": 0.1, "high": 1.0},
    }

    hardness: AnySchedule = Field(Constant(start=0.5), description="how strongly G maximises the contrastive loss")
    pair_half_life_kimg: AnySchedule = Field(Constant(start=10.0), description="half-life of G_ema, in thousand images")
    synthetic_fraction: AnySchedule = Field(Constant(start=0.5), description="share of the views that are synthetic")
    view_strength: AnySchedule = Field(
        Constant(start=1.0), description="strength of T; 1 is the views section as it is"
    )
    mix: AnyMix | None = Field(
        None,
        description="what shares the views among real images and sources, as exp3 or ucb1; the run begins with "
        "synthetic_fraction and the portions of sources, which none leaves as they are",
    )
    balance: BalanceConfig = Field(BalanceConfig(), description="how evenly clusters of real images are shown")

    @model_validator(mode="after")
    def _mix_is_planned(self) -> CurriculumConfig:
        if isinstance(self.synthetic_fraction, Loop):
            raise ValueError("synthetic_fraction cannot be a loop: images are fetched ahead of their step; use a table")
        return self

    @model_validator(mode="after")
    def _within_bounds(self) -> CurriculumConfig:
        limits = {
            "hardness": (0.0, float("inf")),
            "pair_half_life_kimg": (1e-6, float("inf")),
            "synthetic_fraction": (0.0, 1.0),
            "view_strength": (0.0, 2.0),
        }
        for name, (low, high) in limits.items():
            smallest, largest = getattr(self, name).bounds
            if smallest < low or largest > high:
                raise ValueError(f"{name} goes from {smallest:g} to {largest:g}; it must stay in [{low:g}, {high:g}]")
        return self


def learning_rate(peak: float, warmup_fraction: float, progress: float) -> float:
    """The encoder's learning rate: linear warm-up to the peak over a fraction of the run, then half a cosine to 0."""
    if progress < warmup_fraction:
        return peak * progress / warmup_fraction
    t = (progress - warmup_fraction) / max(1e-12, 1 - warmup_fraction)
    return peak * (1 + math.cos(math.pi * t)) / 2


class Knobs(NamedTuple):
    """The values one step is run with; logged under these names."""

    learning_rate: float
    hardness: float
    pair_decay: float
    view_strength: float
    synthetic_fraction: float
    scheduled: Mapping[str, float] = MappingProxyType({})
    """values of the schedules of single plug-ins, by dotted field, such as `terms.contrast.weight`"""

    def slowed(self, factor: float) -> Knobs:
        """The same with every learning rate, the encoder's and those of plug-ins, at a multiple of its value."""
        scheduled = {
            path: value * factor if path.endswith("learning_rate") else value for path, value in self.scheduled.items()
        }
        return self._replace(learning_rate=self.learning_rate * factor, scheduled=scheduled)

    def own(self, plugin: str) -> dict[str, float]:
        """A plug-in's own values by the names of its fields, such as those of `terms.contrast`, and the shared ones."""
        start = f"{plugin}."
        own = {path.removeprefix(start): value for path, value in self.scheduled.items() if path.startswith(start)}
        return own | {
            "hardness": self.hardness,
            "pair_decay": self.pair_decay,
            "view_strength": self.view_strength,
            "synthetic_fraction": self.synthetic_fraction,
        }


def knobs_at(
    curriculum: CurriculumConfig,
    progress: float,
    *,
    batch_images: int,
    learning_rate: float,
    synthetic_fraction: float,
    scheduled: Mapping[str, Schedule],
    steered: Mapping[str, float] = MappingProxyType({}),
) -> Knobs:
    """All scalar knobs at this progress.

    `pair_decay` is m in G_ema <- m G_ema + (1 - m) G, so that after a half-life's images half of G_ema is new.

    Args:
        curriculum: the schedules.
        progress: fraction of the run's images seen.
        batch_images: images a step.
        learning_rate: of the encoder, at this progress.
        synthetic_fraction: share of a step's views that are synthetic, after rounding to whole latents.
        scheduled: schedules of single plug-ins, by dotted field.
        steered: what closed loops have decided, by dotted field.
    """

    def value(path: str, schedule: Schedule) -> float:
        return steered[path] if path in steered else schedule.value_at(progress)

    half_life_images = 1000 * value("curriculum.pair_half_life_kimg", curriculum.pair_half_life_kimg)
    return Knobs(
        learning_rate=learning_rate,
        hardness=value("curriculum.hardness", curriculum.hardness),
        pair_decay=0.5 ** (batch_images / half_life_images),
        view_strength=value("curriculum.view_strength", curriculum.view_strength),
        synthetic_fraction=synthetic_fraction,
        scheduled={path: value(path, schedule) for path, schedule in scheduled.items()},
    )
