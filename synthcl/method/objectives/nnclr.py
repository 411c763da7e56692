"""NNCLR: the positive is the nearest neighbour of the other view, among embeddings of other images.

Source: Dwibedi et al., "With a Little Help from My Friends: Nearest-Neighbor Contrastive Learning of Visual
Representations", ICCV 2021.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from synthcl.core.plugin import Count
from synthcl.method.curriculum.ramps import Constant
from synthcl.method.objectives.keys import Bank, mean_over_anchors, ppcl_to_keys, shown
from synthcl.method.objectives.predictor import make_predictor
from synthcl.method.objectives.term import Temperature, TermSection
from synthcl.method.scene import Own, Seen, Term


class NnclrConfig(TermSection):
    """Predictions attract the nearest neighbour of the other view in a bank, never one of the same image."""

    kind: Literal["nnclr"] = "nnclr"
    temperature: Temperature = Field(Constant(start=0.2), description="of the softmax over similarities")
    bank: Count = Field(1024, le=2**20, description="embeddings of earlier steps")
    hidden: Count = Field(256, description="units of the predictor's hidden layer")

    def build(self, dim: int) -> Nnclr:
        return Nnclr(self, dim)


class Nnclr(Term):
    """PPCL of predictions to neighbours; the bank holds the run's own embeddings."""

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {
        "temperature.start": {"low": 0.07, "high": 0.5, "log": True},
        "bank": {"low": 256, "high": 8192, "log": True},
    }

    def __init__(self, section: NnclrConfig, dim: int) -> None:
        super().__init__()
        self.plays, self._head = section.plays, section.head
        self.predictor, self.bank = make_predictor(dim, section.hidden), Bank(section.bank, dim)

    def forward(self, seen: Seen, own: Own) -> Tensor:
        predicted = F.normalize(self.predictor(seen.head(self._head)).float(), dim=1)
        found = neighbours(seen.embeddings(self._head).detach().float(), self.bank, shown(seen.views))
        return mean_over_anchors(ppcl_to_keys(predicted, found, seen.views, own["temperature"]), seen.views)

    def after(self, seen: Seen, own: Own) -> None:
        self.bank.push(seen.embeddings(self._head), seen.views)


@torch.no_grad()
def neighbours(embeddings: Tensor, bank: Bank, images: Tensor) -> Tensor:
    """The nearest key of a bank for each view, or the view itself while the bank has none of another image.

    Args:
        embeddings: (views, dim) unit-norm.
        bank: keys and the images that they show.
        images: (views, m) that the views show.

    Returns:
        (views, dim) unit-norm.

    Source: Dwibedi et al., ICCV 2021, eq. 2, with the own image left out: where a bank is as large as the data set, its
    nearest key is an old view of the image itself.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        similarity = (embeddings @ bank.keys.T).masked_fill(bank.hidden(images), float("-inf"))
    best, nearest = similarity.max(dim=1)
    return torch.where(best.isfinite()[:, None], bank.keys[nearest], embeddings)
