"""How many trials are under way: as many as the cluster has room for, which is asked again as nodes come and go."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ray.tune.search import ConcurrencyLimiter, Searcher

LOOK_SECONDS = 5.0
"""between two looks how many nodes there are"""


class Slots(ConcurrencyLimiter):
    """Holds a searcher to the cluster's size of the moment; Tune's own limit is a number for the whole search.

    Tune lets as many trials wait for nodes at a time as this limit was at the start. With an autoscaler that counts
    the nodes it may launch, so it is asked for all of them at once.

    Args:
        searcher: suggests the trials.
        room: how many trials may be under way now, at least 1.
    """

    def __init__(self, searcher: Searcher, room: Callable[[], int]) -> None:
        super().__init__(searcher, max_concurrent=room())
        self._room, self._looked = room, time.monotonic()

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """What the searcher suggests, or None while there is no room."""
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self.max_concurrent, self._looked = self._room(), time.monotonic()
        return super().suggest(trial_id)

    def get_state(self) -> dict[str, Any]:
        """Nothing: a search is continued from its study and its records."""
        return {}


class Planned(Searcher):
    """Suggests runs that are all known beforehand, in their order.

    Args:
        runs: each a dict with a label and overrides; a trial finds its own in its config under `run`.
    """

    def __init__(self, runs: list[dict[str, Any]]) -> None:
        super().__init__()
        self._left = list(runs)

    def suggest(self, trial_id: str) -> dict[str, Any] | str:  # type: ignore[override]  # FINISHED is a str
        """The next run."""
        return {"run": self._left.pop(0)} if self._left else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing follows from how a run ended."""
