"""DANN: a classifier tells real from synthetic views, and the encoder learns that it cannot.

Source: Ganin et al., "Domain-Adversarial Training of Neural Networks", JMLR 2016.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import softplus

from synthcl.core.plugin import Count
from synthcl.core.reversal import reverse
from synthcl.method.curriculum import AnySchedule
from synthcl.method.curriculum.schedule import Within
from synthcl.method.curriculum.tanh import Tanh
from synthcl.method.objectives.term import TermSection
from synthcl.method.scene import Own, Seen, Term


class DannConfig(TermSection):
    """A classifier of the origin descends its loss, and encoder and head ascend it; generators never feel it."""

    kind: Literal["dann"] = "dann"
    plays: Literal[False] = Field(
        False, description="always false: a generator that ascends it would be paid for images unlike real ones"
    )
    reversal: Annotated[AnySchedule, Within(ge=0, le=10)] = Field(
        Tanh(start=0.0, end=1.0, time=0.2), description="how strongly encoder and head ascend it, over the classifier"
    )
    hidden: Count = Field(64, description="units of the classifier's hidden layer")

    def build(self, dim: int) -> Dann:
        return Dann(self, dim)


class Dann(Term):
    """Cross-entropy of real against synthetic, either half of it; ln 2 where nothing tells them apart.

    A step that has real or synthetic views alone adds nothing.
    """

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {"reversal": {"low": 0.01, "high": 1.0, "log": True}}

    def __init__(self, section: DannConfig, dim: int) -> None:
        super().__init__()
        self.plays, self._head = section.plays, section.head
        self.classifier = nn.Sequential(nn.Linear(dim, section.hidden), nn.ReLU(), nn.Linear(section.hidden, 1))

    def forward(self, seen: Seen, own: Own) -> Tensor:
        embeddings = seen.embeddings(self._head).float()
        real = seen.views.spans.get("real", slice(0, 0))
        synthetic = [rows for name, rows in seen.views.spans.items() if name != "real"]
        with torch.autocast(embeddings.device.type, enabled=False):
            logits = self.classifier(reverse(embeddings, own["reversal"]))[:, 0]  # (views,), high for real ones
            if real.stop == real.start or not synthetic:
                return 0.0 * logits.sum()
            return origin_loss(logits[real], torch.cat([logits[rows] for rows in synthetic]))


def origin_loss(real: Tensor, synthetic: Tensor) -> Tensor:
    """Binary cross-entropy in which real and synthetic views count alike, however many there are.

        (mean_real -log sigmoid(l) + mean_synthetic -log(1 - sigmoid(l))) / 2

    Args:
        real: (n,) logits of views of real images.
        synthetic: (m,) likewise of synthetic ones.

    Returns:
        0-dim; ln 2 where all logits are 0, as they are best where the two have one distribution.
    """
    return (softplus(-real).mean() + softplus(synthetic).mean()) / 2
