"""What a run reports at the end of a leg: the stretch of training up to a rung, or to a checkpoint that was due."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Point = dict[str, float]
"""a logged point: the images seen, means since the last one, and the knobs"""


@dataclass(frozen=True)
class Report:
    """How far a run is, what the leg logged and what was measured at its end."""

    images: int = 0
    """seen so far, by all processes"""
    progress: float = 0.0
    """share of the budget, in [0, 1]"""
    seconds: float = 0.0
    """of all legs so far"""
    scoring_seconds: float = 0.0
    """of them"""
    history: list[Point] = field(default_factory=list)
    scores: dict[str, float] = field(default_factory=dict)
    """at a rung, `score` among them, higher is better; 0 of a run that failed"""
    failure: str | None = None
    """why the run has failed: the last report it makes"""
    rolled_back: str | None = None
    """why the run has gone back to an earlier state of its own"""
    resumable: bool = True
    """whether the state is one to continue from"""
    preempted: bool = False
    """whether the leg ended early because its process is told to leave"""
    rollbacks: int = 0
    """how often the run has gone back so far"""
    workers: int = 1
    device: str = ""
    """of the first process, as people call it"""

    @property
    def ended(self) -> bool:
        """Whether nothing of the run is left."""
        return self.failure is not None or self.progress >= 1

    @property
    def score(self) -> float | None:
        """What the run is chosen by; None between rungs, and without labels."""
        return self.scores.get("score")

    @property
    def statistics(self) -> Point:
        """The last logged means of the leg."""
        last = self.history[-1] if self.history else {}
        return {name: value for name, value in last.items() if name != "images"}

    def as_dict(self) -> dict[str, Any]:
        """Plain values in one level, as checkpoints keep a report and Ray Tune and Ray Train hand it on."""
        flat: dict[str, Any] = {key: getattr(self, name) for name, key in _KEYS.items()}
        flat |= {"diverged": self.failure is not None} | self.scores
        return flat | {key: value for key in _WHY if (value := getattr(self, _WHY[key])) is not None}

    @classmethod
    def from_dict(cls, flat: Mapping[str, Any]) -> Report:
        """A report from `as_dict`, or from a checkpoint of an earlier version; what others have added is left out."""
        known = {name: flat[key] for name, key in _KEYS.items() if key in flat}
        known |= {name: flat[key] for key, name in _WHY.items() if key in flat}
        return cls(**known, scores={name: value for name, value in flat.items() if is_score(name)})


_KEYS = {
    "images": "images",
    "progress": "progress",
    "seconds": "seconds",
    "scoring_seconds": "seconds/scoring",
    "history": "history",
    "resumable": "sound",
    "preempted": "preempted",
    "rollbacks": "rollbacks",
    "workers": "workers",
    "device": "device",
}
"""fields, and their keys: those of checkpoints from the first version on"""
_WHY = {"reason": "failure", "rolled_back": "rolled_back"}


def is_score(name: str) -> bool:
    """Whether a reported name is a measured score that belongs in study, report and TensorBoard."""
    return name in ("score", "rung_score") or name.split("/")[0] in ("val", "test", "features")
