"""How a batch is shared between real and synthetic images."""

from __future__ import annotations

from typing import NamedTuple

from synthcl.method.curriculum.schedule import Schedule


class Mix(NamedTuple):
    """What a step is made of, over all workers."""

    real: int
    """Real images, `views_per_image` views each."""
    latents: int
    """Latents, `views_per_latent` views each."""


def mix_at(
    synthetic_fraction: Schedule,
    progress: float,
    *,
    batch_images: int,
    views_per_image: int,
    views_per_latent: int,
    workers: int,
    in_pairs: bool = False,
) -> Mix:
    """Split the step's `2 * batch_images` views into real and synthetic ones.

    The synthetic share is rounded to whole latents, in equal numbers for every worker; the rest is
    real, so that every step of every arm encodes the same number of views. Where views are mixed in pairs of rows,
    every worker has even numbers of both.
    """
    views = 2 * batch_images
    granule = max(views_per_latent, views_per_image) * workers * (2 if in_pairs else 1)
    synthetic = granule * round(views * synthetic_fraction.value_at(progress) / granule)
    return Mix(real=(views - synthetic) // views_per_image, latents=synthetic // views_per_latent)
