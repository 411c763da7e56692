"""Variance, invariance and covariance: representations spread out by statistics instead of by negatives.

Source: Bardes et al., "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning", ICLR 2022.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from synthcl.method.objectives.pairs import PairsSection, all_pairs
from synthcl.method.scene import Own, Seen, Term


class VicregConfig(PairsSection):
    """Views of one group close together, every dimension spread, no two dimensions alike; `vicreg` has the equation."""

    kind: Literal["vicreg"] = "vicreg"
    invariance: float = Field(25.0, ge=0, description="of the squared distance between views of one group")
    variance: float = Field(25.0, ge=0, description="of the hinge that keeps standard deviations at 1")
    covariance: float = Field(1.0, ge=0, description="of the squared covariances between dimensions")

    def build(self, dim: int) -> Vicreg:
        return Vicreg(self)


class Vicreg(Term):
    """On what the head gives, not of unit length; statistics over the views of all processes."""

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {
        "weight.start": {"low": 1e-3, "high": 1.0, "log": True},
        "covariance": {"low": 0.2, "high": 5.0, "log": True},
    }

    def __init__(self, section: VicregConfig) -> None:
        super().__init__()
        self.plays, self._head = section.plays, section.head
        self._coefficients = section.invariance, section.variance, section.covariance

    def forward(self, seen: Seen, own: Own) -> Tensor:
        vectors, pairs = all_pairs(seen, self._head)
        with torch.autocast(vectors.device.type, enabled=False):
            return vicreg(vectors, pairs, *self._coefficients)


def vicreg(
    vectors: Tensor, pairs: Tensor, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0
) -> Tensor:
    """Spread by variance and covariance, held together by distance.

        invariance * mean over pairs and dimensions of (z_i - z_j)^2
        + variance * mean_k relu(1 - sqrt(Var_k + 1e-4))
        + covariance * 2 sum_{k != l} Cov_kl^2 / dim

    Var and Cov are of all views together, since a group may have two views or four. The published loss takes them of
    either view by itself and adds the two up with 1/2 and 1; where both views have the same, it is this one.

    Args:
        vectors: (views, dim) float, two or more, not normalised.
        pairs: (views, views) at least 0, how much each pair counts; 0 on the diagonal.
        invariance, variance, covariance: at least 0.

    Returns:
        0-dim loss.

    Source: Bardes et al., ICLR 2022, eqs. 1 to 6, with the coefficients of its section 4.2.
    """
    dim = vectors.shape[1]
    centred = vectors - vectors.mean(dim=0)
    # sum_ij p_ij |z_i - z_j|^2 = 2 sum_i (sum_j p_ij) |z_i|^2 - 2 sum_ij p_ij z_i . z_j
    pulls = pairs.sum(dim=1, keepdim=True) * centred - pairs @ centred
    total = pairs.sum()
    distance = 2 * (centred * pulls).sum() / (dim * torch.where(total > 0, total, 1.0))
    covariances = centred.T @ centred / (len(vectors) - 1)  # (dim, dim)
    hinge = (1 - (covariances.diagonal() + 1e-4).sqrt()).relu().mean()
    alike = covariances.square().sum() - covariances.diagonal().square().sum()
    return invariance * distance + variance * hinge + covariance * 2 * alike / dim
