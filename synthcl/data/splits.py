"""The cut of a data set into unlabelled, train, validation and test images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from synthcl import rng
from synthcl.config import DataConfig
from synthcl.data.folder import Files
from synthcl.data.images import ImageSource, ResidentImages, StreamedImages, convert_array
from synthcl.data.order import stream
from synthcl.data.sources import SOURCES, Part, stratified_cut
from synthcl.errors import UserError

SplitName = Literal["unlabelled", "train", "validation", "test"]


@dataclass(frozen=True)
class Split:
    """Images with their labels.

    Args:
        images: n images.
        labels: (n,) int64 on the CPU; empty for the unlabelled split.
        classes: what the labels mean.
    """

    images: ImageSource
    labels: torch.Tensor
    classes: tuple[str, ...]


def open_split(config: DataConfig, name: SplitName, device: torch.device | str) -> Split:
    """Open one split of the data set a config names.

    `validation` is cut from the labelled training part, the same share of every class, and `train` is
    the rest. `unlabelled` is `image_fraction` of `train` and the data set's extra images together; a
    smaller fraction is a subset of a larger one. The test part is opened for `test` alone.

    Args:
        config: source, cut, size and channels.
        name: which split.
        device: where fetched images appear.

    Raises:
        UserError: on an unknown source or split, missing or broken files, or images without labels.
    """
    if name not in get_args(SplitName):
        raise UserError(f"split {name!r} is unknown; choose {', '.join(get_args(SplitName))}")
    if config.source not in SOURCES:
        raise UserError(f"data.source {config.source!r} is unknown; choose {', '.join(SOURCES)}")
    source = SOURCES[config.source]
    part = source.test(config) if name == "test" else source.train(config)
    if part.labels is None and name != "unlabelled":
        raise UserError(
            f"data.source {config.source!r}: split {name!r} needs labels, but {config.root!r} is a flat folder "
            "of images; sort them into train/<class>/"
        )
    if name == "test":
        return _split(part, config, device)
    if part.labels is not None:
        train, validation = stratified_cut(part, config.validation_fraction, config.split_seed, "validation")
        part = part.rows(validation if name == "validation" else train)
    if name != "unlabelled":
        return _split(part, config, device)
    pool = [part] if source.extra is None else [part, source.extra(config)]
    images = _images(_share(pool, config), config, device)
    return Split(images, torch.empty(0, dtype=torch.int64), part.classes)


def open_transfer(name: str, config: DataConfig, split: SplitName, device: torch.device | str) -> Split:
    """Open a split of another data set at this config's image size and channels.

    Args:
        name: a key of SOURCES, or `folder:PATH`.
        config: everything but the source; for `folder:PATH` the root is PATH.
        split: which split, cut by the same rules.
        device: where fetched images appear.

    Raises:
        UserError: as `open_split`.
    """
    source, separator, path = name.partition(":")
    if source not in SOURCES or (separator and (source != "folder" or not path)):
        raise UserError(f"transfer data set {name!r} is unknown; choose {', '.join(SOURCES)}, or folder:PATH")
    changes = {"source": source, "image_fraction": 1.0} | ({"root": path} if path else {})
    return open_split(config.model_copy(update=changes), split, device)


def require_classes(split: Split, name: str, part: SplitName) -> None:
    """Refuse labels that no probe can be fitted on or scored with.

    Args:
        split: labelled images.
        name: of the data set, for the message.
        part: which split it is, for the message.

    Raises:
        UserError: when there are fewer than two classes, or one of them has no image.
    """
    if len(split.classes) < 2:
        raise UserError(
            f"data set {name!r} has one class, {split.classes[0]!r}; a probe tells classes apart and needs at least two"
        )
    missing = (split.labels.bincount(minlength=len(split.classes)) == 0).nonzero().flatten().tolist()
    if missing:
        raise UserError(
            f"data set {name!r}: class {split.classes[missing[0]]!r} has none of the {len(split.labels)} images of "
            f"the {part} split; every class needs at least one"
        )


def require_images(split: Split, needed: int) -> None:
    """Refuse a split with fewer images than a step needs.

    Raises:
        UserError: when it has fewer than `needed`.
    """
    if len(split.images) < needed:
        raise UserError(
            f"the split has {len(split.images)} images, but {needed} are needed; "
            "raise data.image_fraction, lower training.batch_images or add images"
        )


def _share(pool: list[Part], config: DataConfig) -> list[Part]:
    """The first `image_fraction` of one fixed shuffle of the pool, in stored order."""
    total = sum(map(len, pool))
    shuffled = torch.randperm(total, generator=rng.generator(config.split_seed, "unlabelled"))
    chosen = shuffled[: max(1, round(config.image_fraction * total))].sort().values
    shares, offset = [], 0
    for part in pool:
        inside = (chosen >= offset) & (chosen < offset + len(part))
        shares.append(part.rows(chosen[inside] - offset))
        offset += len(part)
    return shares


def _split(part: Part, config: DataConfig, device: torch.device | str) -> Split:
    assert part.labels is not None
    return Split(_images([part], config, device), part.labels, part.classes)


def _images(parts: list[Part], config: DataConfig, device: torch.device | str) -> ImageSource:
    size, channels = config.image_size, config.channels
    fits = sum(map(len, parts)) * channels * size**2 <= config.resident_limit_mib * 2**20
    tensors = []
    for part in parts:
        if not isinstance(part.pixels, Files):
            tensors.append(convert_array(part.pixels, size, channels))
            continue
        if not fits:
            return StreamedImages(*part.pixels, size, channels, device)
        files = StreamedImages(*part.pixels, size, channels, "cpu")
        tensors.append(torch.cat(list(stream(files, torch.arange(len(part)).split(256), config.loader_workers))))
    return ResidentImages(torch.cat(tensors), device, keep_on_cpu=not fits)
