"""Which training images lend their labels to a probe."""

import torch
from torch import Tensor

from synthcl.config.sections import EvaluationConfig
from synthcl.core.errors import UserError
from synthcl.core.rng import generator


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


def label_count(entry: float, images: int, classes: int) -> int:
    """How many labels an entry of `evaluation.label_fractions` takes: at least one a class.

    Args:
        entry: share of the labels in (0, 1], or above 1 the number itself.
        images: number of labelled training images.
        classes: number of classes.

    Example:
        >>> label_count(0.1, 8000, 10), label_count(500, 8000, 10)
        (800, 500)
    """
    return max(classes, round(entry if entry > 1 else entry * images))


def most_labels(settings: EvaluationConfig, images: int, classes: int, *, quick: bool) -> int:
    """How many labels the probes of a data set share at the most: of all images, of which there may be fewer.

    Args:
        settings: the caps.
        images: number of labelled training images.
        classes: number of classes; at least one label each.
        quick: whether at a rung before the last.
    """
    caps = [settings.max_label_images or images]
    if quick:
        caps.append(settings.early_label_images)
    return min(images, max(classes, min(caps)))


def require_labels(settings: EvaluationConfig, images: int, classes: int) -> None:
    """Refuse labels that the data set does not have, and a cap that would make a score's name untrue.

    Args:
        settings: the evaluation section.
        images: number of labelled training images.
        classes: number of classes.

    Raises:
        UserError: saying what to write instead.
    """
    field, entries = "evaluation.label_fractions", [int(e) if e > 1 else e for e in settings.label_fractions]
    cap, headline = settings.max_label_images, label_count(settings.headline, images, classes)
    if settings.headline > images:
        raise UserError(
            f"{field}={entries}: there are {images} labelled training images; write 1.0 for all of them, or at most "
            f"{images}"
        )
    for name, count in [(field, entry) for entry in entries if entry > 1] + [("evaluation.max_label_images", cap)]:
        if count is not None and count < classes:
            raise UserError(f"{name}: {count} labels are fewer than the {classes} classes; write {classes} or more")
    for entry in settings.label_fractions:
        if (count := label_count(entry, images, classes)) > headline:
            raise UserError(
                f"{field}={entries}: {entry:g} of {images} labels are {count}, more than the largest number, "
                f"{headline}, whose probe is the search's score; write a number of {count} or more as well, or 1.0"
            )
    if cap is not None and cap < headline:
        fewer = [entry for entry in entries if label_count(entry, images, classes) < cap]
        raise UserError(
            f"evaluation.max_label_images={cap} is below the {headline} labels that {field}={entries} asks for; "
            f"write {field}={[cap, *fewer]}, or evaluation.max_label_images=null to use all labels"
        )
