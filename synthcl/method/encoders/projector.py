"""The projector: the head through which the contrastive loss looks at the encoder."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from synthcl.core.plugin import Count, Section


class MlpConfig(Section):
    """Linear, BatchNorm, ReLU, Linear (Chen et al. 2020)."""

    kind: Literal["mlp"] = "mlp"
    depth: int = Field(2, ge=1, le=3, description="linear layers; 1 is one linear layer alone")
    hidden: Count = Field(256, description="units of a hidden layer")
    dim: Count = Field(64, description="dimensions of the embedding")

    def build(self, feature_dim: int) -> Projector:
        return Projector(feature_dim, self.hidden, self.dim, self.depth)


class Projector(nn.Module):
    """Linear, BatchNorm, ReLU, Linear (Chen et al. 2020); what looks at its output puts it on the unit sphere.

    Args:
        feature_dim: of the encoder.
        hidden: units of a hidden layer.
        dim: of the embedding.
        depth: linear layers; all but the last are followed by BatchNorm and ReLU.
    """

    def __init__(self, feature_dim: int, hidden: int, dim: int, depth: int = 2) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = feature_dim
        for _ in range(depth - 1):
            layers += [nn.Linear(width, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True)]
            width = hidden
        self.layers = nn.Sequential(*layers, nn.Linear(width, dim))

    def forward(self, features: Tensor) -> Tensor:
        """Features (n, feature_dim) -> vectors (n, dim)."""
        return self.layers(features)
