"""Data sets by name, each as its published parts: train, test and, for some, extra unlabelled images.

The test part has an opener of its own, so that nothing reads test labels before they are asked for.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock

from synthcl.config.sections import DataConfig
from synthcl.core.errors import UserError
from synthcl.data.own_images import OWN_IMAGES, class_folders
from synthcl.data.part import TEST_FRACTION, Opener, Part, Source, share_of_classes, stratified_cut

FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
DIGITS = tuple("0123456789")


def _embedded(part: str) -> Opener:
    def opener(config: DataConfig) -> Part:
        return _stored(f"fashion-mini-{part}", FASHION_CLASSES, f"the {part} part that comes with synthcl")

    return opener


def _digits(test: bool) -> Opener:
    def opener(config: DataConfig) -> Part:
        part = _stored("digits", DIGITS, f"{share_of_classes(test)}, by a cut that is always the same")
        return part.rows(stratified_cut(part, TEST_FRACTION, "digits", "test")[test])

    return opener


def _stored(name: str, classes: tuple[str, ...], origin: str) -> Part:
    with (resources.files("synthcl.data.embedded") / f"{name}.npz").open("rb") as file:
        stored = np.load(file, allow_pickle=False)
        images, labels = stored["images"], stored["labels"]
    return Part(images[..., None], torch.from_numpy(labels.astype(np.int64)), classes, origin)


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


SOURCES: dict[str, Source] = {
    "fashion-mini": Source(_embedded("train"), _embedded("test")),
    "digits": Source(_digits(test=False), _digits(test=True)),
    "fashion": _torchvision("FashionMNIST", "FashionMNIST/raw", {"train": True}, {"train": False}),
    "mnist": _torchvision("MNIST", "MNIST/raw", {"train": True}, {"train": False}),
    "cifar10": _torchvision("CIFAR10", "cifar-10-batches-py", {"train": True}, {"train": False}),
    "cifar100": _torchvision("CIFAR100", "cifar-100-python", {"train": True}, {"train": False}),
    "stl10": _torchvision("STL10", "stl10_binary", {"split": "train"}, {"split": "test"}, split="unlabeled"),
    "folder": OWN_IMAGES,
    "imagenet100": class_folders("imagenet100", classes_expected=100),
}
