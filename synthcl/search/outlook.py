"""How long what is left of a search takes, once its runs have shown how fast they are."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from synthcl.core.progress import duration


@dataclass
class Outlook:
    """The time of what is left, stage by stage.

    Args:
        images: that each stage has left to train, of the method and of real images alone: {"opponent": (0, 64_000)}.
        running: the stages that are under way.
        at_a_time: runs beside each other.
        before: seconds that a stage takes before its runs begin: {"confirm": 90}.
    """

    images: dict[str, tuple[float, float]]
    running: Collection[str]
    at_a_time: int
    before: dict[str, float] = field(default_factory=dict)
    _heard: tuple[dict[str, tuple[int, float]], dict[str, tuple[int, float]]] = field(default_factory=lambda: ({}, {}))

    def hear(self, name: str, real_only: bool, images: int, seconds: float) -> None:
        """Take note of how far a run is, and of what it has taken until there, scoring included.

        Args:
            name: of the run.
            real_only: whether it is of real images alone, which are faster.
            images: seen so far.
            seconds: of wall time so far.
        """
        if images and seconds:
            self._heard[real_only][name] = images, seconds

    def seconds(self) -> dict[str, float]:
        """What each stage takes; nothing until both kinds of runs that are under way have been heard of."""
        awaited = {kind for stage in self.running for kind in (0, 1) if self.images[stage][kind] > 0}
        paces = [_pace(heard) for heard in self._heard]
        known = [pace for pace in paces if pace]
        if not known or any(not paces[kind] for kind in awaited):
            return {}
        method, real = (pace or max(known) for pace in paces)
        return {
            stage: (own * method + others * real) / self.at_a_time + self.before.get(stage, 0.0)
            for stage, (own, others) in self.images.items()
        }

    def following(self) -> float:
        """Seconds of the stages that have not begun; 0 while they are unknown."""
        return sum(taken for stage, taken in self.seconds().items() if stage not in self.running)

    def plan(self) -> str:
        """All stages in a line; empty while their times are unknown, and of a single one.

        Example:
            >>> outlook = Outlook({"search": (9000, 0), "confirm": (18000, 0)}, ["search"], at_a_time=2)
            >>> outlook.hear("trial-000", False, images=1000, seconds=200)
            >>> outlook.plan()
            'search 15 min, confirm 30 min; about 45 min in all, 2 runs at a time'
        """
        taken = self.seconds()
        if len(taken) < 2:
            return ""
        stages = ", ".join(f"{stage} {duration(seconds)}" for stage, seconds in taken.items())
        beside = f"{self.at_a_time} run{'s' * (self.at_a_time > 1)} at a time"
        return f"{stages}; about {duration(sum(taken.values()))} in all, {beside}"


def _pace(heard: dict[str, tuple[int, float]]) -> float:
    """Seconds an image, 0 of no runs."""
    return sum(seconds for _, seconds in heard.values()) / max(1, sum(images for images, _ in heard.values()))
