"""Crop, flip, antialiasing and blur of images, with parameters of each view's own.

Along an axis, a pixel of a view is a weighted sum of few pixels of its image: its *taps*. On the CPU they are summed
as rows of a table, which at 96 pixels costs a tenth of a product of matrices. On a GPU, and where a gradient is
wanted, they are spread into matrices, which multiply faster than gathers reverse, and in the same order every time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Axes = tuple[Tensor, Tensor]
"""(n,) along the height and (n,) along the width"""

Taps = tuple[Tensor, Tensor]
"""of n views along one axis: indices of pixels (n, size, taps) int64, and their weights"""

_BLUR_REACH = 6  # sigmas at which the CPU cuts the kernel off: 1.5e-8 of its peak, less than float32 resolves


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
    count, taps = len(start[0]), math.ceil(2 * max(1, max(shape) / size))  # so many centres lie within the triangle
    pixels = torch.cat([start[0].new_full((count, 1), side) for side in shape])  # both axes, one after the other
    indices, weights = _triangle(torch.cat(start)[:, None] * pixels, torch.cat(extent)[:, None] * pixels, size, taps)
    indices = torch.minimum(indices.clamp_(min=0), pixels[:, :, None] - 1).long()
    return Crops((indices[:count], weights[:count]), (indices[count:], weights[count:]), sigma)


def resample(images: Tensor, crops: Crops, size: int) -> Tensor:
    """Views (n, C, size, size) of images (m, C, H, W) float, to which gradients flow; view i shows image i modulo m."""
    by_sums = images.device.type == "cpu" and not (images.requires_grad and torch.is_grad_enabled())
    return (_by_sums if by_sums else _by_matrices)(images, crops, size)


@torch.no_grad()
def _by_sums(images: Tensor, crops: Crops, size: int) -> Tensor:
    channels, height = images.shape[1:3]
    sigma, blurred = crops.sigma, None
    if sigma is not None and len(chosen := sigma.nonzero()[:, 0]):
        blurred, sigma = chosen, sigma[chosen]
        blur = _gaussian(sigma, size, min(size - 1, math.ceil(_BLUR_REACH * sigma.max().item())))

    def along(lines: Tensor, taps: Taps) -> Tensor:
        shown = torch.arange(len(lines)).repeat(len(taps[0]) // len(lines))
        views = _sum(lines, shown, taps)
        if blurred is not None:
            views[blurred] = _sum(views, blurred, blur)
        return views

    columns = images.flatten(1, 2).mT.contiguous()[:, None]  # (m, 1, W, C H)
    columns = along(columns, crops.along_width)  # (n, 1, size, C H)
    rows = columns.mT.contiguous().view(-1, channels, height, size)  # (n, C, H, size)
    return along(rows, crops.along_height)  # (n, C, size, size)


def _sum(lines: Tensor, shown: Tensor, taps: Taps) -> Tensor:
    """Lines (m, planes, pixels, width), which are shown (n,), and taps (n, size, taps) -> (n, planes, size, width)."""
    indices, weights = taps
    planes, pixels, width = lines.shape[1:]
    plane = planes * shown[:, None] + torch.arange(planes)  # (n, planes)
    places = indices[:, None] + pixels * plane[:, :, None, None]  # (n, planes, size, taps)
    weights = weights[:, None].expand_as(places).flatten(0, 2)
    sums = F.embedding_bag(places.flatten(0, 2), lines.flatten(0, 2), mode="sum", per_sample_weights=weights)
    return sums.view(*places.shape[:3], width)


def _by_matrices(images: Tensor, crops: Crops, size: int) -> Tensor:
    channels, height, width = images.shape[1:]
    upright, across = _matrices(crops.along_height, height), _matrices(crops.along_width, width)
    if crops.sigma is not None:
        blur = _matrices(_gaussian(crops.sigma, size, size - 1), size)  # (n, size, size)
        upright, across = blur @ upright, blur @ across  # (n, size, H), (n, size, W)
    shown = images.repeat(len(upright) // len(images), 1, 1, 1)  # (n, C, H, W)
    narrow = (shown.flatten(1, 2) @ across.mT).unflatten(1, (channels, height))  # (n, C, H, size)
    return upright[:, None] @ narrow


def _triangle(start: Tensor, extent: Tensor, size: int, taps: int) -> Taps:
    """Of crops along one axis, given in pixels (n, 1); the pixels are floats and may lie outside, at no weight."""
    support = (extent.abs() / size).clamp_min(1)
    centre = start + extent / size * (torch.arange(size, dtype=start.dtype, device=start.device) + 0.5)  # (n, size)
    tap = torch.arange(taps, dtype=start.dtype, device=start.device)
    pixel = (centre - support - 0.5).ceil_()[:, :, None] + tap  # (n, size, taps)
    end = start + extent
    low, high = torch.minimum(start, end)[:, :, None], torch.maximum(start, end)[:, :, None]
    inside = (torch.minimum(pixel + 1, high) - torch.maximum(pixel, low)).clamp_min_(0)
    weights = (1 - (pixel + 0.5 - centre[:, :, None]).abs_().div_(support[:, :, None])).clamp_min_(0).mul_(inside)
    return pixel, weights.div_(weights.sum(2, keepdim=True))


def _gaussian(sigma: Tensor, size: int, reach: int) -> Taps:
    """The blur along either axis; it reaches so many pixels, fewer than `size`."""
    offset = torch.arange(-reach, reach + 1, device=sigma.device)
    weights = torch.exp(-0.5 * (offset / sigma.clamp_min(1e-3)[:, None]) ** 2)  # (n, taps)
    weights = weights / weights.sum(1, keepdim=True)
    place = (torch.arange(size, device=sigma.device)[:, None] + offset).abs()
    indices = size - 1 - (size - 1 - place).abs()  # reflected at both edges
    return indices.expand(len(sigma), -1, -1), weights[:, None].expand(-1, size, -1)


def _matrices(taps: Taps, pixels: int) -> Tensor:
    """Taps spread into matrices (n, size, pixels)."""
    indices, weights = taps
    return weights.new_zeros(*weights.shape[:2], pixels).scatter_add_(2, indices, weights)
