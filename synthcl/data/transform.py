"""How an image becomes what a frozen encoder sees: the same pixels for its probes and for whoever takes it away."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from synthcl.core.device import normalise, to_float
from synthcl.core.errors import UserError
from synthcl.data.images import convert_array, convert_image, read_image


class Transform:
    """Images of any size, as the encoder sees them in evaluation.

    The short side becomes `image_size` with antialiasing and the centre is cropped, as a data set's images are; then
    the square becomes `size`, and [0, 1] becomes [-1, 1] (mean 0.5, standard deviation 0.5).

    Args:
        image_size: pixels a side to which the data set's images were brought (`data.image_size`).
        size: pixels a side that the encoder was trained at (`views.base.size`, or else `data.image_size`).
        channels: 1 (grey) or 3 (RGB).

    Example:
        >>> import torch
        >>> transform = Transform(image_size=32, size=28, channels=3)
        >>> transform(torch.zeros(3, 48, 64, dtype=torch.uint8)).shape
        torch.Size([1, 3, 28, 28])
    """

    def __init__(self, image_size: int, size: int, channels: int) -> None:
        self.image_size, self.size, self.channels = image_size, size, channels

    def __call__(self, images: Image.Image | Tensor | str | Path) -> Tensor:
        """
        Args:
            images: a PIL image of any mode, or a tensor (C, H, W) or (n, C, H, W): uint8, or floats in [0, 1]. Or the
                path of an image file: a large JPEG is then decoded at a smaller scale, as in evaluation, which a PIL
                image of it, decoded in full, meets to within rounding.

        Returns:
            (n, channels, size, size) float32 in [-1, 1] on the tensor's device, n = 1 for a single image.

        Raises:
            UserError: for anything else, such as another number of channels, NaN, floats outside [0, 1], or a file
                that cannot be read.
        """
        if isinstance(images, str | Path):
            return as_seen(read_image(Path(images), self.image_size, self.channels)[None], self.size)
        if isinstance(images, Image.Image):
            try:
                return as_seen(convert_image(images, self.image_size, self.channels)[None], self.size)
            except ValueError as error:
                raise UserError(f"image of mode {images.mode!r}: {error}; give 8 or 16 bits") from None
        return as_seen(self._squares(_checked(images, self.channels)), self.size)

    def __repr__(self) -> str:
        return f"Transform(image_size={self.image_size}, size={self.size}, channels={self.channels})"

    def _squares(self, images: Tensor) -> Tensor:
        """Images (n, C, H, W) of any size to (n, C, image_size, image_size) of the same type."""
        height, width = images.shape[-2:]
        if height == width == self.image_size or not len(images):
            return images
        if images.is_floating_point():
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            return _resized(images[..., top : top + side, left : left + side], self.image_size)
        pixels = images.permute(0, 2, 3, 1).cpu().numpy()
        if height == width:  # as a data set that is one array
            return convert_array(pixels, self.image_size, self.channels).to(images.device)
        opened = (Image.fromarray(image.squeeze(-1) if self.channels == 1 else image) for image in pixels)
        return torch.stack([convert_image(image, self.image_size, self.channels) for image in opened]).to(images.device)


def as_seen(images: Tensor, size: int) -> Tensor:
    """Square images as encoders see them in evaluation.

    Args:
        images: (n, C, S, S) uint8, or floats in [0, 1].
        size: pixels a side the encoder was trained at; images of another size are resized, antialiased.

    Returns:
        (n, C, size, size) float32 in [-1, 1].
    """
    pixels = images.float() if images.is_floating_point() else to_float(images)
    return normalise(pixels if pixels.shape[-1] == size else _resized(pixels, size))


def _resized(pixels: Tensor, size: int) -> Tensor:
    return F.interpolate(pixels, size=(size, size), mode="bilinear", antialias=True).clamp(0, 1)


def _checked(images: Tensor, channels: int) -> Tensor:
    """Images (n, C, H, W), uint8 or float32.

    Raises:
        UserError: naming what is wrong.
    """
    right = f"a PIL image, or a tensor (C, H, W) or (n, C, H, W) with {channels} channels"
    if not isinstance(images, Tensor):
        raise UserError(f"images are a {type(images).__name__}; give {right}")
    if images.ndim not in (3, 4) or images.shape[-3] != channels or 0 in images.shape[-2:]:
        raise UserError(f"images have shape {tuple(images.shape)}; give {right}")
    batch = images if images.ndim == 4 else images[None]
    if batch.dtype == torch.uint8:
        return batch
    if not batch.is_floating_point():
        raise UserError(f"images are {batch.dtype}; give torch.uint8 in [0, 255] or floats in [0, 1]")
    batch = batch.float()
    if len(batch):
        low, high = float(batch.min()), float(batch.max())  # both NaN where a pixel is
        if not (low >= 0 and high <= 1):
            raise UserError(f"images have floats from {low:g} to {high:g}; give floats in [0, 1], or torch.uint8")
    return batch
