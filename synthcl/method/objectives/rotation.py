"""Rotation pretext: some views are turned by right angles, and a classifier tells from their features how far.

Source: Gidaris et al., "Unsupervised Representation Learning by Predicting Image Rotations", ICLR 2018; beside a
contrastive loss as in Kinakh et al., "ScatSimCLR: Self-Supervised Contrastive Learning with Pretext Task
Regularization for Small-Scale Datasets", ICCV workshops 2021.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from synthcl.core.plugin import Count
from synthcl.core.quarter_turns import quarter_turned
from synthcl.method.curriculum import AnySchedule
from synthcl.method.curriculum.ramps import Constant
from synthcl.method.objectives.term import TermSection
from synthcl.method.scene import Own, Pretext, Seen, Statistics


class RotationTermConfig(TermSection):
    """A share of the real images is taken from all other terms, and its views are turned by 0, 90, 180 or 270 degrees.

    They replace views and add none, so that a step encodes as many as before.
    """

    kind: Literal["rotation"] = "rotation"
    weight: AnySchedule = Field(Constant(start=0.3), description="of the loss in the sum; 0 all along builds nothing")
    head: Literal["main"] = Field("main", description="always main, and not read: features are looked at themselves")
    plays: Literal[False] = Field(False, description="always false: it looks at real images alone")
    share: float = Field(
        0.25, gt=0, le=0.5, description="of a step's real images, whose views no other term looks at, all run long"
    )
    hidden: Count = Field(128, description="units of the classifier's hidden layer")
    on_features: ClassVar[bool] = True

    @property
    def apart(self) -> float:
        return self.share

    def build(self, dim: int) -> RotationTerm:
        return RotationTerm(self, dim)


class RotationTerm(Pretext):
    """Cross-entropy of the four turns; ln 4 where features say nothing of them. A step without turned views adds 0.

    View r of the block is turned r mod 4 times. Images stand in random order there, so turns need no draw of their own,
    and a step has as many of one as of another.
    """

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {
        "weight.start": {"low": 0.03, "high": 1.0, "log": True},
        "share": {"low": 0.1, "high": 0.5},
    }

    def __init__(self, section: RotationTermConfig, dim: int) -> None:
        super().__init__()
        self.plays = section.plays
        self.classifier = nn.Sequential(nn.Linear(dim, section.hidden), nn.ReLU(), nn.Linear(section.hidden, 4))
        self._observed: Statistics = {}

    def posed(self, views: Tensor, rows: Tensor) -> Tensor:
        return quarter_turned(views, rows % 4)

    def forward(self, seen: Seen, own: Own) -> Tensor:
        self._observed = {}
        if seen.apart is None or seen.of_apart is None:
            return 0.0 * torch.stack([parameter.sum() for parameter in self.parameters()]).sum()
        turns = seen.apart.rows % 4
        with torch.autocast(seen.of_apart.device.type, enabled=False):
            logits = self.classifier(seen.of_apart.float())  # (views, 4)
            self._observed = {"rotation/accuracy": (logits.detach().argmax(dim=1) == turns).float().mean()}
            return F.cross_entropy(logits, turns)

    def measures(self, seen: Seen) -> Statistics:
        return self._observed
