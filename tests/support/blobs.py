"""Gaussian classes, for tests of probes."""

import torch

from synthcl.core.rng import generator
from synthcl.evaluation.features import Labelled


def blobs(images: int, seed: int, dim: int = 6, classes: int = 3, separation: float = 0.8) -> Labelled:
    """Gaussian classes, off-centre and with dimensions of very different scale."""
    centres = separation * torch.randn(classes, dim, generator=generator("centres"))
    labels = torch.arange(images) % classes
    features = centres[labels] + torch.randn(images, dim, generator=generator("blobs", seed))
    return Labelled(features * torch.logspace(-2, 1, dim) + 5, labels)
