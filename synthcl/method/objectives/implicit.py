"""Implicit negatives: infinitely many further views of every negative, Gaussian around it, in closed form.

Source: after Hwang et al., "SF(DA)^2: Source-free Domain Adaptation Through the Lens of Data Augmentation", ICLR 2024,
whose implicit feature augmentation needs predicted classes; views of one group take their place.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from synthcl.core import distributed
from synthcl.core.plugin import Positive
from synthcl.method.curriculum import AnySchedule
from synthcl.method.curriculum.ramps import Linear
from synthcl.method.curriculum.schedule import Within
from synthcl.method.objectives.negatives import negatives
from synthcl.method.objectives.pairs import together
from synthcl.method.objectives.ppcl import Ppcl, PpclConfig
from synthcl.method.scene import Own, Seen


class ImplicitConfig(PpclConfig):
    """PPCL whose negatives are clouds, as wide as views of one group lie apart."""

    kind: Literal["implicit"] = "implicit"  # type: ignore[assignment]
    strength: Annotated[AnySchedule, Within(ge=0, le=4)] = Field(
        Linear(start=0.0, end=1.0), description="of the clouds' covariance, over that of views in a group; 0 is ppcl"
    )
    half_life_kimg: Positive = Field(
        1.0, description="thousand images after which half of the running covariance is new"
    )

    def build(self, dim: int) -> Implicit:
        return Implicit(self, dim)


class Implicit(Ppcl):
    """At least PPCL; the covariance is that of earlier steps, so the first step is PPCL."""

    SPACE: ClassVar[dict[str, dict[str, Any]]] = Ppcl.SPACE | {
        "strength": {"low": 0.1, "high": 2.0, "log": True},
        "half_life_kimg": {"low": 0.25, "high": 16.0, "log": True},
    }
    covariance: Tensor
    begun: Tensor

    def __init__(self, section: ImplicitConfig, dim: int) -> None:
        super().__init__(section)
        self._half_life_images = 1000 * section.half_life_kimg
        self.register_buffer("covariance", torch.zeros(dim, dim))
        self.register_buffer("begun", torch.zeros((), dtype=torch.bool))

    def forward(self, seen: Seen, own: Own) -> Tensor:
        if own["strength"] == 0:
            return super().forward(seen, own)
        queries, temperature = seen.embeddings(self.head).float(), own["temperature"]
        with torch.autocast(queries.device.type, enabled=False):
            variance = ((queries @ self.covariance) * queries).sum(dim=1, keepdim=True)  # (views, 1)
            shift = own["strength"] * variance / (2 * temperature**2) * negatives(seen.views, self.within_source)
        return self.loss(seen, temperature, shift=shift)

    @torch.no_grad()
    def after(self, seen: Seen, own: Own) -> None:
        views = seen.views
        weights = None if views.weights is None else distributed.gather(views.weights.float())
        pairs = together(distributed.gather(views.members), weights)
        everyone = distributed.gather(seen.embeddings(self.head).detach().float())
        images = len(everyone) / 2  # as progress counts them
        share = torch.where(self.begun, 1 - 0.5 ** (images / self._half_life_images), 1.0)
        with torch.autocast(everyone.device.type, enabled=False):
            self.covariance.lerp_(within_groups(everyone, pairs), share)
        self.begun.fill_(True)


def within_groups(embeddings: Tensor, pairs: Tensor) -> Tensor:
    """Covariance of views around the mean of their group, from the differences of two views of a group.

        sum_ij p_ij (z_i - z_j)(z_i - z_j)^T / (2 sum_ij p_ij)

    Groups of one size have their pooled covariance, sum of outer products over (views - groups).

    Args:
        embeddings: (views, dim).
        pairs: (views, views) at least 0, symmetric, how much each pair counts; 0 on the diagonal.

    Returns:
        (dim, dim) exactly symmetric; 0 where there is no pair.
    """
    total = pairs.sum()
    products = embeddings.T @ (pairs.sum(dim=1, keepdim=True) * embeddings - pairs @ embeddings)
    return (products + products.T) / (2 * torch.where(total > 0, total, 1.0))
