"""Which training images lend their labels to a probe."""

import torch
from torch import Tensor

from synthcl.rng import generator


def label_order(labels: Tensor, seed: int) -> Tensor:
    """An order of the images in which every prefix is a stratified subset, so label fractions nest.

    One image of every class comes first; after them, any prefix holds each class in proportion to its size, to
    within one image or two. Images of a class are in random order.

    Args:
        labels: (n,) int64 on the CPU.
        seed: `data.split_seed`, so that all runs of a data set probe with the same labels.

    Returns:
        (n,) int64, a permutation.
    """
    shuffled = torch.randperm(len(labels), generator=generator(seed, "label-order"))
    by_class = shuffled[labels[shuffled].argsort(stable=True)]  # classes in blocks, shuffled inside
    sizes = labels.bincount()
    first = sizes.cumsum(0) - sizes
    rank = torch.arange(len(labels)) - first[labels[by_class]]  # 0, 1, ... inside each class
    position = (rank + 0.5) / sizes[labels[by_class]]  # evenly spaced in (0, 1)
    position[rank == 0] = 0.0
    return by_class[position.argsort(stable=True)]


def label_count(fraction: float, images: int, classes: int) -> int:
    """How many images a label fraction takes: at least one a class.

    Args:
        fraction: share of the labels, in (0, 1].
        images: number of labelled training images.
        classes: number of classes.
    """
    return max(classes, round(fraction * images))
