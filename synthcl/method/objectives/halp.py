"""HaLP: positives that nobody has seen, between a view and the prototypes that it does not belong to.

Source: Shah et al., "HaLP: Hallucinating Latent Positives for Skeleton-Based Self-Supervised Learning of Actions",
CVPR 2023.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from synthcl.core import distributed
from synthcl.core.plugin import Count, Fraction
from synthcl.method.curriculum import AnySchedule
from synthcl.method.curriculum.ramps import Constant
from synthcl.method.objectives.keys import Bank, mean_over_anchors
from synthcl.method.objectives.pairs import together
from synthcl.method.objectives.term import Temperature, TermSection
from synthcl.method.scene import Own, Seen, Term


class HalpConfig(TermSection):
    """Views attract points on the way from the other view to foreign prototypes; alone it collapses."""

    kind: Literal["halp"] = "halp"
    weight: AnySchedule = Field(Constant(start=0.5), description="of the loss in the sum; 0 all along builds nothing")
    plays: bool = Field(False, description="whether generators ascend it; else it never reaches an image")
    temperature: Temperature = Field(Constant(start=0.2), description="that similarities are divided by")
    prototypes: int = Field(20, ge=2, le=1024, description="centres of the clusters of recent embeddings")
    bank: Count = Field(256, le=2**16, description="recent embeddings that are clustered")
    reach: Fraction = Field(0.8, description="how far points lie back from the boundary, as a share of the way to it")
    levels: Count = Field(5, le=64, description="points on the way to each prototype, evenly spread")

    def build(self, dim: int) -> Halp:
        return Halp(self, dim)


class Halp(Term):
    """Positives only, so it stands beside a loss that repels; prototypes take a step of k-means after every update."""

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {
        "weight.start": {"low": 0.1, "high": 2.0, "log": True},
        "reach": {"low": 0.1, "high": 1.0},
        "prototypes": {"low": 8, "high": 64, "log": True},
    }
    centres: Tensor
    ready: Tensor

    def __init__(self, section: HalpConfig, dim: int) -> None:
        super().__init__()
        self.plays, self._section, self.bank = section.plays, section, Bank(section.bank, dim)
        self.register_buffer("centres", torch.zeros(section.prototypes, dim))
        self.register_buffer("ready", torch.zeros((), dtype=torch.bool))

    def forward(self, seen: Seen, own: Own) -> Tensor:
        views, section = seen.views, self._section
        queries = seen.embeddings(section.head).float()
        keys = queries.detach()
        everyone = distributed.gather(keys)
        with torch.autocast(keys.device.type, enabled=False), torch.no_grad():
            order = distributed.gather(views.members[:, 0]).argsort(stable=True)
            first = order.repeat(-(-section.prototypes // len(order)))[: section.prototypes]
            centres = torch.where(self.ready, self.centres, everyone[first])  # those of the batch, while the bank fills
            points, kept = hallucinated(keys, centres, section.reach, section.levels)
            count = kept.sum(dim=(1, 2))
            middles = (points * kept[..., None]).sum(dim=(1, 2)) / count.clamp(min=1)[:, None]  # (views, dim)
            weights = None if views.weights is None else distributed.gather(views.weights.float())
            begin = distributed.rank() * len(keys)
            pairs = together(distributed.gather(views.members), weights)[begin : begin + len(keys)]
            total = pairs.sum(dim=1, keepdim=True)
            targets = pairs @ distributed.gather(middles) / torch.where(total > 0, total, 1.0)
        return mean_over_anchors(-(queries * targets).sum(dim=1) / own["temperature"], views)

    @torch.no_grad()
    def after(self, seen: Seen, own: Own) -> None:
        self.bank.push(seen.embeddings(self._section.head), seen.views)
        number, keys = len(self.centres), self.bank.keys
        spread = keys[torch.arange(number, device=keys.device) * len(keys) // number]
        centres = torch.where(self.ready, self.centres, spread)
        self.ready.logical_or_(self.bank.filled.all())
        self.centres.copy_(moved(centres, keys))


def moved(centres: Tensor, keys: Tensor) -> Tensor:
    """Centres (P, dim) after a step of spherical k-means on keys (K, dim); one that no key is nearest to stays."""
    nearest = F.one_hot((keys @ centres.T).argmax(dim=1), len(centres)).to(keys.dtype)  # (K, P)
    sums = nearest.T @ keys
    return torch.where(nearest.sum(dim=0)[:, None] > 0, F.normalize(sums, dim=1), centres)


def hallucinated(keys: Tensor, centres: Tensor, reach: float, levels: int) -> tuple[Tensor, Tensor]:
    """Points between keys and the boundary of their cluster, on the great circles to all other centres.

    With p_0 the centre nearest to k, w the angle between k and another centre p, and slerp from k at 0 to p at 1,

        z = slerp((1 - u) t_max),   t_max = atan2(sin w, K + cos w) / w,   K = (1 - p . p_0) / (k . (p_0 - p)),

    where z . p_0 = z . p at t_max, and u takes `levels` values in the middles of equal parts of [0, reach]. A point is
    kept where its nearest centre is p_0.

    Args:
        keys: (views, dim) unit-norm.
        centres: (P, dim) unit-norm.
        reach: in [0, 1].
        levels: at least 1.

    Returns:
        (views, P, levels, dim) unit-norm and (views, P, levels) bool.

    Source: Shah et al., CVPR 2023, eq. 5 and section 3.3, where u and p are random; the published code takes the arc
    tangent of a quotient, which is wrong where K + cos w is negative.
    """
    cosines = keys @ centres.T  # (views, P)
    nearest = cosines.argmax(dim=1)
    angle = cosines.clamp(-1 + 1e-6, 1 - 1e-6).acos()
    ahead = cosines.gather(1, nearest[:, None]) - cosines  # k . (p_0 - p)
    apart = 1 - centres[nearest] @ centres.T  # 1 - p . p_0
    furthest = torch.atan2(angle.sin(), apart / ahead.clamp(min=1e-12) + angle.cos()) / angle
    back = reach * (torch.arange(levels, device=keys.device, dtype=keys.dtype) + 0.5) / levels
    t = (1 - back) * furthest[..., None]  # (views, P, levels)
    of_key, of_centre = ((share * angle[..., None]).sin() / angle.sin()[..., None] for share in (1 - t, t))
    points = F.normalize(of_key[..., None] * keys[:, None, None] + of_centre[..., None] * centres[:, None], dim=3)
    others = torch.arange(len(centres), device=keys.device) != nearest[:, None]  # (views, P)
    same = (points @ centres.T).argmax(dim=3) == nearest[:, None, None]
    return points, same & others[..., None] & (ahead > 0)[..., None]
