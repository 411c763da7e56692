"""A value that changes over a run, as a function of progress: what every schedule is."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BeforeValidator, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from synthcl.core.plugin import Section


class Schedule(Section):
    """A function of progress, the fraction of the run's images seen, in [0, 1]; each kind is a section of its own."""

    kind: str
    SPACE: ClassVar[dict[str, dict[str, Any]]] = {}
    """ranges of its own fields that a search may draw from, as in synthcl/search/spaces"""

    @abstractmethod
    def value_at(self, progress: float) -> float:
        """The value at this progress: pure, so that a run that goes on has the values of one that never stopped."""

    @property
    @abstractmethod
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest value over the run."""

    def scaled(self, factor: float) -> dict[str, Any]:
        """The same schedule at a multiple of its values, as an override."""
        fields = self.model_dump()
        return fields | {name: factor * fields[name] for name in ("start", "end") if name in fields}


def _of_a_number(value: Any) -> Any:
    if isinstance(value, dict | Schedule):
        return value
    try:
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            return {"start": float(value)}  # YAML reads 1e-3 as text
    except ValueError:
        pass
    raise ValueError("give a number, or a schedule such as {kind: linear, start: 1, end: 0.5}")


NUMBER = BeforeValidator(_of_a_number)
"""lets a number stand for a schedule that starts with it"""


@dataclass(frozen=True)
class Within:
    """Bounds of a field that hold for every value of its schedule.

    Args:
        gt: what all values are above; None sets no limit.
        le: what no value is above; None sets no limit.
        ge: what no value is below; None sets no limit.
    """

    gt: float | None = None
    le: float | None = None
    ge: float | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def _checked(self, schedule: Schedule) -> Schedule:
        low, high = schedule.bounds
        limits = {
            "greater than": (self.gt, self.gt is not None and low <= self.gt),
            "greater than or equal to": (self.ge, self.ge is not None and low < self.ge),
            "less than or equal to": (self.le, self.le is not None and high > self.le),
        }
        if any(passed for _, passed in limits.values()):
            found = f"its value is {low:g}; it" if low == high else f"it goes from {low:g} to {high:g}; all values"
            wanted = " and ".join(f"{what} {limit:g}" for what, (limit, _) in limits.items() if limit is not None)
            raise ValueError(f"{found} must be {wanted}")
        return schedule
