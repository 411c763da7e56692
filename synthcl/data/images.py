"""Images as the trainer sees them: uint8, one size, one number of channels, fetched by index.

A data set that fits lives on the device; a larger one stays as files and is decoded when fetched.
Both give the same pixels for the same files.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps

from synthcl.core.device import to_device
from synthcl.core.errors import UserError
from synthcl.core.progress import Progress

CHUNK_IMAGES = 4096  # bounds the memory of a resize
_HEAD_BYTES = 2**16
_TAIL_BYTES = 64
_CHUNK_LOOKS = 128
_LOOKERS = 8

T = TypeVar("T")


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

    def __init__(
        self,
        pixels: torch.Tensor,
        device: torch.device | str,
        keep_on_cpu: bool = False,
        files: StreamedImages | None = None,
    ) -> None:
        """
        Args:
            pixels: (n, C, S, S) uint8.
            device: where fetched images appear.
            keep_on_cpu: hold the tensor in main memory, for a set too large for the device.
            files: what the pixels were decoded from; the content key is theirs.
        """
        self.device, self.files = torch.device(device), files
        self.pixels = pixels if keep_on_cpu else pixels.to(self.device)

    def __len__(self) -> int:
        return len(self.pixels)

    def fetch(self, indices: torch.Tensor) -> torch.Tensor:
        return to_device(self.pixels[to_device(indices, self.pixels.device)], self.device)

    @cached_property
    def content_key(self) -> str:
        """Hex SHA-256 of the pixels; of images from files the key of the files, so that nobody has to decode them."""
        if self.files is not None:
            return self.files.content_key
        digest = hashlib.sha256(str(tuple(self.pixels.shape)).encode())
        for chunk in self.pixels.split(CHUNK_IMAGES):
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
        """Look at the head and the end of every file; decoding them all would take as long as an epoch.

        A file that is no image, or not all there, is found; a byte that has changed inside one is not.

        Raises:
            UserError: naming the first file that is unusable, in the words of `read_image`.
        """
        self._look_at_all("looking at image files", self._require_image)

    def _require_image(self, name: str) -> None:
        path = self.folder / name
        try:
            with Image.open(path) as opened:
                usable = opened.mode not in ("I", "F") and _ends_whole(path, opened.format)
        except Exception as error:  # a broken file can raise anything inside its decoder
            raise _unreadable(path, error) from None
        if not usable:  # or of a kind whose end says nothing
            read_image(path, self.image_size, self.channels)

    @cached_property
    def content_key(self) -> str:
        """Hex SHA-256 of size, channels, and the name, length and first 64 KiB of every file, in any order.

        It is the same whether the images are decoded or streamed, and wherever the folder lies. It notices files that
        come, go, are renamed or change their length or beginning; of a larger file, it does not notice a change
        behind the first 64 KiB that leaves the length as it was.
        """
        digest = hashlib.sha256(f"{self.image_size} {self.channels}".encode())
        for line in sorted(self._look_at_all("reading the heads of image files", self._signature)):
            digest.update(line)
        return digest.hexdigest()

    def _signature(self, name: str) -> bytes:
        path = self.folder / name
        try:
            with path.open("rb") as file:
                head, length = file.read(_HEAD_BYTES), os.fstat(file.fileno()).st_size
        except OSError as error:
            raise UserError(f"image {str(path)!r} cannot be read: {error.strerror}; restore or remove it") from None
        return f"\n{name}\0{length} {hashlib.sha256(head).hexdigest()}".encode(errors="surrogateescape")

    def _look_at_all(self, what: str, look: Callable[[str], T]) -> list[T]:
        """What every file gives, in their order, by threads: they wait for the disk more than they compute."""
        chunks = [self.names[begin : begin + _CHUNK_LOOKS] for begin in range(0, len(self.names), _CHUNK_LOOKS)]
        found: list[T] = []
        progress = Progress(what, len(self.names), "file", delay_seconds=5, leave=False)
        with progress, ThreadPoolExecutor(_LOOKERS) as pool:
            try:
                for answers in pool.map(lambda names: [look(name) for name in names], chunks):
                    found += answers
                    progress.advance(len(answers))
            except UserError:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return found


def _ends_whole(path: Path, kind: str | None) -> bool:
    """Whether a file has the end that its kind has; false where a kind has none to look for."""
    if kind == "WEBP":  # opening one reads it all
        return True
    end = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}.get(kind or "")
    if end is None:
        return False
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
        return end in file.read()


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
            return convert_image(opened, image_size, channels)
    except Exception as error:  # a broken file can raise anything inside its decoder
        raise _unreadable(path, error) from None


def convert_image(opened: Image.Image, image_size: int, channels: int) -> torch.Tensor:
    """Turn an image upright, shrink its short side to `image_size` with antialiasing and crop the centre.

    Args:
        opened: of any mode with 8 or 16 bits; 16-bit grey is reduced to 8 bits.
        image_size: pixels a side.
        channels: 1 (grey) or 3 (RGB).

    Returns:
        (channels, image_size, image_size) uint8.

    Raises:
        ValueError: when its pixels have neither 8 nor 16 bits.
    """
    mode = "L" if channels == 1 else "RGB"
    image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"its pixels are {image.mode!r}, neither 8 nor 16 bits")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # the same pixels as at once, which Pillow warns of
    image = ImageOps.fit(image.convert(mode), (image_size, image_size), Image.Resampling.BILINEAR)
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
    if pixels.shape[1:] == (image_size, image_size, channels):
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    from torchvision.transforms.v2 import functional  # takes as long to import as PyTorch

    images = torch.empty(len(pixels), channels, image_size, image_size, dtype=torch.uint8)
    for begin in range(0, len(pixels), CHUNK_IMAGES):
        chunk = torch.from_numpy(np.ascontiguousarray(pixels[begin : begin + CHUNK_IMAGES])).permute(0, 3, 1, 2)
        if chunk.shape[1] != channels:
            chunk = functional.to_grayscale(chunk) if channels == 1 else functional.grayscale_to_rgb(chunk)
        resized = functional.resize(chunk, [image_size, image_size], antialias=True)
        images[begin : begin + len(chunk)] = resized
    return images
