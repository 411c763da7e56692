"""What a bandit is: it shares a step's views among real images and sources by what each was worth lately.

Each arm, `real` or the name of a source, is paid the cosine of the gradient that its views send into the last layer
with that of real images; real images are paid that of one half of them with the other. `reward/ARM` logs it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from synthcl.core.plugin import Positive, Section

State = dict[str, float]
"""plain numbers by name; empty before the first decision"""
Shares = dict[str, float]
"""of a step's views, by arm; they add up to 1"""


class Bandit(Section):
    """Decides the shares anew at every logged point; before the first one they are those of the configuration."""

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {}
    """ranges of its own fields that a search may draw from, as in synthcl/search/spaces"""

    kind: str
    floor: float = Field(0.1, gt=0, lt=0.5, description="smallest share of every arm")
    enough: float = Field(
        1.0,
        gt=0,
        le=1,
        description="cosine from which on more agreement pays no more, since copies agree most",
    )
    temperature: Positive = Field(0.2, description="of the contrastive loss whose gradients are compared, PPCL")

    def shares_at(self, progress: float) -> None:
        """None: what it decides stands in the state of the run."""

    @abstractmethod
    def decide(
        self, shares: Mapping[str, float], rewards: Mapping[str, float], steps: int, state: State
    ) -> tuple[Shares, State]:
        """The next shares and state: a pure function.

        Args:
            shares: as they are, by arm.
            rewards: by arm, means of cosines since the last decision; an arm without views has none.
            steps: since then.
            state: as the last decision left it.
        """

    def paid(self, reward: float) -> float:
        """What an arm gets for a cosine: in [-1 / enough, 1]."""
        return min(reward, self.enough) / self.enough
