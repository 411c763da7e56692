"""Which images of a set are copies of some other image, exact or nearly so."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from synthcl.core.device import to_float

SIDE = 16
"""pixels a side at which images are compared"""
_CHUNK_IMAGES = 1024


def near_copies(images: Tensor, others: Tensor, distance: float) -> Tensor:
    """Images that are nearly equal to some other one.

    The distance is the root mean square over pixels and channels, at 16 pixels a side, in grey levels of 255. That of
    the means is never larger, so only images of about the same brightness are compared.

    Args:
        images: (n, C, S, S) uint8.
        others: (m, C, S, S) uint8.
        distance: at most so far; 0 finds images that are equal pixel by pixel at their own size.

    Returns:
        (n,) bool.

    Example:
        >>> image = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
        >>> near_copies(image, image.flip(3), 3.0), near_copies(image, (image // 2) * 2, 3.0)
        (tensor([False]), tensor([True]))
    """
    if distance == 0:
        known = {image.numpy().tobytes() for image in others.contiguous()}
        return torch.tensor([image.numpy().tobytes() in known for image in images.contiguous()], dtype=torch.bool)
    own, theirs = _small(images), _small(others)
    found = torch.zeros(len(images), dtype=torch.bool)
    brightness, order = theirs.mean(dim=1).sort()
    theirs = theirs[order]
    for rows in own.mean(dim=1).argsort().split(_CHUNK_IMAGES):
        chunk = own[rows]
        means = chunk.mean(dim=1)
        low, high = torch.searchsorted(brightness, torch.stack([means.min() - distance, means.max() + distance]))
        near = theirs[low : int(high) + 1]
        for some in near.split(_CHUNK_IMAGES):
            squared = torch.cdist(chunk, some, compute_mode="use_mm_for_euclid_dist").square() / chunk.shape[1]
            found[rows] |= (squared <= distance**2).any(dim=1)
    return found


def byte_copies(files: list[Path], others: list[Path]) -> list[bool]:
    """Files that hold the same bytes as some other one; only files of equal length are read."""
    by_length: dict[int, list[Path]] = defaultdict(list)
    for other in others:
        by_length[other.stat().st_size].append(other)
    known: dict[int, set[str]] = {}
    found = []
    for file in files:
        length = file.stat().st_size
        if length in by_length and length not in known:
            known[length] = {_hash(other) for other in by_length[length]}
        found.append(length in known and _hash(file) in known[length])
    return found


def _small(images: Tensor) -> Tensor:
    """Images (n, C, S, S) uint8 to (n, C * 16 * 16) float in [0, 255], or their own size where that is smaller."""
    side = min(SIDE, images.shape[-1])
    chunks = [255 * F.adaptive_avg_pool2d(to_float(chunk), side).flatten(1) for chunk in images.split(_CHUNK_IMAGES)]
    return torch.cat(chunks) if chunks else torch.empty(0, images.shape[1] * side**2)


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
