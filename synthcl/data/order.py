"""In which order images are seen, and how they arrive in that order."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

import torch
from torch.utils.data import DataLoader, Dataset

from synthcl.core.errors import UserError
from synthcl.data.images import ImageSource, StreamedImages


class _Batches(Dataset):
    """Decodes a batch a call; an error travels as a value, because the loader would wrap it in a traceback."""

    def __init__(self, source: StreamedImages) -> None:
        self.source = source

    def __getitem__(self, indices: list[int]) -> torch.Tensor | UserError:
        try:
            return self.source.decode(indices)
        except UserError as error:
            return error


def available_cores() -> int:
    """Cores that this process may use, as the data loader counts them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def stream(source: ImageSource, batches: Iterable[torch.Tensor], workers: int) -> Iterator[torch.Tensor]:
    """Fetch batch after batch, exactly in the order given; files are decoded ahead of their use.

    Args:
        source: where the images come from.
        batches: (n,) int64 each; may be endless, and is read a few batches ahead for streamed images.
        workers: decoding processes for streamed images, at most one for each core of this process; 0 decodes here.

    Yields:
        (n, C, S, S) uint8 on the source's device.

    Raises:
        UserError: when a file cannot be read.
    """
    if not isinstance(source, StreamedImages):
        yield from map(source.fetch, batches)
        return
    on_gpu = source.device.type == "cuda"
    loader = DataLoader(
        _Batches(source),
        batch_size=None,
        sampler=(batch.tolist() for batch in batches),
        num_workers=min(workers, available_cores()),
        pin_memory=on_gpu,
        generator=torch.Generator(),  # without it the loader would draw from the global state
    )
    for images in loader:
        if isinstance(images, UserError):
            raise images
        yield images.to(source.device, non_blocking=on_gpu)
