"""The cut of a data set into unlabelled, train, validation and test images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from synthcl.config.sections import DataConfig
from synthcl.core import rng
from synthcl.core.errors import UserError
from synthcl.data.folder import Files, joined
from synthcl.data.images import CHUNK_IMAGES, ImageSource, ResidentImages, StreamedImages, convert_array
from synthcl.data.order import stream
from synthcl.data.part import Part, Source, everything, stratified_cut
from synthcl.data.sources import SOURCES

SplitName = Literal["unlabelled", "train", "validation", "test"]
_CHUNK_FILES = 256


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
    the rest; a set without labels has neither. `unlabelled` is `image_fraction` of `train` and the data set's extra
    images together (those of stl10, or a folder's `unlabelled/`); a smaller fraction is a subset of a larger one. The
    test part is opened for `test` alone.

    Args:
        config: source, cut, size and channels.
        name: which split.
        device: where fetched images appear.

    Raises:
        UserError: on an unknown source or split, missing or broken files, or images without labels.
    """
    if name not in get_args(SplitName):
        raise UserError(f"split {name!r} is unknown; choose {', '.join(get_args(SplitName))}")
    source = source_of(config)
    if name == "test":
        return _split(require_labels(source.test(config), config, name), config, device)
    published = source.train(config)
    if name != "unlabelled":
        return _split(require_labels(cut(published, config)[name == "validation"], config, name), config, device)
    parts = unlabelled_parts(published, source.extra(config), config)
    return Split(images_of(parts, config, device), torch.empty(0, dtype=torch.int64), published.classes)


def source_of(config: DataConfig) -> Source:
    """How to open the data set that a config names.

    Raises:
        UserError: when there is none of this name.
    """
    if config.source not in SOURCES:
        raise UserError(f"data.source {config.source!r} is unknown; choose {', '.join(SOURCES)}")
    source = SOURCES[config.source]
    return everything(source) if config.pretrain_on == "all" else source


def cut(published: Part, config: DataConfig) -> tuple[Part, Part]:
    """Cut a training part into train and validation, the same share of every class.

    Returns:
        (train, validation); a part without labels is train and validation as it is.

    Raises:
        UserError: when a class has a single image.
    """
    if published.labels is None:
        return published, published
    train, validation = stratified_cut(published, config.validation_fraction, config.split_seed, "validation")
    return published.rows(train), published.rows(validation)


def require_held_out(config: DataConfig) -> None:
    """Refuse to choose or score by images that are trained on.

    Raises:
        UserError: when all there are shall be.
    """
    if config.pretrain_on == "all":
        raise UserError(
            "data.pretrain_on='all' trains on validation and test images too, so that there is none to choose or score "
            "by; give data.pretrain_on=train, and --refit all for the winner of a search"
        )


def require_labels(part: Part, config: DataConfig, name: SplitName) -> Part:
    """The same part, when it has labels.

    Raises:
        UserError: when it has none.
    """
    require_held_out(config)
    if part.labels is None:
        raise UserError(
            f"data.source {config.source!r}: split {name!r} needs labels, and {config.root!r} has images without any; "
            "sort those with labels into train/<class>/ and the others into unlabelled/ beside it, or name a CSV file "
            "(columns path and label) as data.labels"
        )
    return part


@lru_cache(maxsize=16)
def has_labels(config: DataConfig) -> bool:
    """Whether a data set has any labels; nothing is opened, and an unknown set is refused where it is."""
    return config.source not in SOURCES or source_of(config).labelled(config)


def lies_in_files(config: DataConfig) -> bool:
    """Whether every image is a file of its own, so that it can be read at any size; else the set is one array."""
    return isinstance(source_of(config).train(config).pixels, Files)


def open_sample(config: DataConfig, count: int, device: torch.device | str) -> ImageSource:
    """A fixed draw of the images that a run pretrains on, in stored order.

    Args:
        config: source, cut, size and channels.
        count: images at the most.
        device: where fetched images appear.

    Raises:
        UserError: as `open_split`.
    """
    source = source_of(config)
    parts = unlabelled_parts(source.train(config), source.extra(config), config)
    total = sum(map(len, parts))
    shuffled = torch.randperm(total, generator=rng.generator(config.split_seed, "sample"))
    return images_of(_shares(parts, shuffled[:count].sort().values), config, device)


def unlabelled_parts(published: Part, extra: Part | None, config: DataConfig) -> list[Part]:
    """What a run pretrains on: the first `image_fraction` of one fixed shuffle of train and extra, in stored order.

    Args:
        published: the training part, from which validation is cut.
        extra: more images without labels, or none.
        config: cut and fraction.
    """
    train, _ = cut(published, config)
    pool = [train] if extra is None else [train, extra]
    total = sum(map(len, pool))
    shuffled = torch.randperm(total, generator=rng.generator(config.split_seed, "unlabelled"))
    return _shares(pool, shuffled[: max(1, round(config.image_fraction * total))].sort().values)


def _shares(parts: list[Part], chosen: Tensor) -> list[Part]:
    """The chosen images of each part; `chosen` are sorted positions in all parts, one after the other."""
    shares, offset = [], 0
    for part in parts:
        inside = (chosen >= offset) & (chosen < offset + len(part))
        shares.append(part.rows(chosen[inside] - offset))
        offset += len(part)
    return shares


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
    return open_split(transfer_config(name, config), split, device)


def transfer_config(name: str, config: DataConfig) -> DataConfig:
    """The data section that opens a transfer set as `open_transfer` does.

    Raises:
        UserError: on an unknown name.
    """
    source, separator, path = name.partition(":")
    if source not in SOURCES or (separator and (source != "folder" or not path)):
        raise UserError(f"transfer data set {name!r} is unknown; choose {', '.join(SOURCES)}, or folder:PATH")
    changes = {"source": source, "image_fraction": 1.0, "labels": "folders", "pretrain_on": "train"}
    changes |= {"root": path} if path else {}
    return config.model_copy(update=changes)


def require_classes(split: Split | Part, name: str, part: SplitName) -> None:
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
    assert split.labels is not None
    missing = (split.labels.bincount(minlength=len(split.classes)) == 0).nonzero().flatten().tolist()
    if missing:
        raise UserError(
            f"data set {name!r}: class {split.classes[missing[0]]!r} has none of the {len(split.labels)} images of "
            f"the {part} split; every class needs at least one"
        )


def _split(part: Part, config: DataConfig, device: torch.device | str) -> Split:
    assert part.labels is not None
    return Split(images_of([part], config, device), part.labels, part.classes)


def images_of(
    parts: list[Part], config: DataConfig, device: torch.device | str, decode_files: bool = True
) -> ImageSource:
    """The images of parts of one data set, one part after the other.

    Args:
        parts: all of arrays or all of files.
        config: size, channels, and the limit up to which files are decoded now and images lie on the device.
        device: where fetched images appear.
        decode_files: false leaves files on disk whatever the limit.
    """
    size, channels, count = config.image_size, config.channels, sum(map(len, parts))
    fits = count * channels * size**2 <= config.resident_limit_mib * 2**20
    files = [part.pixels for part in parts if isinstance(part.pixels, Files)]
    if files:
        place = joined(files)
        on_disk = StreamedImages(*place, size, channels, device)
        if not (fits and decode_files):
            return on_disk
        from_disk = StreamedImages(*place, size, channels, "cpu")
        decoded = stream(from_disk, torch.arange(count).split(_CHUNK_FILES), config.loader_workers)
        return ResidentImages(_gathered(decoded, count, config, device), device, files=on_disk)
    converted = (
        convert_array(part.pixels[begin : begin + CHUNK_IMAGES], size, channels)
        for part in parts
        if isinstance(part.pixels, np.ndarray)
        for begin in range(0, len(part), CHUNK_IMAGES)
    )
    pixels = _gathered(converted, count, config, device if fits else "cpu")
    return ResidentImages(pixels, device, keep_on_cpu=not fits)


def _gathered(chunks: Iterable[Tensor], count: int, config: DataConfig, device: torch.device | str) -> Tensor:
    """All images in one tensor that is filled as they come; joining a list of them would take their memory twice."""
    size = config.image_size
    pixels = torch.empty(count, config.channels, size, size, dtype=torch.uint8, device=device)
    begin = 0
    for chunk in chunks:
        pixels[begin : begin + len(chunk)] = chunk
        begin += len(chunk)
    return pixels
