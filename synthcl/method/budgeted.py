"""A player that nobody judges, since how far it may go is a budget of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor


class Budgeted:
    """What of `Player` is nothing for one whose bound holds whatever it learns; its optimiser is its own."""

    def prepare(self, own: Any) -> None:
        """Nobody judges what it makes."""

    def restraint(self, own: Any) -> None:
        """None: the budget is hard."""

    def heed(self, own: Any, slow: Callable[[], Tensor | None]) -> None:
        """Its bound is the budget."""
