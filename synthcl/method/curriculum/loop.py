"""What every closed loop is: a value that the run itself decides, from what it measures without labels."""

from __future__ import annotations

from abc import abstractmethod

from pydantic import Field, model_validator

from synthcl.method.curriculum.schedule import Schedule

MEASURED = (
    "synthetic/pair_similarity",
    "encoder/alignment",
    "encoder/variance",
    "gan/order",
    "gan/contrast_gradient",
)
"""statistics that a loop may read, beside the loss of a term; all are without labels"""


class Loop(Schedule):
    """`start`, until it is decided anew at every logged point, from the mean of a statistic since the last one."""

    measured: str = Field(description="what is looked at: a logged statistic, or `loss/NAME` of a term")
    start: float = Field(ge=0, description="value until the first logged point")

    @model_validator(mode="after")
    def _can_be_measured(self) -> Loop:
        if self.measured not in MEASURED and not self.measured.startswith("loss/"):
            raise ValueError(
                f"measured {self.measured!r} cannot be followed; choose {', '.join(MEASURED)} or loss/NAME"
            )
        return self

    def value_at(self, progress: float) -> float:
        """`start`; what is decided later stands in the state of the run."""
        return self.start

    @abstractmethod
    def decide(self, value: float, progress: float, since: float, measurement: float, steps: int = 1) -> float:
        """The next value: a pure function.

        Args:
            value: as it is.
            progress: of the run, in [0, 1].
            since: progress since the last decision.
            measurement: a mean over the steps since then; what is not finite changes nothing.
            steps: since then.
        """
