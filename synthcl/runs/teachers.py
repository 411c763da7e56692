"""Teachers of terms: encoders of earlier runs, whose features of the unlabelled images a run takes as targets."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from synthcl.config.schema import Config
from synthcl.core.errors import UserError, named
from synthcl.core.progress import Progress
from synthcl.data import ImageSource, stream
from synthcl.data.images import ResidentImages
from synthcl.data.transform import Transform
from synthcl.method.objectives.distil import taught
from synthcl.runs.export import load_any

_TRIED_IMAGES = 2


def targets_of(config: Config, images: ImageSource) -> dict[str, Tensor]:
    """What each teacher makes of every image, without augmentation; a process computes it once for all its runs.

    Every process of a run computes all of them, in fp32: a teacher looks at each image once, and a run many times.

    Args:
        config: of the run.
        images: the unlabelled ones.

    Returns:
        (images, teacher's dim) float32 on the images' device, by the name of the term; empty without a teacher.

    Raises:
        UserError: when a teacher cannot be loaded, sees other images than these, or gives features that are not finite.
    """
    batch, workers = config.evaluation.batch_images, config.data.loader_workers
    found = {}
    for name, term in taught(config.terms_on).items():
        with named(f"terms.{name}.teacher"):
            asked = term.teacher, term.trust_code, config.data.channels
            found[name] = _features(*asked, images, batch, workers)  # type: ignore[arg-type]  # by its identity
    return found


def require_teachers(config: Config) -> None:
    """Load every teacher and let it look at two blank images, before anything is spent.

    Raises:
        UserError: as of `targets_of`, naming the term.
    """
    data = config.data
    blank = torch.zeros(_TRIED_IMAGES, data.channels, data.image_size, data.image_size, dtype=torch.uint8)
    for name, term in taught(config.terms_on).items():
        with named(f"terms.{name}.teacher"):
            teacher = _opened(term.teacher, term.trust_code, data.channels)
            _look(term.teacher, teacher, ResidentImages(blank, "cpu"), _TRIED_IMAGES, 0)


def describe_teachers(config: Config, images: int) -> list[tuple[str, str]]:
    """Rows of a plan."""
    return [
        ("teacher", f"terms.{name}: {term.teacher} looks at each of {images:,} images once, when a run begins")
        for name, term in taught(config.terms_on).items()
    ]


@lru_cache(maxsize=4)
def _features(
    teacher: str, trust_code: bool, channels: int, images: ImageSource, batch_images: int, workers: int
) -> Tensor:
    encoder = _opened(teacher, trust_code, channels).to(images.device)
    return _look(teacher, encoder, images, batch_images, workers)


def _opened(teacher: str, trust_code: bool, channels: int) -> nn.Module:
    """The encoder on the CPU, in eval mode and with its transform."""
    encoder, trained = load_any(Path(teacher), trust_code=trust_code)
    if trained.data.channels != channels:
        raise UserError(
            f"encoder {teacher!r} was trained on images with data.channels={trained.data.channels}, and this run has "
            f"{channels}; give a teacher of such images"
        )
    return encoder


@torch.no_grad()
def _look(teacher: str, encoder: nn.Module, images: ImageSource, batch_images: int, workers: int) -> Tensor:
    transform, features = cast(Transform, encoder.transform), []
    batches = stream(images, torch.arange(len(images)).split(batch_images), workers)
    with Progress("images shown to the teacher", len(images), "image", delay_seconds=5, leave=False) as progress:
        for batch in batches:
            features.append(encoder(transform(batch)).float())
            progress.advance(len(batch))
    found = torch.cat(features)
    if not found.isfinite().all():
        raise UserError(f"encoder {teacher!r} gives features that are not finite; give another teacher")
    return found
