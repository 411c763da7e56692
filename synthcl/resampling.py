"""Crop, flip, antialiasing and blur of images, with parameters of each view's own.

Along an axis, a pixel of a view is a weighted sum of few pixels of its image: its *taps*. On the CPU they are summed
as rows of a table, which at 96 pixels costs a tenth of a product of matrices; on a GPU, and backward, they are
spread into matrices, which it multiplies faster than it gathers, and in the same order every time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Axes = tuple[Tensor, Tensor]
"""(n,) along the height and (n,) along the width"""

Taps = tuple[Tensor, Tensor]
"""of n views along one axis: indices of pixels (n, size, taps) int64, and their weights"""

_BLUR_REACH = 5  # sigmas at which the CPU cuts the kernel off, at 4e-6 of its peak


class Crops(NamedTuple):
    """What n views show of their images along both axes."""

    along_height: Taps
    along_width: Taps
    sigma: Tensor | None  # (n,) of the blur, in pixels of the view, 0 where sharp; None blurs nothing

    def rows(self, rows: slice) -> Crops:
        """Those of some of the views."""
        (upright, upright_weights), (across, across_weights) = self.along_height, self.along_width
        sigma = None if self.sigma is None else self.sigma[rows]
        return Crops((upright[rows], upright_weights[rows]), (across[rows], across_weights[rows]), sigma)


def make_crops(start: Axes, extent: Axes, size: int, shape: Sequence[int], sigma: Tensor | None) -> Crops:
    """Crop, interpolate to `size` pixels a side, antialiased, then blur with reflected edges.

    A view's pixel averages what a triangle around its centre covers, wide as one pixel of the image or of the
    view, whichever is larger. Only what lies in the crop counts; a pixel on its edge counts by its share inside.

    Args:
        start: where each of the n crops begins, as fractions of H and W.
        extent: of the crops, likewise; a negative one mirrors, from its start downwards.
        size: pixels a side of a view.
        shape: H and W.
        sigma: (n,) of the Gaussian, in pixels of the view, 0 where sharp; None blurs nothing.
    """
    high, wide = (
        _triangle(begin, reach, size, pixels) for begin, reach, pixels in zip(start, extent, shape, strict=True)
    )
    return Crops(high, wide, sigma)


def resample(images: Tensor, crops: Crops, size: int) -> Tensor:
    """Views (n, C, size, size) of images (m, C, H, W) float, to which gradients flow; view i shows image i modulo m."""
    return (_by_sums if images.device.type == "cpu" else _by_matrices)(images, crops, size)


def _by_sums(images: Tensor, crops: Crops, size: int) -> Tensor:
    channels, height = images.shape[1:3]
    blurred: Tensor | None = None
    if crops.sigma is not None and len(chosen := crops.sigma.nonzero()[:, 0]):
        blurred, sigma = chosen, crops.sigma[chosen]
        blur = _gaussian(sigma, size, min(size - 1, math.ceil(_BLUR_REACH * sigma.max().item())))

    def along(lines: Tensor, taps: Taps) -> Tensor:
        views: Tensor = _WeightedSum.apply(lines, *taps)
        return views if blurred is None else views.index_copy(0, blurred, _WeightedSum.apply(views[blurred], *blur))

    views = along(images.flatten(1, 2).mT.contiguous(), crops.along_width)  # (m, W, C H) -> (n, size, C H)
    views = views.view(-1, size * channels, height).mT.contiguous()  # (n, H, size C)
    views = along(views, crops.along_height)  # (n, size, size C)
    return views.view(-1, size * size, channels).mT.reshape(-1, channels, size, size)


def _by_matrices(images: Tensor, crops: Crops, size: int) -> Tensor:
    channels, height, width = images.shape[1:]
    upright, across = _matrices(crops.along_height, height), _matrices(crops.along_width, width)
    if crops.sigma is not None:
        blur = _matrices(_gaussian(crops.sigma, size, size - 1), size)  # (n, size, size)
        upright, across = blur @ upright, blur @ across  # (n, size, H), (n, size, W)
    shown = images.repeat(len(upright) // len(images), 1, 1, 1)  # (n, C, H, W)
    narrow = (shown.flatten(1, 2) @ across.mT).unflatten(1, (channels, height))  # (n, C, H, size)
    return upright[:, None] @ narrow


def _triangle(start: Tensor, extent: Tensor, size: int, pixels: int) -> Taps:
    """The crop along one axis; a negative extent mirrors."""
    start, extent = start[:, None] * pixels, extent[:, None] * pixels  # (n, 1)
    support = (extent.abs() / size).clamp_min(1)
    centre = start + extent / size * (torch.arange(size, dtype=start.dtype, device=start.device) + 0.5)  # (n, size)
    taps = math.ceil(2 * max(1, pixels / size))  # so many centres lie less than `support` away
    tap = torch.arange(taps, dtype=start.dtype, device=start.device)
    pixel = (centre - support - 0.5).ceil_()[:, :, None] + tap  # (n, size, taps)
    low, high = torch.minimum(start, start + extent)[:, :, None], torch.maximum(start, start + extent)[:, :, None]
    inside = (torch.minimum(pixel + 1, high) - torch.maximum(pixel, low)).clamp_min_(0)
    weights = (1 - (pixel + 0.5 - centre[:, :, None]).abs_().div_(support[:, :, None])).clamp_min_(0).mul_(inside)
    return pixel.clamp_(0, pixels - 1).long(), weights.div_(weights.sum(2, keepdim=True))


def _gaussian(sigma: Tensor, size: int, reach: int) -> Taps:
    """The blur along either axis; it reaches so many pixels, fewer than `size`."""
    offset = torch.arange(-reach, reach + 1, device=sigma.device)
    weights = torch.exp(-0.5 * (offset / sigma.clamp_min(1e-3)[:, None]) ** 2)  # (n, taps)
    weights = weights / weights.sum(1, keepdim=True)
    place = (torch.arange(size, device=sigma.device)[:, None] + offset).abs()
    indices = size - 1 - (size - 1 - place).abs()  # reflected at both edges
    return indices.expand(len(sigma), -1, -1), weights[:, None].expand(-1, size, -1)


class _WeightedSum(torch.autograd.Function):
    """Rows (m, pixels, width) and taps (n, size, taps) -> (n, size, width), of row set i modulo m, on the CPU."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(indices, weights)
        count, pixels, width = ctx.shape = rows.shape
        number, size, taps = indices.shape
        first = torch.arange(0, count * pixels, pixels).repeat(number // count)
        places = (indices + first[:, None, None]).view(-1, taps)
        sums = F.embedding_bag(places, rows.view(-1, width), mode="sum", per_sample_weights=weights.reshape(-1, taps))
        return sums.view(number, size, width)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        gradient = _matrices(ctx.saved_tensors, ctx.shape[1]).mT @ gradient  # (n, pixels, width)
        return gradient.view(-1, *ctx.shape).sum(0), None, None


def _matrices(taps: Taps, pixels: int) -> Tensor:
    """Taps spread into matrices (n, size, pixels)."""
    indices, weights = taps
    return weights.new_zeros(*weights.shape[:2], pixels).scatter_add_(2, indices, weights)
