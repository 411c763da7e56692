"""The configuration that a call in Python asks for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from synthcl.config.cli import config_of
from synthcl.config.schema import Config
from synthcl.core.errors import UserError
from synthcl.data.dataset_items import RIGHT_ITEM, is_dataset
from synthcl.data.written_dataset import write_dataset
from synthcl.runs.storage import Storage

Images = str | Path | torch.utils.data.Dataset[Any]
"""a folder, a list of paths in a `.txt`, or a Dataset"""


def settings(
    images: Images | None,
    labels: str | Path | None,
    preset: str | Path | Config | None,
    storage: str | Path | None,
    address: str | None,
    overrides: Mapping[str, Any] | None,
    more: Mapping[str, Any] | None = None,
) -> Config:
    """The whole configuration; a Dataset is written into the storage as files.

    Args:
        images: of the user's own; None are those of the preset.
        labels: of a folder or list: a CSV file with the columns path and label, or `none`.
        preset: None is `folder` with images, and `fashion-mini` without.
        storage: where runs are made.
        address: of a Ray cluster.
        overrides: by dotted field.
        more: what options stand for; they come after the overrides.

    Raises:
        UserError: on bad values, images that are none, or something given twice.
    """
    given = {**(overrides or {}), **(more or {})}
    twice = (("data.root", "images", images), ("data.source", "images", images), ("data.labels", "labels", labels))
    for field, named, value in twice:
        if value is not None and field in given:
            raise UserError(f"overrides has {field}={given[field]!r}, and {named} is given too; give one of them")
    chosen = preset if isinstance(preset, Config) else str(preset or ("fashion-mini" if images is None else "folder"))
    root = None if storage is None else str(storage)
    dataset = images is not None and is_dataset(images)
    if images is not None and not dataset:
        given |= {"data.source": "folder", "data.root": _place(images)}
    if labels is not None:
        if dataset:
            raise UserError(f"labels {str(labels)!r} are given for a Dataset; give items (image, label)")
        given["data.labels"] = str(labels)
    if not dataset:
        return config_of(chosen, given, address=address, storage=root)
    given = {"data.source": "folder", "data.labels": "none"} | given
    config = config_of(chosen, given, address=address, storage=root)
    return config.with_overrides(_written(images, config))


def _place(images: Any) -> str:
    if not isinstance(images, str | Path):
        raise UserError(
            f"images are a {type(images).__name__}; give a folder, a list of paths (.txt), or a Dataset of items, each "
            + RIGHT_ITEM
        )
    return str(images)


def _written(dataset: Any, config: Config) -> dict[str, Any]:
    storage = Storage(config.compute.storage, config.name)
    if storage.is_uri:
        raise UserError(
            f"compute.storage {config.compute.storage!r} is a URI, and a Dataset is written into a folder of the "
            "storage that every worker opens; give storage a folder, or images a folder that every node has"
        )
    storage.probe()
    with storage.failures_named():
        written = write_dataset(dataset, storage.shared, config.data.image_size, config.data.channels)
    print(f"{'dataset':<10} {written.describe()}", flush=True)
    return written.overrides
