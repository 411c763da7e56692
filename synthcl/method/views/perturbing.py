"""The network of a Viewmaker: an image and noise to a perturbation of it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_COLOURS = 3


class Perturbing(nn.Module):
    """Convolutions to a quarter of the resolution, residual blocks, and back; all but the last with instance norms.

    A map of noise joins at the input and before every block. A grey image is shown as one of three equal colours, and
    its perturbation is their mean.

    Args:
        width: channels at full resolution.
        blocks: residual blocks.
        noise: largest random input, in [0, 1].

    Source: Tamkin et al., ICLR 2021, appendix A, after Johnson et al., "Perceptual Losses for Real-Time Style
    Transfer", ECCV 2016; there with 32 channels and 3 blocks, many times the cost of a small encoder.
    """

    def __init__(self, width: int, blocks: int, noise: float) -> None:
        super().__init__()
        self._noise = noise
        deep = 4 * width
        self.down = nn.ModuleList(
            [
                _Layer(_COLOURS + 1, width, 9),
                _Layer(width, 2 * width, 3, stride=2),
                _Layer(2 * width, deep, 3, stride=2),
            ]
        )
        self.blocks = nn.ModuleList([_Block(deep + number) for number in range(1, blocks + 1)])
        self.up = nn.ModuleList([_Layer(deep + blocks, 2 * width, 3), _Layer(2 * width, width, 3)])
        self.last = nn.Conv2d(width, _COLOURS, 9, padding=4, padding_mode="reflect")

    def forward(self, images: Tensor, noise: Tensor) -> Tensor:
        """Perturbations (n, C, s, s) of images (n, C, s, s) in [0, 1], C 1 or 3, and noise (n, pixels of all maps)."""
        size, channels = images.shape[3], images.shape[1]
        sides = noises(size, len(self.blocks))
        first, *others = (
            self._noise * flat.unflatten(1, (1, side, side))
            for side, flat in zip(sides, noise.split([side * side for side in sides], dim=1), strict=True)
        )
        x = torch.cat([images.expand(-1, _COLOURS, -1, -1), first], dim=1)
        for layer in self.down:
            x = F.relu(layer(x))
        for block, own in zip(self.blocks, others, strict=True):
            x = block(torch.cat([x, own], dim=1))
        for layer, side in zip(self.up, (_half(size), size), strict=True):
            x = F.relu(layer(F.interpolate(x, size=(side, side), mode="nearest")))
        made: Tensor = self.last(x)
        return made if channels == _COLOURS else made.mean(dim=1, keepdim=True)


class _Layer(nn.Module):
    """A convolution with reflected edges, and an instance norm, which makes a bias idle."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        half = kernel // 2
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, half, bias=False, padding_mode="reflect")
        self.norm = nn.InstanceNorm2d(outputs, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        normalised: Tensor = self.norm(self.convolution(x))
        return normalised


class _Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = _Layer(channels, channels, 3), _Layer(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.second(F.relu(self.first(x)))
        return x + added


def noises(size: int, blocks: int) -> list[int]:
    """Sides of the maps of noise: of the input, then of every block.

    Example:
        >>> noises(28, 3)
        [28, 7, 7, 7]
    """
    return [size, *[_half(_half(size))] * blocks]


def _half(size: int) -> int:
    """Pixels a side after a stride of 2."""
    return (size + 1) // 2
