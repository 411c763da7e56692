"""Hard views: of several draws of the base view, the encoder's loss chooses, by Metropolis-Hastings.

Source: Hounie et al., "Automatic Data Augmentation via Invariance-Constrained Learning", ICML 2023, whose chain is over
operations. Here it is over whole draws of the base view, which are independent of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from synthcl.core.device import to_device
from synthcl.method.curriculum import AnySchedule
from synthcl.method.curriculum.ramps import Constant
from synthcl.method.curriculum.schedule import Within
from synthcl.method.scene import Own, Seen, Statistics, View, Views
from synthcl.method.views.partial import PartialConfig
from synthcl.method.views.simclr import Draw

Judge = Callable[[Sequence[Draw]], Tensor]
"""draws of a step's views -> (n, draws) losses, at least 0, of the n views that may have a chain"""


class HardViewsConfig(PartialConfig):
    """Views of real images are drawn in proportion to their loss as well; `visited` has the chain.

    The loss is PPCL of each view among the first draws of all others, which stand still meanwhile; no gradient of the
    choice reaches anything. Synthetic images have their generator, which makes them hard.
    """

    kind: Literal["hard_views"] = "hard_views"
    steps: int = Field(2, ge=1, le=8, description="draws that are proposed to each view, one after the other")
    sides: Literal["one", "both"] = Field("one", description="one leaves all views of an image but the first as drawn")
    temperature: Annotated[AnySchedule, Within(gt=0, le=10)] = Field(
        Constant(start=0.2), description="of the PPCL by which views are judged"
    )

    def build(self, size: int) -> HardViews:
        return HardViews(self)


class Chances(NamedTuple):
    """Random numbers of n views, uniform in [0, 1)."""

    chosen: Tensor  # (n,) a view has a chain where it is below the share
    accepts: Tensor  # (n, steps)

    def rows(self, indices: Tensor | slice) -> Chances:
        return Chances(self.chosen[indices], self.accepts[indices])

    def to(self, device: torch.device | str) -> Chances:
        return Chances(to_device(self.chosen, device), to_device(self.accepts, device))


class HardViews(View):
    """Leaves finished views as they are; `choose` says what the base view is to be drawn with."""

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {"steps": {"low": 1, "high": 4}}
    site: ClassVar[Literal["pixel"]] = "pixel"

    def __init__(self, section: HardViewsConfig) -> None:
        super().__init__()
        self.proposals, self.sides = section.steps, section.sides
        self._observed: Statistics = {}

    def draw(self, views: int, strength: float | Tensor, generator: torch.Generator) -> Chances:
        chosen = torch.rand(views, generator=generator)
        return Chances(chosen, torch.rand(views, self.proposals, generator=generator))

    def forward(self, views: Views, draw: Chances, own: Own) -> Views:
        return views

    def choose(self, draws: Sequence[Draw], chances: Chances, judge: Judge, own: Own) -> Draw:
        """What each view of a step is drawn with.

        Args:
            draws: of its V views: the first, then one for each step of the chain.
            chances: of the same views.
            judge: gives the losses of those that may have a chain, which come first.
            own: its knobs.
        """
        losses, views = judge(draws), len(chances.chosen)  # (n, 1 + steps)
        at = visited(losses, chances.accepts[: len(losses)])
        at = torch.where(chances.chosen[: len(losses)] < own["share"], at, 0)
        self._observed = {"hard_views/loss_ratio": losses.gather(1, at[:, None]).mean() / losses[:, 0].mean()}
        every = Draw._make(torch.cat(fields) if fields[0] is not None else None for fields in zip(*draws, strict=True))
        return every.rows(views * F.pad(at, (0, views - len(at))) + torch.arange(views, device=at.device))

    def measures(self, seen: Seen) -> Statistics:
        found, self._observed = self._observed, {}  # a step without a chain has none
        return found


def visited(losses: Tensor, accepts: Tensor) -> Tensor:
    """Where independent Metropolis-Hastings stands after all its proposals.

        at <- k where u_k < l_k / l_at,   for k = 1, 2, ..., from at = 0

    With many proposals a draw is visited in proportion to its own density times its loss.

    Args:
        losses: (n, 1 + steps) at least 0: of the first draw, then of each that is proposed.
        accepts: (n, steps) uniform in [0, 1).

    Returns:
        (n,) int64, columns of the losses.

    Example:
        >>> visited(torch.tensor([[2.0, 1.0, 3.0]]), torch.tensor([[0.4, 0.9]])).item()    # 0.4 < 1/2, 0.9 < 3/1
        2
    """
    at, held = torch.zeros(len(losses), dtype=torch.int64, device=losses.device), losses[:, 0]
    for number, (loss, chance) in enumerate(zip(losses.unbind(1)[1:], accepts.unbind(1), strict=True), start=1):
        accepted = chance * held < loss
        at, held = torch.where(accepted, number, at), torch.where(accepted, loss, held)
    return at
