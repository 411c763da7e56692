"""Data sets by name, each as its published parts: train, test and, for some, extra unlabelled images.

The test part has an opener of its own, so that nothing reads test labels before they are asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock

from synthcl.config.sections import DataConfig
from synthcl.core import rng
from synthcl.core.errors import UserError
from synthcl.data.folder import (
    Files,
    class_names,
    list_images,
    list_unlabelled,
    test_folder,
    train_folder,
    unlabelled_folder,
    unread,
)

FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
TEST_FRACTION = 0.2  # of a data set that is published without a test part
_log = logging.getLogger(__name__)


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

    `unread` gives a line for everything that lies there and is in no part.
    """

    train: Opener
    test: Opener
    extra: Callable[[DataConfig], Part | None] = lambda config: None
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


def _embedded(part: str) -> Opener:
    def opener(config: DataConfig) -> Part:
        with (resources.files("synthcl.data.embedded") / f"fashion-mini-{part}.npz").open("rb") as file:
            stored = np.load(file, allow_pickle=False)
            images, labels = stored["images"], stored["labels"]
        classes, origin = FASHION_CLASSES, f"the {part} part that comes with synthcl"
        return Part(images[..., None], torch.from_numpy(labels.astype(np.int64)), classes, origin)

    return opener


def _digits(test: bool) -> Opener:
    def opener(config: DataConfig) -> Part:
        from sklearn.datasets import load_digits  # a second to import, and seldom needed

        table = load_digits()
        pixels = np.round(table.images * (255 / 16)).astype(np.uint8)[..., None]  # stored as 0..16
        labels, classes = torch.from_numpy(table.target.astype(np.int64)), tuple(map(str, table.target_names))
        part = Part(pixels, labels, classes, f"{_share(test)}, by a cut that is always the same")
        return part.rows(stratified_cut(part, TEST_FRACTION, "digits", "test")[test])

    return opener


def _torchvision(dataset: str, place: str, train: dict[str, Any], test: dict[str, Any], **extra: Any) -> Source:
    """A torchvision data set; `place` is where inside root it looks for its files."""

    def opener(name: str, **choice: Any) -> Opener:
        def open_part(config: DataConfig) -> Part:
            from torchvision import datasets

            folder = Path(config.root) / place
            try:
                with _alone(config):
                    opened = getattr(datasets, dataset)(config.root, download=config.download, **choice)
            except Exception as error:  # network, checksums, broken archives: every one has its own type
                reason = (str(error).splitlines() or [type(error).__name__])[0].split(". You can use")[0].rstrip(".:")
                remedy = (
                    "put its files there by hand"
                    if config.download
                    else "set data.download=true or put its files there"
                )
                raise UserError(
                    f"data set {dataset} cannot be opened from {str(folder)!r}: {reason}; {remedy}"
                ) from None
            pixels = np.asarray(opened.data)
            if pixels.ndim == 3:  # (n, H, W) grey
                pixels = pixels[..., None]
            elif pixels.shape[1] == 3:  # (n, 3, H, W)
                pixels = pixels.transpose(0, 2, 3, 1)
            labels = opened.targets if hasattr(opened, "targets") else opened.labels
            classes, origin = tuple(opened.classes), f"the published {name} part"
            return Part(pixels, torch.as_tensor(labels, dtype=torch.int64), classes, origin)

        return open_part

    train_part, test_part = opener("training", **train), opener("test", **test)
    return Source(train_part, test_part, opener("unlabelled", **extra)) if extra else Source(train_part, test_part)


def _alone(config: DataConfig) -> AbstractContextManager[object]:
    """Where a download may happen, one process of this machine does it and the others wait."""
    if not config.download:
        return nullcontext()
    Path(config.root).mkdir(parents=True, exist_ok=True)
    return FileLock(Path(config.root) / ".download.lock")


def _share(test: bool) -> str:
    """What a data set without a test part gives to one, or keeps, for people."""
    return f"{TEST_FRACTION if test else 1 - TEST_FRACTION:.0%} of every class".replace("%", " %")


def _listed(folder: Path, root: Path, origin: str) -> Part:
    files, indices, classes = list_images(folder, root)
    return Part(files, torch.tensor(indices, dtype=torch.int64) if classes else None, classes, origin)


def _root_of(config: DataConfig, subfolder: str) -> Path:
    """The folder that holds a data set's train folder: `data.root`, or a folder of the set's own inside it."""
    inner = Path(config.root) / subfolder
    return inner if inner.is_dir() else Path(config.root)


@cache  # once a process, though every split is cut anew
def _announce_cut(root: Path, seed: int) -> None:
    percent = round(100 * TEST_FRACTION)
    _log.warning(
        "%s has no test folder: %d %% of every class, chosen by split_seed %d, are its test part", root, percent, seed
    )


def _folder(test: bool, subfolder: str, classes_expected: int | None) -> Opener:
    def opener(config: DataConfig) -> Part:
        root = _root_of(config, subfolder)
        folder, held_out = train_folder(root), test_folder(root)
        classes = class_names(folder, root)
        if classes_expected and len(classes) != classes_expected:
            raise UserError(
                f"folder {str(folder)!r} has {len(classes)} class folders, not the {classes_expected} of {subfolder}; "
                f"put them at {Path(config.root) / subfolder / 'train' / '<class>' / '*'}, or use data.source=folder"
            )
        if held_out and (unknown := sorted(set(class_names(held_out, root)) - set(classes))) and classes:
            raise UserError(
                f"class {unknown[0]!r} of {str(held_out)!r} is not among the classes of {str(folder)!r}; "
                "add images to train on or remove it"
            )
        if test and held_out:
            part = _listed(held_out, root, str(held_out))
            assert part.labels is not None
            index_in_train = torch.tensor([classes.index(name) for name in part.classes])
            return replace(part, labels=index_in_train[part.labels], classes=classes)
        part = _listed(folder, root, str(folder))
        if held_out or part.labels is None:
            return part
        _announce_cut(root, config.split_seed)
        seed = config.split_seed
        origin = f"{_share(test)}, cut by data.split_seed {seed}" if test else f"{folder} without the test part"
        return replace(part, origin=origin).rows(stratified_cut(part, TEST_FRACTION, config.split_seed, "test")[test])

    return opener


def _folders(subfolder: str = "", classes_expected: int | None = None) -> Source:
    def extra(config: DataConfig) -> Part | None:
        folder = unlabelled_folder(_root_of(config, subfolder))
        return None if folder is None else Part(list_unlabelled(folder), None, (), str(folder))

    train, test = (_folder(part, subfolder, classes_expected) for part in (False, True))
    return Source(train, test, extra, unread=lambda config: unread(_root_of(config, subfolder)))


SOURCES: dict[str, Source] = {
    "fashion-mini": Source(_embedded("train"), _embedded("test")),
    "digits": Source(_digits(test=False), _digits(test=True)),
    "fashion": _torchvision("FashionMNIST", "FashionMNIST/raw", {"train": True}, {"train": False}),
    "mnist": _torchvision("MNIST", "MNIST/raw", {"train": True}, {"train": False}),
    "cifar10": _torchvision("CIFAR10", "cifar-10-batches-py", {"train": True}, {"train": False}),
    "cifar100": _torchvision("CIFAR100", "cifar-100-python", {"train": True}, {"train": False}),
    "stl10": _torchvision("STL10", "stl10_binary", {"split": "train"}, {"split": "test"}, split="unlabeled"),
    "folder": _folders(),
    "imagenet100": _folders("imagenet100", classes_expected=100),
}
