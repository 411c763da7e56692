"""Small data sets that the tests write to disk, and how they look at what was read back."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from synthcl import data
from synthcl.config.sections import DataConfig

STREAM = 1e-6  # MiB: no folder fits, so files are streamed


def write_image(path: Path, seed: int, width: int = 24, height: int = 20) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.Generator(np.random.PCG64(seed)).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_classes(folder: Path, per_class: int, names: tuple[str, ...] = ("cat", "dog"), suffix: str = "png") -> None:
    for index, name in enumerate(names):
        for image in range(per_class):
            write_image(folder / name / f"{image}.{suffix}", 1000 * index + image, 20 + image)


def write_idx(folder: Path, prefix: str, labels: np.ndarray) -> None:
    """Files as MNIST's: image k is filled with k."""
    write_idx_images(folder, prefix, np.repeat(np.arange(len(labels), dtype=np.uint8), 28 * 28), labels)


def write_idx_images(folder: Path, prefix: str, pixels: np.ndarray, labels: np.ndarray) -> None:
    """Files as MNIST's, of n images of 28 x 28 uint8."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{prefix}-images-idx3-ubyte").write_bytes(
        struct.pack(">4i", 0x803, len(labels), 28, 28) + pixels.tobytes()
    )
    (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(
        struct.pack(">2i", 0x801, len(labels)) + labels.astype(np.uint8).tobytes()
    )


def folder_config(root: Path, **changes) -> DataConfig:
    return DataConfig(
        **{"source": "folder", "root": str(root), "image_size": 16, "channels": 3, "loader_workers": 0} | changes
    )


def all_pixels(split: data.Split) -> torch.Tensor:
    return split.images.fetch(torch.arange(len(split.images)))


def rows(split: data.Split) -> list[bytes]:
    return [image.numpy().tobytes() for image in all_pixels(split)]


def one_line(error: pytest.ExceptionInfo) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)
