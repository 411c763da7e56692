"""Viewmaker: a network that changes views as the encoder likes least, within a budget; a player beside G.

encoder    minimises  the terms
viewmaker  maximises  the terms that play, by d in x' = clamp(x + d) with mean |d| = budget
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from synthcl.core.device import to_device
from synthcl.core.plugin import Count, Fraction
from synthcl.core.reversal import reverse
from synthcl.method.budgeted import Budgeted
from synthcl.method.curriculum import AnySchedule
from synthcl.method.curriculum.ramps import Constant
from synthcl.method.curriculum.schedule import Within
from synthcl.method.scene import Own, Player, Seen, Views
from synthcl.method.views.partial import PartialConfig, PartialView
from synthcl.method.views.perturbing import Perturbing, noises


class ViewmakerConfig(PartialConfig):
    """A network adds to each view what raises the terms that play most, of a size that the budget sets."""

    kind: Literal["viewmaker"] = "viewmaker"
    ascends: ClassVar[bool] = True
    budget: Annotated[AnySchedule, Within(ge=0, le=0.5)] = Field(
        Constant(start=0.05),
        description="mean absolute change of a pixel in [0, 1], before it is cut to that range: how hard views become; "
        "0 all along changes none",
    )
    origins: Literal["real", "all"] = Field("real", description="whose views: those of real images, or synthetic too")
    learning_rate: Annotated[AnySchedule, Within(ge=0)] = Field(
        Constant(start=1e-3), description="of the network, by Adam; where it is 0 the network stays as it is"
    )
    every: Count = Field(1, description="the network learns in one step of so many, and acts in all")
    noise: Fraction = Field(
        1.0, description="its random inputs are uniform from 0 to this; with 0 a view is always changed in one way"
    )
    width: Count = Field(8, description="channels at full resolution, four times as many at a quarter of it")
    blocks: int = Field(3, ge=0, le=8, description="residual blocks at a quarter of the resolution")

    @property
    def is_on(self) -> bool:
        """Whether any step of the run can have changed views."""
        return super().is_on and self.budget.bounds[1] > 0

    def build(self, size: int) -> Viewmaker:
        return Viewmaker(self, size)


class Draw(NamedTuple):
    """Random numbers of n views."""

    chosen: Tensor  # (n,) uniform in [0, 1)
    noise: Tensor  # (n, pixels of all maps) uniform in [0, 1)

    def rows(self, indices: Tensor | slice) -> Draw:
        return Draw(self.chosen[indices], self.noise[indices])

    def to(self, device: torch.device | str) -> Draw:
        return Draw(to_device(self.chosen, device), to_device(self.noise, device))


class Viewmaker(Budgeted, PartialView[ViewmakerConfig]):
    """Adds a perturbation on the sphere of L1 norm `budget`, and cuts the sum to [0, 1].

    The node that turns the sign sits on the perturbation alone, and the network looks at pixels without their graph: so
    the gradient that goes on to an image of G keeps its sign, which G's own node turns once. The node has no factor,
    since Adam divides it out again; how hard views become is the budget, a schedule.

    Args:
        section: of this view.
        size: pixels a side of a view.

    Source: Tamkin et al., "Viewmaker Networks: Learning Views for Unsupervised Representation Learning", ICLR 2021;
    learning in some steps only, Zheng et al., "Parametric Augmentation for Time Series Contrastive Learning"
    (AutoTCL), ICLR 2024.
    """

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {
        "budget.start": {"low": 0.01, "high": 0.15, "log": True},
        "learning_rate.start": {"low": 1e-4, "high": 1e-2, "log": True},
    }
    optimizer: torch.optim.Optimizer
    straight_through = True  # pixels pass as they are; the network's answer to them is no part of their slope

    def __init__(self, section: ViewmakerConfig, size: int) -> None:
        super().__init__(section)
        self.network = Perturbing(section.width, section.blocks, section.noise)
        self.optimizer = torch.optim.Adam(self.network.parameters(), section.learning_rate.value_at(0.0), fused=True)
        self._numbers = sum(side * side for side in noises(size, section.blocks))
        self._steps = 0  # so far
        self._learns = False  # in this step

    def draw(self, views: int, strength: float | Tensor, generator: torch.Generator) -> Draw:
        chosen = torch.rand(views, generator=generator)
        return Draw(chosen, torch.rand(views, self._numbers, generator=generator))

    def join(self, own: Own, ascended: bool) -> Player | None:
        acts = own["share"] > 0 and own["budget"] > 0
        self._learns = ascended and acts and own["learning_rate"] > 0 and self._steps % self.section.every == 0
        return self if self._learns else None

    def leaves(self, views: Views, rows: slice) -> bool:
        synthetic = [span for name, span in views.spans.items() if name != "real"]
        return self.section.origins == "real" and any(span.start <= rows.start < span.stop for span in synthetic)

    def change(self, pixels: Tensor, draw: Draw, own: Own) -> Tensor:
        if not len(pixels) or not own["budget"]:
            return pixels
        with torch.set_grad_enabled(self._learns):
            made = self.network(pixels.detach().float(), draw.noise)
            change = reverse(on_sphere(made, own["budget"]), 1.0)
        return (pixels + change.to(pixels.dtype)).clamp(0, 1)

    def after(self, seen: Seen, own: Own) -> None:
        self._steps += 1

    def get_extra_state(self) -> dict[str, int]:
        return {"steps": self._steps}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self._steps = state["steps"]


def on_sphere(made: Tensor, budget: float) -> Tensor:
    """Perturbations (n, C, H, W) of any size, each scaled so that the mean over it of |d| is the budget.

    Args:
        made: by a network.
        budget: at least 0, in units of pixels in [0, 1].

    Source: Tamkin et al., ICLR 2021, section 3.2; the tanh before the scale keeps single pixels from taking all of it.
    """
    bounded = torch.tanh(made)
    return bounded * (budget / bounded.abs().mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6))
