"""Images as the trainer sees them: uint8, one size, one number of channels, fetched by index.

A data set that fits lives on the device; a larger one stays as files and is decoded when fetched.
Both give the same pixels for the same files.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image, ImageOps
from torchvision.transforms.v2 import functional

from synthcl.errors import UserError
from synthcl.memory import to_device
from synthcl.progress import Progress

_CHUNK_IMAGES = 4096  # bounds the memory of a resize


class ImageSource(Protocol):
    """A fixed sequence of images of one size."""

    device: torch.device
    resident: bool

    @property
    def content_key(self) -> str:
        """Hex SHA-256 that changes with the images, so that what was derived from them can be cached."""

    def __len__(self) -> int: ...

    def fetch(self, indices: torch.Tensor) -> torch.Tensor:
        """The images at these positions.

        Args:
            indices: (n,) int64 in [0, len).

        Returns:
            (n, C, S, S) uint8 on the source's device.
        """


class ResidentImages:
    """Images held in memory as one uint8 tensor."""

    resident = True

    def __init__(self, pixels: torch.Tensor, device: torch.device | str, keep_on_cpu: bool = False) -> None:
        """
        Args:
            pixels: (n, C, S, S) uint8.
            device: where fetched images appear.
            keep_on_cpu: hold the tensor in main memory, for a set too large for the device.
        """
        self.device = torch.device(device)
        self.pixels = pixels if keep_on_cpu else pixels.to(self.device)

    def __len__(self) -> int:
        return len(self.pixels)

    def fetch(self, indices: torch.Tensor) -> torch.Tensor:
        return to_device(self.pixels[to_device(indices, self.pixels.device)], self.device)

    @cached_property
    def content_key(self) -> str:
        digest = hashlib.sha256(str(tuple(self.pixels.shape)).encode())
        for chunk in self.pixels.split(_CHUNK_IMAGES):
            digest.update(chunk.contiguous().cpu().numpy().data)
        return digest.hexdigest()


class StreamedImages:
    """Images that stay on disk and are decoded when they are fetched."""

    resident = False

    def __init__(
        self, folder: Path, names: tuple[str, ...], image_size: int, channels: int, device: torch.device | str
    ) -> None:
        """
        Args:
            folder: where the files are.
            names: paths of the files inside `folder`.
            image_size: pixels a side after the centre crop.
            channels: 1 (grey) or 3 (RGB).
            device: where fetched images appear.
        """
        self.folder, self.names = folder, names
        self.image_size, self.channels = image_size, channels
        self.device = torch.device(device)

    def __len__(self) -> int:
        return len(self.names)

    def decode(self, indices: list[int]) -> torch.Tensor:
        """Read these images, (n, C, S, S) uint8 on the CPU."""
        images = torch.empty(len(indices), self.channels, self.image_size, self.image_size, dtype=torch.uint8)
        for image, index in zip(images, indices, strict=True):
            image.copy_(read_image(self.folder / self.names[index], self.image_size, self.channels))
        return images

    def fetch(self, indices: torch.Tensor) -> torch.Tensor:
        return self.decode(indices.tolist()).to(self.device)

    def require_images(self) -> None:
        """Look at the head of every file; decoding them all would take as long as an epoch.

        Raises:
            UserError: naming the first that is no image.
        """
        with Progress("looking at image files", len(self), "file", delay_seconds=5, leave=False) as progress:
            for name in self.names:
                try:
                    with Image.open(self.folder / name):
                        pass
                except Exception as error:  # a broken file can raise anything inside its decoder
                    raise _unreadable(self.folder / name, error) from None
                progress.advance()

    @cached_property
    def content_key(self) -> str:
        digest = hashlib.sha256(f"{self.image_size} {self.channels}".encode())
        for name in sorted(self.names):
            digest.update(f"\n{name}\0{_size_bytes(self.folder / name)}".encode(errors="surrogateescape"))
        return digest.hexdigest()


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise UserError(f"image {str(path)!r} cannot be read: {error.strerror}; restore or remove it") from None


def read_image(path: Path, image_size: int, channels: int) -> torch.Tensor:
    """Decode a file, shrink its short side to `image_size` with antialiasing and crop the centre.

    Args:
        path: a JPEG, PNG or other file Pillow reads; 16-bit grey is reduced to 8 bits.
        image_size: pixels a side.
        channels: 1 (grey) or 3 (RGB).

    Returns:
        (channels, image_size, image_size) uint8.

    Raises:
        UserError: when the file is missing, corrupt or of an unsupported kind.
    """
    mode = "L" if channels == 1 else "RGB"
    try:
        with Image.open(path) as opened:
            opened.draft(mode, (2 * image_size, 2 * image_size))  # lets libjpeg skip detail that will be averaged away
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I;16"):
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            elif image.mode in ("I", "F"):
                raise ValueError(f"its pixels are {image.mode!r}, neither 8 nor 16 bits")
            image = ImageOps.fit(image.convert(mode), (image_size, image_size), Image.Resampling.BILINEAR)
    except Exception as error:  # a broken file can raise anything inside its decoder
        raise _unreadable(path, error) from None
    return torch.from_numpy(np.array(image)).reshape(image_size, image_size, channels).permute(2, 0, 1)


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UserError(f"image {str(path)!r} cannot be read: {reason}; replace or remove it")


def convert_array(pixels: np.ndarray, image_size: int, channels: int) -> torch.Tensor:
    """Bring an array of square images to one size, with antialiasing, and one number of channels.

    Args:
        pixels: (n, H, H, 1 or 3) uint8.
        image_size: pixels a side.
        channels: 1 or 3; RGB becomes grey by ITU-R 601-2 luma, grey is repeated.

    Returns:
        (n, channels, image_size, image_size) uint8.
    """
    images = torch.empty(len(pixels), channels, image_size, image_size, dtype=torch.uint8)
    for begin in range(0, len(pixels), _CHUNK_IMAGES):
        chunk = torch.from_numpy(np.ascontiguousarray(pixels[begin : begin + _CHUNK_IMAGES])).permute(0, 3, 1, 2)
        if chunk.shape[1] != channels:
            chunk = functional.to_grayscale(chunk) if channels == 1 else functional.grayscale_to_rgb(chunk)
        resized = functional.resize(chunk, [image_size, image_size], antialias=True)
        images[begin : begin + len(chunk)] = resized
    return images
