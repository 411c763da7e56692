"""The projector: the head through which the contrastive loss looks at the encoder."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from synthcl.method.encoders.settings import EncoderConfig


def make_projector(config: EncoderConfig, encoder: nn.Module) -> Projector:
    """The head that maps an encoder's features to the embeddings the loss sees."""
    return Projector(cast(int, encoder.feature_dim), config.projector_hidden, config.projector_dim)


class Projector(nn.Module):
    """Linear, BatchNorm, ReLU, Linear, then the unit sphere (Chen et al. 2020).

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
        """Features (n, feature_dim) -> embeddings (n, dim) of length 1."""
        return F.normalize(self.layers(features), dim=1)
