"""Barlow Twins: the correlations between the dimensions of two views, driven to the identity.

Source: Zbontar et al., "Barlow Twins: Self-Supervised Learning via Redundancy Reduction", ICML 2021.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from synthcl.method.objectives.pairs import PairsSection, all_pairs
from synthcl.method.scene import Own, Seen, Term


class BarlowConfig(PairsSection):
    """Every dimension the same in all views of a group, and no two dimensions alike; `barlow` has the equation."""

    kind: Literal["barlow"] = "barlow"
    redundancy: float = Field(0.0051, ge=0, description="of the squared correlations between different dimensions")

    def build(self, dim: int) -> Barlow:
        return Barlow(self)


class Barlow(Term):
    """On what the head gives, not of unit length; statistics over the views of all processes."""

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {
        "weight.start": {"low": 1e-3, "high": 1.0, "log": True},
        "redundancy": {"low": 1e-3, "high": 2e-2, "log": True},
    }

    def __init__(self, section: BarlowConfig) -> None:
        super().__init__()
        self.plays, self._head, self._redundancy = section.plays, section.head, section.redundancy

    def forward(self, seen: Seen, own: Own) -> Tensor:
        vectors, pairs = all_pairs(seen, self._head)
        with torch.autocast(vectors.device.type, enabled=False):
            return barlow(vectors, pairs, self._redundancy)


def barlow(vectors: Tensor, pairs: Tensor, redundancy: float = 0.0051) -> Tensor:
    """Correlations of two views of a group: 1 within a dimension, 0 between two.

        sum_k (1 - C_kk)^2 + redundancy * sum_{k != l} C_kl^2,   C = mean over pairs of z_i z_j^T,

    with z standardised over all views as BatchNorm does, without learned scale or shift. The published loss
    standardises either view by itself, and takes each pair in one order; where both views have the same statistics,
    this one differs by taking both orders, which leaves C symmetric.

    Args:
        vectors: (views, dim) float, two or more, not normalised.
        pairs: (views, views) at least 0, how much each pair counts; 0 on the diagonal.
        redundancy: at least 0.

    Returns:
        0-dim loss.

    Source: Zbontar et al., ICML 2021, eqs. 1 and 2, with the trade-off of its section 3.
    """
    centred = vectors - vectors.mean(dim=0)
    standard = centred / (centred.square().mean(dim=0) + 1e-5).sqrt()
    total = pairs.sum()
    correlations = standard.T @ (pairs @ standard) / torch.where(total > 0, total, 1.0)  # (dim, dim)
    own = correlations.diagonal()
    return (1 - own).square().sum() + redundancy * (correlations.square().sum() - own.square().sum())
