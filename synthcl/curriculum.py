"""The curriculum: every value that changes during training, as a pure function of progress.

Progress is the fraction of the run's images already seen, in [0, 1]; it never depends on the size
of the data set, on the number of workers or on wall time.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from synthcl.config import Config, Schedule


def value(schedule: Schedule, progress: float) -> float:
    """Evaluate a schedule.

    Args:
        schedule: kind, start, end and the ramp's begin and end.
        progress: fraction of the run's images seen, in [0, 1].

    Returns:
        start before the ramp, end after it; between them, with t rising from 0 to 1 along the ramp:
        linear start + (end - start) t, cosine the half cosine, exponential start (end / start)^t.
        A step jumps to end at ramp_begin; a constant stays at start.
    """
    start, end = schedule.start, schedule.last
    if schedule.kind == "constant" or progress < schedule.ramp_begin:
        return start
    if schedule.kind == "step" or progress >= schedule.ramp_end:
        return end
    t = (progress - schedule.ramp_begin) / (schedule.ramp_end - schedule.ramp_begin)
    if schedule.kind == "cosine":
        t = (1 - math.cos(math.pi * t)) / 2
    if schedule.kind == "exponential":
        return start * (end / start) ** t
    return start + (end - start) * t


def learning_rate(config: Config, progress: float) -> float:
    """The encoder's learning rate: linear warm-up to the configured peak, then half a cosine to 0."""
    peak, warmup = config.training.learning_rate, config.training.warmup_fraction
    if progress < warmup:
        return peak * progress / warmup
    t = (progress - warmup) / max(1e-12, 1 - warmup)
    return peak * (1 + math.cos(math.pi * t)) / 2


class Mix(NamedTuple):
    """What a step is made of, over all workers."""

    real: int
    """Real images, `views_per_image` views each."""
    latents: int
    """Latents, `views_per_latent` views each."""


def mix(config: Config, progress: float) -> Mix:
    """Split the step's `2 * batch_images` views into real and synthetic ones.

    The synthetic share is rounded to whole latents, in equal numbers for every worker; the rest is
    real, so that every step of every arm encodes the same number of views.
    """
    views = 2 * config.training.batch_images
    workers = config.compute.workers_per_trial
    views_per_latent = config.method.views_per_latent
    granule = max(views_per_latent, config.method.views_per_image) * workers
    synthetic = granule * round(views * value(config.curriculum.synthetic_fraction, progress) / granule)
    return Mix(real=(views - synthetic) // config.method.views_per_image, latents=synthetic // views_per_latent)


class Knobs(NamedTuple):
    """The values one step is run with; logged under these names."""

    learning_rate: float
    hardness: float
    pair_decay: float
    view_strength: float
    synthetic_fraction: float


def knobs(config: Config, progress: float) -> Knobs:
    """All scalar knobs at this progress.

    `pair_decay` is m in G_ema <- m G_ema + (1 - m) G, so that after a half-life's images half of G_ema is new.
    """
    curriculum = config.curriculum
    half_life_images = 1000 * value(curriculum.pair_half_life_kimg, progress)
    return Knobs(
        learning_rate=learning_rate(config, progress),
        hardness=value(curriculum.hardness, progress),
        pair_decay=0.5 ** (config.training.batch_images / half_life_images),
        view_strength=value(curriculum.view_strength, progress),
        synthetic_fraction=1
        - mix(config, progress).real * config.method.views_per_image / (2 * config.training.batch_images),
    )


def is_real_only(config: Config) -> bool:
    """Whether no step of the run has a synthetic view, so that no GAN is needed."""
    return config.curriculum.synthetic_fraction.bounds[1] == 0
