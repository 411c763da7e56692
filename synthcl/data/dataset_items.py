"""Items of a `torch.utils.data.Dataset` of the user's own, as images and labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from synthcl.core.errors import UserError, first_line
from synthcl.data.images import convert_image

RIGHT_IMAGE = "a PIL image, or a tensor (C, H, W) with 1 or 3 channels: uint8, or floats in [0, 1]"
RIGHT_ITEM = f"an image or (image, label); an image is {RIGHT_IMAGE}"


class Item(NamedTuple):
    """An item of a data set.

    Args:
        pixels: (C, S, S) uint8.
        label: of its class; None of an image without a label.
    """

    pixels: Tensor
    label: str | None


def is_dataset(images: Any) -> bool:
    """Whether images are given as items that can be asked for, not as a place or as paths.

    Raises:
        UserError: for a stream of items, which has no positions.
    """
    if isinstance(images, torch.utils.data.IterableDataset):
        raise UserError(
            f"images are a {type(images).__name__}, a stream whose items have no positions; give a Dataset with "
            "__len__ and __getitem__"
        )
    paths = isinstance(images, str | bytes | list | tuple)
    return not paths and hasattr(images, "__getitem__") and hasattr(images, "__len__")


def items(dataset: Any, image_size: int, channels: int) -> Iterator[Item]:
    """Every item, in order.

    Args:
        dataset: with `__len__` and `__getitem__`; its `classes`, if it has any, name integer labels.
        image_size: pixels a side; the short side is shrunk to it with antialiasing and the centre is cropped.
        channels: 1 (grey) or 3 (RGB).

    Raises:
        UserError: when it has no item, or one that is no image, with its position and what would be right.
    """
    count = length(dataset)
    for index in range(count):
        yield item_at(dataset, index, image_size, channels)


def length(dataset: Any) -> int:
    """How many items there are.

    Raises:
        UserError: when there is none.
    """
    try:
        count = len(dataset)
    except TypeError:
        raise UserError(f"dataset {type(dataset).__name__} has no length; give one with __len__") from None
    if not count:
        raise UserError(f"dataset {type(dataset).__name__} has no items; give one with images")
    return count


def item_at(dataset: Any, index: int, image_size: int, channels: int) -> Item:
    """One item; see `items`."""
    try:
        item = dataset[index]
    except Exception as error:  # a user's code can raise anything
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"dataset item {index} cannot be read: {reason}; mend or leave it out") from error
    image, label = item, None
    if isinstance(item, tuple | list):
        if len(item) not in (1, 2):
            raise UserError(f"dataset item {index} is a {type(item).__name__} of {len(item)}; give {RIGHT_ITEM}")
        image, label = item[0], item[1] if len(item) == 2 else None
    return Item(_squared(image, index, image_size, channels), _label(label, index, dataset))


def _squared(image: Any, index: int, image_size: int, channels: int) -> Tensor:
    if isinstance(image, Tensor):
        image = _opened(image, index)
    if not isinstance(image, Image.Image):
        raise UserError(f"dataset item {index} holds a {type(image).__name__}; give {RIGHT_ITEM}")
    try:
        return convert_image(image, image_size, channels)
    except ValueError as error:
        raise UserError(f"dataset item {index} of mode {image.mode!r}: {error}; give 8 or 16 bits") from None


def _opened(image: Tensor, index: int) -> Image.Image:
    """A tensor (C, H, W) as a PIL image of 8 bits."""
    if image.ndim != 3 or image.shape[0] not in (1, 3) or 0 in image.shape:
        raise UserError(f"dataset item {index} has shape {tuple(image.shape)}; give {RIGHT_IMAGE}")
    image = image.detach().cpu()
    if image.is_floating_point():
        low, high = float(image.min()), float(image.max())  # both NaN where a pixel is
        if not (low >= 0 and high <= 1):
            raise UserError(
                f"dataset item {index} has floats from {low:g} to {high:g}; give floats in [0, 1] (leave normalisation "
                "out), or torch.uint8"
            )
        image = (image.float() * 255).round().to(torch.uint8)
    if image.dtype != torch.uint8:
        raise UserError(f"dataset item {index} is {image.dtype}; give torch.uint8 in [0, 255], or floats in [0, 1]")
    pixels = image.permute(1, 2, 0).numpy()
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _label(label: Any, index: int, dataset: Any) -> str | None:
    if isinstance(label, Tensor | np.ndarray) and label.ndim == 0:
        label = label.item()
    if isinstance(label, int | np.integer) and label >= 0:
        names = getattr(dataset, "classes", None) or ()
        return str(names[label]) if label < len(names) else str(int(label))
    if label is None or (isinstance(label, str) and label.strip()):
        return label and label.strip()
    raise UserError(
        f"dataset item {index} has the label {label!r}; give a whole number from 0 on, a name, or None for no label"
    )
