"""A value that changes over a run, as a function of progress: what every schedule is."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from pydantic import BeforeValidator

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


NUMBER = BeforeValidator(
    lambda value: {"start": value} if isinstance(value, int | float) and not isinstance(value, bool) else value
)
"""lets a number stand for a schedule that starts with it"""
