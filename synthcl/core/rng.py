"""Every random number is a function of (seed, purpose, step).

Nothing draws from a global state: a step asks for its own generator. Draws are made for the whole
batch and sliced by worker, so a run's numbers do not depend on how many workers share it, and a
resumed run continues with the numbers it would have drawn.
"""

import hashlib
from functools import lru_cache

import torch


def seed_from(*key: int | str) -> int:
    """A 63-bit seed that depends on the key alone."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(*key: int | str) -> torch.Generator:
    """A fresh CPU generator that depends on the key alone.

    Args:
        key: for example `(config.training.seed, "latents", step)`.
    """
    return torch.Generator().manual_seed(seed_from(*key))


def epoch_indices(count: int, begin: int, size: int, *key: int | str) -> torch.Tensor:
    """A slice of the endless shuffled sequence in which every epoch is a fresh permutation.

    Args:
        count: things that are shuffled, at least 1.
        begin: position in the sequence; position p lies in epoch p // count.
        size: how many indices, possibly over several epochs.
        key: what the shuffles depend on, for example `(config.training.seed, "real")`.

    Returns:
        (size,) int64 in [0, count), a function of the arguments alone.
    """
    if count < 1 or begin < 0 or size < 0:
        raise ValueError(f"count {count} must be at least 1, begin {begin} and size {size} at least 0")
    end = begin + size
    parts = [torch.empty(0, dtype=torch.int64)]
    for epoch in range(begin // count, -(-end // count)):
        first = epoch * count
        parts.append(_permutation(count, (*key, epoch))[max(begin - first, 0) : end - first])
    return torch.cat(parts)  # a copy, so that nobody writes into the cached permutation


@lru_cache(maxsize=4)  # a step reads a short slice of the same long permutation
def _permutation(count: int, key: tuple[int | str, ...]) -> torch.Tensor:
    return torch.randperm(count, generator=generator(*key))
