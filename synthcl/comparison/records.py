"""One JSON record for every run of a comparison or of a search's confirm stage: all tables are made of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from synthcl.comparison.plan import Run
from synthcl.config.compatibility import first_difference, flat, is_within, not_measured, same_labels
from synthcl.config.schema import Config
from synthcl.core.atomic import write_whole
from synthcl.core.errors import UserError
from synthcl.core.report import Report
from synthcl.evaluation import names
from synthcl.runs import checkpoint
from synthcl.runs.location import is_uri
from synthcl.training.flops import training_flops, warmup_flops

_CONFIRM = {"overrides", "checkpoint", "compared"}
"""fields of a confirm run alone"""


class Record(BaseModel):
    """What a finished run was, what it scored and what it took."""

    model_config = ConfigDict(frozen=True)

    arm: str
    """or a trial that a search has confirmed"""
    images: int
    """unlabelled ones to train on; 0 of a search of an earlier version, which did not say"""
    seed: int
    steps: int
    views_per_step: int
    diverged: str | None = None
    rollbacks: int = 0
    metrics: dict[str, float]
    statistics: dict[str, float] = {}
    """the last logged means of training"""
    rungs: list[dict[str, Any]] = []
    seconds: dict[str, float]
    """wall time to `train` and to `evaluate`; a search of an earlier version did not tell them apart"""
    flops: dict[str, float | None] = {}
    """floating-point operations to `train`, and of its GAN's `warm-up`; earlier versions did not count"""
    device: str = ""
    versions: dict[str, str] = {}
    digest: str = ""
    config: dict[str, Any]
    overrides: dict[str, Any] = {}
    """of a confirm run: what it changes in the search's configuration"""
    checkpoint: str = ""
    """of a confirm run, below the search's folder"""
    compared: dict[str, str] = {}
    """of a confirm run in equal time: whose time it has (`of`), and which real-only it is (`as`)"""

    @classmethod
    def of(cls, config: Config, report: Report, arm: str, images: int, **more: Any) -> Record:
        """The record of a run.

        Args:
            config: of the run.
            report: its last.
            arm: its name.
            images: unlabelled ones to train on.
            more: other fields that are known.
        """
        training = config.training
        measured = {
            "seed": training.seed,
            "steps": training.steps,
            "views_per_step": 2 * training.batch_images,
            "diverged": report.failure,
            "rollbacks": report.rollbacks,
            "metrics": {} if report.failure else report.scores,
            "statistics": report.statistics,
            "seconds": {"train": report.seconds - report.scoring_seconds, "evaluate": report.scoring_seconds},
            "flops": {"train": training_flops(config), "warm-up": warmup_flops(config, images)},
            "device": report.device,
            "versions": checkpoint.versions(),
            "digest": digest(config),
            "config": config.model_dump(mode="json"),
        }
        return cls(arm=arm, images=images, **measured, **more)

    @classmethod
    def read(cls, file: Path, config: Config) -> Record:
        """A record with today's fields, labels and names of scores, whichever version wrote it.

        Args:
            file: of the record.
            config: of the comparison or the search.

        Raises:
            UserError: when it is unreadable.
        """
        try:
            return cls(**_today(json.loads(file.read_text()), config))
        except (OSError, ValueError, KeyError, TypeError, ValidationError):
            raise UserError(f"record {str(file)!r} is unreadable; delete it and its run will be made anew") from None

    def write(self, file: Path) -> None:
        """Write it whole or not at all, into a folder that is made if missing."""
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(self.model_dump(exclude=None if self.checkpoint else _CONFIRM), indent=1) + "\n")

    @property
    def images_seen(self) -> int:
        return self.steps * self.views_per_step // 2


class Place:
    """Where the evidence of a configuration lies: `<storage>/<name>/evidence/`.

    Args:
        config: its name and storage.

    Raises:
        UserError: when the storage is a URI.
    """

    def __init__(self, config: Config) -> None:
        if is_uri(config.compute.storage):
            raise UserError(
                f"compute.storage {config.compute.storage!r}: evidence needs a folder, on a cluster one all nodes see"
            )
        self.config = config
        root = Path(config.compute.storage).expanduser().absolute()
        self.gans = root / "gan"
        self.records = root / config.name / "evidence"
        self.report = self.records / "report"

    def record(self, run: Run) -> Path:
        return self.records / f"{run.label}.json"

    def checkpoint(self, run: Run) -> Path:
        return self.records / "checkpoints" / run.label

    def warm_up(self, run: Run) -> Path:
        """How far the warm-up of the run's GAN is, while it goes on."""
        return self.records / "checkpoints" / f"gan-n{run.images}-seed{run.seed}.json"

    def legs(self, run: Run) -> Path:
        """What an unfinished run has measured so far."""
        return self.checkpoint(run) / "legs.json"


def digest(config: Config) -> str:
    """First 12 hex digits of the SHA-256 over the part of a configuration that decides what a run measures."""
    free = not_measured(config)
    values = flat(config.model_dump(mode="json", exclude={"name"}))
    decisive = {path: value for path, value in values.items() if not is_within(path, free)}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:12]


def is_finished(run: Run, place: Place) -> bool:
    """Whether the run's record is there.

    Raises:
        UserError: when it was made with another configuration.
    """
    file = place.record(run)
    if not file.is_file():
        return False
    written = Record.read(file, run.config).config
    if differs := first_difference(written, run.config, not_measured(run.config)):
        field, value, wanted = differs
        raise UserError(
            f"record {str(file)!r} was made with {field}={value!r}, asked for {wanted!r}; "
            "use name=... for a comparison of its own, or delete the record"
        )
    return True


def read_all(folder: Path, config: Config) -> list[Record]:
    """Every record of a folder, sorted by arm, images and seed.

    Args:
        folder: of a comparison's records, or of a search's.
        config: of the comparison or the search.

    Raises:
        UserError: when one is unreadable.
    """
    found = [Record.read(file, config) for file in sorted(folder.glob("*.json"))]
    return sorted(found, key=lambda record: (record.arm, record.images, record.seed))


def _today(tree: dict[str, Any], config: Config) -> dict[str, Any]:
    """The fields of a record of an earlier version, with the labels and names that say the same today."""
    if "name" in tree:  # as searches once recorded their confirm runs
        own, trained = config.with_overrides(tree["overrides"]), tree.get("train_seconds", tree["seconds"])
        return tree | {
            "arm": tree["name"],
            "images": 0,
            "steps": own.training.steps,
            "views_per_step": 2 * own.training.batch_images,
            "metrics": names.renamed(tree["metrics"], config),
            "seconds": {"train": trained, "evaluate": tree["seconds"] - trained},
            "compared": {key: tree[key] for key in ("of", "as") if key in tree},
            "config": own.model_dump(mode="json"),
        }
    written = tree["config"]
    if written["data"]["source"] != config.data.source or not same_labels(written.get("evaluation"), config):
        return tree
    evaluation = written["evaluation"] | config.evaluation.model_dump(include={"label_fractions", "max_label_images"})
    return tree | {"metrics": names.renamed(tree["metrics"], config), "config": written | {"evaluation": evaluation}}
