"""Images side by side in one PNG.

torchvision's `make_grid` does the same and more; importing it takes as long as importing all of PyTorch, in every
process that trains.
"""

from __future__ import annotations

import io

import torch.nn.functional as F
from PIL import Image
from torch import Tensor


def grid_png(images: Tensor, columns: int) -> bytes:
    """A PNG of images in rows, a black line of a pixel around each.

    Args:
        images: (n, 1 or 3, H, W) float in [0, 1] on the CPU; n is a multiple of `columns`.
        columns: images in a row.

    Example:
        >>> import torch
        >>> Image.open(io.BytesIO(grid_png(torch.rand(6, 3, 16, 16), columns=3))).size
        (52, 35)
    """
    lined = F.pad(images, (1, 0, 1, 0))  # on the left and above: (n, C, H + 1, W + 1)
    rows = lined.unflatten(0, (-1, columns)).permute(0, 3, 1, 4, 2)  # (rows, H + 1, columns, W + 1, C)
    grid = F.pad(rows.flatten(2, 3).flatten(0, 1), (0, 0, 0, 1, 0, 1))  # (height, width, C)
    pixels = (grid * 255 + 0.5).clamp(0, 255).byte().expand(-1, -1, 3)
    png = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(png, format="png")
    return png.getvalue()
