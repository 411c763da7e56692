"""Clusters of the real images, by what an encoder makes of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synthcl.config.schema import Config
from synthcl.core import distributed
from synthcl.core.kmeans import kmeans
from synthcl.data import ImageSource
from synthcl.data.features import encode


def clusters_of(encoder: nn.Module, images: ImageSource, config: Config) -> Tensor:
    """The cluster of every image by k-means on directions of features, the same in all processes.

    Each process encodes all images, so that none waits for another; what the first finds holds.

    Args:
        encoder: as it is now; it is in evaluation mode for as long as it takes.
        images: the unlabelled ones.
        config: of the run.

    Returns:
        (n,) int64 on the CPU.

    Raises:
        Diverged: when a feature is NaN or infinite.
    """
    where = config.evaluation.batch_images, config.view_size, config.data.loader_workers
    directions = F.normalize(encode(encoder, images, None, *where), dim=1)
    found = kmeans(directions, config.curriculum.balance.clusters, config.training.seed)
    return torch.tensor(distributed.of_first(found.tolist(), images.device)).to(torch.int64)
