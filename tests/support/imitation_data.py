"""Imitations of the published data sets: their file formats, shapes and classes, with a few images of noise a class."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
from image_files import write_idx_images
from PIL import Image
from torchvision import datasets

TEST_PER_CLASS = 1


def _train_per_class(classes: int) -> int:
    """One is cut for validation, the others are left to train on: two, or one where there are many classes."""
    return 3 if classes < 100 else 2


def accept_any_checksum() -> None:
    """Let torchvision open files of the right names in this process; it knows the published ones by their MD5 sums."""
    for module in (datasets.cifar, datasets.stl10):
        module.check_integrity = lambda path, md5=None: Path(path).is_file()


def write_source(source: str, root: Path) -> None:
    """Write a data set where `data.source` of this name looks for it below `data.root`.

    Args:
        source: a key of `synthcl.data.SOURCES`; for those inside the package nothing is written.
        root: the folder of all data sets.
    """
    if source in _WRITERS:
        _WRITERS[source](root)


def _labels(classes: int, per_class: int) -> np.ndarray:
    return np.tile(np.arange(classes, dtype=np.uint8), per_class)


def _noise(labels: np.ndarray, size: int, channels: int) -> np.ndarray:
    """(n, channels, size, size) uint8: noise about the colour of a class."""
    colours = np.random.default_rng(1).integers(48, 208, (256, channels, 1, 1))
    noise = np.random.default_rng(2).integers(-48, 48, (len(labels), channels, size, size))
    return (colours[labels] + noise).astype(np.uint8)


def _idx(root: Path, name: str) -> None:
    for prefix, per_class in (("train", _train_per_class(10)), ("t10k", TEST_PER_CLASS)):
        labels = _labels(10, per_class)
        write_idx_images(root / name / "raw", prefix, _noise(labels, 28, 1)[:, 0], labels)


def _cifar(root: Path, dataset: type[datasets.CIFAR10], classes: int, key: str) -> None:
    folder = root / dataset.base_folder
    folder.mkdir(parents=True, exist_ok=True)

    def write(names: list[str], labels: np.ndarray) -> None:
        parts = zip(np.array_split(_noise(labels, 32, 3), len(names)), np.array_split(labels, len(names)), strict=True)
        for name, (pixels, part) in zip(names, parts, strict=True):
            (folder / name).write_bytes(pickle.dumps({"data": pixels.reshape(len(part), -1), key: part.tolist()}))

    write([name for name, _ in dataset.train_list], _labels(classes, _train_per_class(classes)))
    write([name for name, _ in dataset.test_list], _labels(classes, TEST_PER_CLASS))
    names = {dataset.meta["key"]: [f"class {index}" for index in range(classes)]}
    (folder / dataset.meta["filename"]).write_bytes(pickle.dumps(names))


def _stl10(root: Path) -> None:
    folder = root / datasets.STL10.base_folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "class_names.txt").write_text("\n".join(f"class {index}" for index in range(10)))
    for part, per_class in (("train", _train_per_class(10)), ("test", TEST_PER_CLASS), ("unlabeled", 2)):
        labels = _labels(10, per_class)
        (folder / f"{part}_X.bin").write_bytes(_noise(labels, 96, 3).tobytes())
        if part != "unlabeled":
            (folder / f"{part}_y.bin").write_bytes((labels + 1).tobytes())


def _jpegs(root: Path, held_out: str, classes: int, size: int) -> None:
    for part, per_class in (("train", _train_per_class(classes)), (held_out, TEST_PER_CLASS)):
        labels = _labels(classes, per_class)
        for index, (label, pixels) in enumerate(zip(labels, _noise(labels, size, 3), strict=True)):
            file = root / part / f"n{label:08d}" / f"{index}.JPEG"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.transpose(1, 2, 0)).save(file)


_WRITERS: dict[str, Callable[[Path], None]] = {
    "fashion": lambda root: _idx(root, "FashionMNIST"),
    "mnist": lambda root: _idx(root, "MNIST"),
    "cifar10": lambda root: _cifar(root, datasets.CIFAR10, 10, "labels"),
    "cifar100": lambda root: _cifar(root, datasets.CIFAR100, 100, "fine_labels"),
    "stl10": _stl10,
    "folder": lambda root: _jpegs(root, "test", 5, 100),
    "imagenet100": lambda root: _jpegs(root / "imagenet100", "val", 100, 180),
}
