"""A part of a data set, and how the parts of one are opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from synthcl.config.sections import DataConfig
from synthcl.core import rng
from synthcl.core.errors import UserError
from synthcl.data.folder import Files, joined

TEST_FRACTION = 0.2  # of a data set that is published without a test part


@dataclass(frozen=True)
class Part:
    """A part of a data set as published, before resizing and before any cut.

    Args:
        pixels: (n, H, H, 1 or 3) uint8, or image files.
        labels: (n,) int64, or none for images without labels.
        classes: what the labels mean.
        origin: where the images are from, for people.
    """

    pixels: np.ndarray | Files
    labels: torch.Tensor | None
    classes: tuple[str, ...]
    origin: str = ""

    def __len__(self) -> int:
        return len(self.pixels.names if isinstance(self.pixels, Files) else self.pixels)

    def rows(self, indices: torch.Tensor) -> Part:
        """The part's images at these positions, (n,) int64."""
        if isinstance(self.pixels, Files):
            names = self.pixels.names
            pixels: np.ndarray | Files = Files(self.pixels.folder, tuple(names[index] for index in indices.tolist()))
        else:
            pixels = self.pixels[indices.numpy()]
        return replace(self, pixels=pixels, labels=None if self.labels is None else self.labels[indices])

    def counted(self) -> Part:
        """The part with its labels and files, but without pixels in memory."""
        return self if isinstance(self.pixels, Files) else replace(self, pixels=np.empty((len(self), 0), np.uint8))


Opener = Callable[[DataConfig], Part]


@dataclass(frozen=True)
class Source:
    """How to open a data set's parts; extra images without labels may be there or not.

    `labelled` says whether the parts have labels, without opening them; `unread` gives a line for everything that lies
    there and is in no part.
    """

    train: Opener
    test: Opener
    extra: Callable[[DataConfig], Part | None] = lambda config: None
    labelled: Callable[[DataConfig], bool] = lambda config: True
    unread: Callable[[DataConfig], list[str]] = lambda config: []


def stratified_cut(part: Part, fraction: float, *key: int | str) -> tuple[torch.Tensor, torch.Tensor]:
    """Hold out the same share of every class, at least one image and never all of them.

    Args:
        part: labelled images.
        fraction: share held out, in (0, 1).
        key: what the choice depends on.

    Returns:
        (kept, held out): two sorted (n,) int64 index tensors that share nothing and miss nothing.

    Raises:
        UserError: when a class has a single image.
    """
    assert part.labels is not None
    held_out = torch.zeros(len(part), dtype=torch.bool)
    for index, name in enumerate(part.classes):
        members = torch.nonzero(part.labels == index).flatten()
        if len(members) == 1:
            raise UserError(
                f"class {name!r} has 1 image left to cut a {key[-1]} part from; add images or remove the class"
            )
        share = min(max(1, round(fraction * len(members))), len(members) - 1)
        shuffled = torch.randperm(len(members), generator=rng.generator(*key, index))
        held_out[members[shuffled[: max(share, 0)]]] = True
    return torch.nonzero(~held_out).flatten(), torch.nonzero(held_out).flatten()


def everything(source: Source) -> Source:
    """Every image of a data set as one part without labels: validation and test images, too."""

    def opener(config: DataConfig) -> Part:
        if not source.labelled(config):
            return source.train(config)
        named = {"train": source.train(config), "test": source.test(config), "unlabelled": source.extra(config)}
        parts = {name: part for name, part in named.items() if part is not None}
        files = [part.pixels for part in parts.values() if isinstance(part.pixels, Files)]
        arrays = [part.pixels for part in parts.values() if isinstance(part.pixels, np.ndarray)]
        counts = ", ".join(f"{len(part):,} of {name}" for name, part in parts.items())
        origin = f"all there are ({counts}), validation among them"
        return Part(joined(files) if files else np.concatenate(arrays), None, (), origin)

    return Source(opener, opener, labelled=lambda config: False, unread=source.unread)


def share_of_classes(test: bool) -> str:
    """What a data set without a test part gives to one, or keeps, for people: `20 % of every class`."""
    return f"{TEST_FRACTION if test else 1 - TEST_FRACTION:.0%} of every class".replace("%", " %")
