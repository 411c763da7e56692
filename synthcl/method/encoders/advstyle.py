"""AdvStyle: an adversary says which statistics of feature maps become uncertain, and DSU how uncertain they are at all.

encoder    minimises  the terms
adversary  maximises  the terms that play, by w in a = coefficient * (deviation over the batch) * w, with mean w^2 = 1
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from synthcl.core.plugin import Fraction
from synthcl.core.reversal import reverse
from synthcl.method.budgeted import Budgeted
from synthcl.method.curriculum import AnySchedule
from synthcl.method.curriculum.ramps import Constant
from synthcl.method.curriculum.schedule import Within
from synthcl.method.encoders.style import Stage, Style, StyleSection
from synthcl.method.scene import Own, Player


class AdvStyleConfig(StyleSection):
    """An adversary moves the noise of DSU to the statistics where it raises the terms that play most."""

    kind: Literal["advstyle"] = "advstyle"
    ascends: ClassVar[bool] = True
    share: Annotated[AnySchedule, Within(ge=0, le=1)] = Field(
        Constant(start=2 / 3), description="chance of a view to be perturbed after a stage; 0 all along perturbs none"
    )
    plain: Fraction = Field(
        0.5, description="of the perturbed views, those with DSU's noise, which the adversary leaves"
    )
    learning_rate: Annotated[AnySchedule, Within(ge=0)] = Field(
        Constant(start=0.01), description="of the adversary, by Adam; where it is 0 its weights stay as they are"
    )

    def build(self, stages: Sequence[Stage]) -> AdvStyle:
        return AdvStyle(self, stages)


class AdvStyle(Budgeted, Style):
    """A weight for every channel's mean and deviation, behind a node that turns the sign of its gradient.

    In the released code a_m and a_s are themselves what learns. They begin at the deviations of the first batch, which
    features outgrow, and nothing but the number of steps bounds them, since more noise always raises the loss. Here
    weights are relative to the deviations of each step, begin at 1, where this is DSU, and their mean square over a
    stage stays 1: there is as much noise as in DSU with the same `coefficient`. The node has no factor, since Adam
    divides it out again, and one reversed pass takes the place of three updates before each of the encoder's.

    Args:
        section: of this style.
        stages: to listen to.

    Source: Zhang et al., "Adversarial Style Augmentation for Domain Generalization", 2023, whose released code leaves a
    third of all calls as they are, gives a third DSU's noise, and a third the adversary's.
    """

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {
        "share.start": {"low": 0.1, "high": 1.0},
        "coefficient.start": {"low": 0.1, "high": 2.0, "log": True},
        "learning_rate.start": {"low": 1e-3, "high": 0.1, "log": True},
    }
    optimizer: torch.optim.Optimizer

    def __init__(self, section: AdvStyleConfig, stages: Sequence[Stage]) -> None:
        super().__init__(section, stages)
        self._plain = section.plain
        self.weights = nn.ParameterList([torch.ones(2 * stage.channels) for stage in stages])
        self.optimizer = torch.optim.Adam(self.weights, section.learning_rate.value_at(0.0), fused=True)

    def join(self, own: Own, ascended: bool) -> Player | None:
        learns = ascended and own["share"] > 0 and own["coefficient"] > 0 and own["learning_rate"] > 0
        self.weights.requires_grad_(learns)
        return self if learns else None

    def sizes(self, stage: int, deviations: Tensor, lot: Tensor) -> Tensor:
        ascending = reverse(of_mean_square_1(self.weights[stage]), 1.0)
        return torch.where(lot[:, None] < self._plain, deviations, deviations * ascending)


def of_mean_square_1(weights: Tensor) -> Tensor:
    """Weights (k,), scaled so that the mean of their squares is 1.

    Example:
        >>> of_mean_square_1(torch.tensor([3.0, 4.0, 0.0, 0.0])).tolist()
        [1.2000000476837158, 1.600000023841858, 0.0, 0.0]
    """
    return weights * weights.square().mean().clamp(min=1e-12).rsqrt()
