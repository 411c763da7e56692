"""A head without parameters: the first features, each weighted less than the one before it."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from synthcl.core.errors import UserError
from synthcl.core.plugin import Count, Section

_LEAST_WEIGHT = 1e-18
"""squares of smaller ones are no float32 any more, and lengths are made of squares"""


class FixedConfig(Section):
    """The first `dim` features, the i-th of them times kappa^-i, i from 0; nothing is learnt."""

    kind: Literal["fixed"] = "fixed"
    dim: Count = Field(64, description="features that the loss looks at, from the first on; at most all of them")
    kappa: float = Field(1.01, ge=1, description="weight of a feature over that of the next; 1 weighs all alike")

    @model_validator(mode="after")
    def _the_last_weight_is_a_number(self) -> FixedConfig:
        most = _LEAST_WEIGHT ** (-1 / max(1, self.dim - 1))
        if self.kappa > most:
            raise ValueError(
                f"kappa {self.kappa:g} leaves nothing of the last of dim {self.dim}; {most:.4g} is the most"
            )
        return self

    def build(self, feature_dim: int) -> FixedHead:
        if self.dim > feature_dim:
            raise UserError(f"a head of kind fixed has dim {self.dim}, and the encoder has {feature_dim} features")
        return FixedHead(self.dim, self.kappa)


class FixedHead(nn.Module):
    """v_i = kappa^-i h_i for the first features; what looks at its output puts it on the unit sphere.

    So many dimensions count as `sum_i kappa^-2i = (1 - kappa^-2 dim) / (1 - kappa^-2)` features of weight 1.

    Args:
        dim: features that are kept.
        kappa: at least 1.

    Source: Xue et al., "Investigating the Benefits of Projection Head for Representation Learning", ICLR 2024, whose
    head on all features this is; kappa 1 on some of them is the head of Jing et al., "Understanding Dimensional
    Collapse in Contrastive Self-supervised Learning" (DirectCLR), ICLR 2022.

    Example:
        >>> FixedHead(3, kappa=2.0)(torch.ones(1, 4)).tolist()
        [[1.0, 0.5, 0.25]]
    """

    weights: Tensor

    def __init__(self, dim: int, kappa: float) -> None:
        super().__init__()
        weights = kappa ** -torch.arange(dim, dtype=torch.float64)
        self.register_buffer("weights", weights.float(), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Features (n, feature_dim) -> vectors (n, dim)."""
        return features[:, : len(self.weights)] * self.weights
