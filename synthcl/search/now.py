"""What a search is doing at the moment, and what its runs have taken so far: a small file in its folder."""

from __future__ import annotations

import time
from pathlib import Path

from pydantic import BaseModel, ValidationError

from synthcl.core.atomic import write_whole
from synthcl.core.report import Report

FILE = "progress.json"
SILENT_SECONDS = 600.0
"""after which a search that wrote nothing is no longer said to be under way"""
WARM_UP = "warm-up"
OF_GENERATOR = ("synthetic/realism_gap", "synthetic/diversity", "gan/accuracy")


class Work(BaseModel):
    """What a run has taken so far, and where."""

    stage: str
    images: int = 0
    seconds: float = 0.0
    """wall time of all its legs, scoring included"""
    scoring_seconds: float = 0.0
    device: str = ""
    host: str = ""
    """where it last was; empty of several workers"""
    workers: int = 1
    statistics: dict[str, float] = {}
    """the last logged means that tell of the generator"""

    @classmethod
    def of(cls, stage: str, report: Report, host: str) -> Work:
        """From what a run reports, in a process on a host."""
        return cls(
            stage=stage,
            images=report.images,
            seconds=report.seconds,
            scoring_seconds=report.scoring_seconds,
            device=report.device,
            host=host if report.workers == 1 else "",  # that of a trial of several workers only waits for them
            workers=report.workers,
            statistics={name: report.statistics[name] for name in OF_GENERATOR if name in report.statistics},
        )


class Now(BaseModel):
    """How far a search is."""

    written: float = 0.0
    """seconds since the epoch; 0 of a search that an earlier version made"""
    stage: str = ""
    """`WARM_UP`, or such as search-1 or confirm-1; empty when nothing is under way"""
    kimg: float = 0.0
    """of this stage, that this command has trained"""
    total_kimg: float = 0.0
    left_seconds: float | None = None
    """until the end of all stages; none while it is unknown"""
    training: list[str] = []
    """names of the runs under way"""
    works: dict[str, Work] = {}
    """by name of the run"""

    @classmethod
    def read(cls, folder: Path) -> Now:
        """From the folder of a run; of one without the file, and of a damaged file, nothing is known."""
        try:
            return cls.model_validate_json((folder / FILE).read_bytes())
        except (OSError, ValidationError):
            return cls()

    def write(self, folder: Path) -> None:
        """As it is now."""
        self.written = time.time()
        write_whole(folder / FILE, self.model_dump_json(indent=1) + "\n")

    @property
    def is_under_way(self) -> bool:
        """Whether a driver was heard of lately; a warm-up, before the runs of a stage, says nothing until its end."""
        return bool(self.stage) and (not self.total_kimg or time.time() - self.written < SILENT_SECONDS)
