"""Distillation: a predictor tells from a real view what a frozen teacher makes of the whole image.

Source: after Faghri et al., "Reinforce Data, Multiply Impact: Improved Model Accuracy and Robustness with Dataset
Reinforcement", ICCV 2023, which stores class probabilities of several augmentations of each image. Features need no
labels, and those of the image itself, without augmentation, are one row an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from synthcl.core.plugin import Count
from synthcl.method.objectives.predictor import make_predictor
from synthcl.method.objectives.term import TermSection
from synthcl.method.scene import Own, Seen, Term


class DistilConfig(TermSection):
    """What a predictor makes of a real view comes close to a teacher's features of the image; `distance` has it.

    Features of synthetic images are not known before they are made, so their views are no part of it.
    """

    kind: Literal["distil"] = "distil"
    teacher: str = Field(
        min_length=1,
        description="an encoder that synthcl has written: encoder.safetensors with its card, a checkpoint, or a folder "
        "with one of them; a run lets it look at all unlabelled images once, when it begins",
    )
    trust_code: bool = Field(
        False, description="whether the code that a teacher of kind custom names may be imported and called"
    )
    head: Literal["main"] = Field("main", description="always main, and not read: features are looked at themselves")
    plays: Literal[False] = Field(False, description="always false: it looks at real images alone")
    hidden: Count = Field(256, description="units of the predictor's hidden layer")
    on_features: ClassVar[bool] = True

    def build(self, dim: int, targets: Tensor | None = None) -> Distil:
        """The term.

        Args:
            dim: of the features.
            targets: (images, teacher's dim) float32, by position in the data set; None where shapes or ranges alone are
                asked for, and then they are as wide as the features.
        """
        return Distil(self, dim, torch.zeros(0, dim) if targets is None else targets)


def taught(terms: Mapping[str, TermSection]) -> dict[str, DistilConfig]:
    """Those of the terms that have a teacher, by name."""
    return {name: term for name, term in terms.items() if isinstance(term, DistilConfig)}


class Distil(Term):
    """In [0, 2], 0 where the predictor tells the teacher's direction exactly. A step without real views adds 0."""

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {"weight.start": {"low": 0.03, "high": 3.0, "log": True}}
    targets: Tensor

    def __init__(self, section: DistilConfig, dim: int, targets: Tensor) -> None:
        super().__init__()
        self.plays = section.plays
        self.predictor = make_predictor(dim, section.hidden, targets.shape[1])
        self.register_buffer("targets", targets, persistent=False)  # a run that resumes has the teacher, too

    def forward(self, seen: Seen, own: Own) -> Tensor:
        views, real = seen.views, seen.views.spans.get("real", slice(0, 0))
        if real.start == real.stop or views.images is None:
            return 0.0 * seen.features.float().sum()
        weights = None if views.weights is None else views.weights[real]
        return distance(self.predictor(seen.features[real]), self.targets[views.images[real]], weights)


def distance(predicted: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """How far predictions point from targets; of a mixed view, from those of all images that it shows, by weight.

        mean_i sum_a w_ia (1 - cos(p_i, t_ia))

    Args:
        predicted: (views, dim).
        targets: (views, m, dim), without gradient.
        weights: (views, m) that add up to 1 for each view; None for m of 1.

    Returns:
        0-dim float32, in [0, 2].

    Example:
        >>> p, t = torch.tensor([[3.0, 0.0], [1.0, 1.0]]), torch.tensor([[[1.0, 0.0]], [[0.0, -2.0]]])
        >>> round(distance(p, t).item(), 4)                                          # (0 + 1 + 1 / sqrt(2)) / 2
        0.8536
    """
    with torch.autocast(predicted.device.type, enabled=False):
        own, others = F.normalize(predicted.float(), dim=1), F.normalize(targets.float(), dim=2)
        apart = 1 - (own[:, None] * others).sum(dim=2)  # (views, m)
        return (apart if weights is None else weights.float() * apart).sum(dim=1).mean()
