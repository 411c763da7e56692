"""The projector: the head through which the contrastive loss looks at the encoder."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from synthcl.core.plugin import Count, Section


class MlpConfig(Section):
    """Linear, BatchNorm, ReLU, Linear (Chen et al. 2020)."""

    kind: Literal["mlp"] = "mlp"
    hidden: Count = Field(256, description="units of the hidden layer")
    dim: Count = Field(64, description="dimensions of the embedding")

    def build(self, feature_dim: int) -> Projector:
        return Projector(feature_dim, self.hidden, self.dim)


class Projector(nn.Module):
    """Linear, BatchNorm, ReLU, Linear (Chen et al. 2020); what looks at its output puts it on the unit sphere.

    Args:
        feature_dim: of the encoder.
        hidden: units of the hidden layer.
        dim: of the embedding.
    """

    def __init__(self, feature_dim: int, hidden: int, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(feature_dim, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, dim),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Features (n, feature_dim) -> vectors (n, dim)."""
        return self.layers(features)
