"""What the sections of all terms have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from synthcl.core.plugin import Section
from synthcl.method.curriculum import AnySchedule
from synthcl.method.curriculum.ramps import Constant
from synthcl.method.curriculum.schedule import Within
from synthcl.method.scene import Term

Temperature = Annotated[AnySchedule, Within(gt=0, le=10)]


class TermSection(Section):
    """One loss in the sum that the encoder minimises."""

    kind: str
    weight: AnySchedule = Field(Constant(start=1.0), description="of the loss in the sum; 0 all along builds nothing")
    head: str = Field("main", description="the entry of `heads` whose output it looks at")
    plays: bool = Field(True, description="whether generators ascend it; else it never reaches an image")

    @model_validator(mode="after")
    def _weight_is_no_reward(self) -> TermSection:
        if self.weight.bounds[0] < 0:
            raise ValueError(f"weight goes down to {self.weight.bounds[0]:g}; it must be 0 or more")
        return self

    on_features: ClassVar[bool] = False
    """whether it looks at the encoder's features, and through no head"""

    @property
    def apart(self) -> float:
        """Share of a step's real images that it takes from all other terms, above 0 of a pretext alone."""
        return 0.0

    def looks_at(self, feature_dim: int, head_dims: Mapping[str, int]) -> int:
        """Dimensions of what it looks at: the encoder's features, or the output of its head."""
        return feature_dim if self.on_features else head_dims[self.head]

    @abstractmethod
    def build(self, dim: int) -> Term:
        """The term; its parameters are drawn from torch's global state, which the caller has seeded.

        Args:
            dim: of what its head gives, or of the features.
        """
