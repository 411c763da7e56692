"""A `torch.utils.data.Dataset` of the user's own as files that every worker, a resumed run and the command line open.

    datasets/<key>/images/000000/000000007.png    item 7, at `data.image_size`, lossless
    datasets/<key>/labels-<key>.csv               where items have labels

The key is of the content, so the same items are written once, and other items are another data set.
"""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image

from synthcl.core.errors import UserError
from synthcl.core.progress import Progress
from synthcl.data.dataset_items import Item, item_at, items, length
from synthcl.data.pool import COLUMNS

FOLDER = "datasets"
IMAGES = "images"
_FILES_A_FOLDER = 1000
_KEY_DIGITS = 16


class Written(NamedTuple):
    """Where a data set lies now.

    Args:
        folder: of images and labels.
        images: how many.
        labelled: how many of them have a label.
        classes: how many there are.
    """

    folder: Path
    images: int
    labelled: int
    classes: int

    @property
    def overrides(self) -> dict[str, Any]:
        """What opens it as data set `folder`."""
        labels = f"labels-{self.folder.name}.csv" if self.labelled else "none"  # in the root, wherever that lies
        return {"data.source": "folder", "data.root": str(self.folder), "data.labels": labels}

    def describe(self) -> str:
        """A line that says how many there are, and how a command takes them."""
        labels = f"{self.labelled:,} with labels of {self.classes:,} classes" if self.labelled else "without labels"
        fields = " ".join(f"{field}={value}" for field, value in self.overrides.items())
        return f"{self.images:,} items, {labels}; as files for every worker, and for a command: {fields}"


def write_dataset(dataset: Any, storage: Path, image_size: int, channels: int) -> Written:
    """Write every item once.

    Args:
        dataset: see `dataset_items.items`.
        storage: the folder under which runs are made.
        image_size: pixels a side that items are brought to.
        channels: 1 (grey) or 3 (RGB).

    Raises:
        UserError: as `dataset_items.items`, or when an item is not the same twice.
    """
    _require_same_twice(dataset, image_size, channels)
    parent = storage / FOLDER
    parent.mkdir(parents=True, exist_ok=True)
    unfinished = parent / f".unfinished-{os.getpid()}"
    shutil.rmtree(unfinished, ignore_errors=True)  # of a killed process that had this number
    digest = hashlib.sha256(f"{image_size} {channels}".encode())
    labels: dict[str, str] = {}
    try:
        with Progress("writing the dataset", length(dataset), "image", delay_seconds=5, leave=False) as progress:
            for number, item in enumerate(items(dataset, image_size, channels)):
                name = f"{IMAGES}/{number // _FILES_A_FOLDER:06}/{number:09}.png"
                _write(unfinished / name, item)
                digest.update(item.pixels.numpy().tobytes() + f"\n{item.label}\n".encode())
                if item.label is not None:
                    labels[name] = item.label
                progress.advance()
        key = digest.hexdigest()[:_KEY_DIGITS]
        if labels:
            with (unfinished / f"labels-{key}.csv").open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([COLUMNS, *labels.items()])
        if not (parent / key).is_dir():
            unfinished.replace(parent / key)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return Written(parent / key, number + 1, len(labels), len({*labels.values()}))


def _write(file: Path, item: Item) -> None:
    if not file.parent.is_dir():
        file.parent.mkdir(parents=True)
    pixels = item.pixels.permute(1, 2, 0).numpy()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    image.save(file, compress_level=1)


def _require_same_twice(dataset: Any, image_size: int, channels: int) -> None:
    """Refuse items that chance decides: a resumed run would see others, and views are drawn from images anyway."""
    for index in {0, length(dataset) // 2, length(dataset) - 1}:
        first, second = (item_at(dataset, index, image_size, channels) for _ in range(2))
        if first.label != second.label or not torch.equal(first.pixels, second.pixels):
            raise UserError(
                f"dataset item {index} is not the same when it is read twice; leave random transforms out, since views "
                "are augmented in training (section views)"
            )
