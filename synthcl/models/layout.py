"""How images lie in memory."""

import torch
from torch import Tensor


def channels_last(images: Tensor) -> Tensor:
    """The same images with their channels last in memory, in the strides, too, where there is one channel.

    `contiguous` takes images of one channel for both layouts at once and leaves their strides as they are, and then a
    convolution chooses the slow one: on a CPU the first layer at 28 px takes three times as long.

    Args:
        images: (n, C, H, W).
    """
    count, channels, height, width = images.shape
    if channels == 1:
        return images.contiguous().view(count, height, width, 1).permute(0, 3, 1, 2)
    return images.contiguous(memory_format=torch.channels_last)
