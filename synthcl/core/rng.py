"""Every random number is a function of (seed, purpose, step).

Nothing draws from a global state: a step asks for its own generator. Draws are made for the whole
batch and sliced by worker, so a run's numbers do not depend on how many workers share it, and a
resumed run continues with the numbers it would have drawn.
"""

import hashlib

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
