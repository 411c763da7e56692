"""MoCo: queries against the keys of a slow encoder, and a queue of those of earlier steps.

Source: He et al., "Momentum Contrast for Unsupervised Visual Representation Learning", CVPR 2020; the queue knows which
image a key shows, as in Kalantidis et al., "Hard Negative Mixing for Contrastive Learning", NeurIPS 2020.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from synthcl.method.curriculum.ramps import Constant
from synthcl.method.objectives.keys import Bank, Others, mean_over_anchors, ppcl_to_keys, shown
from synthcl.method.objectives.term import Temperature, TermSection
from synthcl.method.scene import Own, Seen, Term


class MocoConfig(TermSection):
    """Views attract the slow encoder's view of their group, and repel all other keys and a queue of earlier ones."""

    kind: Literal["moco"] = "moco"
    temperature: Temperature = Field(Constant(start=0.2), description="of the softmax over similarities")
    queue: int = Field(1024, ge=0, le=2**20, description="keys of earlier steps; 0 leaves the batch alone")

    def build(self, dim: int) -> Moco:
        return Moco(self, dim)


class Moco(Term):
    """On unit-length embeddings; only queries take a gradient."""

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {
        "temperature.start": {"low": 0.07, "high": 0.5, "log": True},
        "queue": {"low": 256, "high": 8192, "log": True},
    }
    needs_slow = True

    def __init__(self, section: MocoConfig, dim: int) -> None:
        super().__init__()
        self.plays, self._head, self.bank = section.plays, section.head, Bank(section.queue, dim)

    def forward(self, seen: Seen, own: Own) -> Tensor:
        queue = Others(self.bank.keys, self.bank.hidden(shown(seen.views)))
        queries, keys = seen.embeddings(self._head), self._keys(seen)
        return mean_over_anchors(ppcl_to_keys(queries, keys, seen.views, own["temperature"], queue), seen.views)

    @torch.no_grad()
    def _keys(self, seen: Seen) -> Tensor:
        return F.normalize(seen.slow(self._head).float(), dim=1)

    def after(self, seen: Seen, own: Own) -> None:
        self.bank.push(self._keys(seen), seen.views)
