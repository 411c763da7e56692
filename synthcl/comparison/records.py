"""One JSON record for every finished run: all that tables and figures are made of."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from synthcl.comparison.plan import Run
from synthcl.config.compatibility import first_difference, flat, is_within, not_measured, same_labels
from synthcl.config.schema import Config
from synthcl.core.errors import UserError
from synthcl.evaluation import names
from synthcl.runs.location import is_uri

Record = dict[str, Any]


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
    if differs := first_difference(_read(file)["config"], run.config, not_measured(run.config)):
        field, written, wanted = differs
        raise UserError(
            f"record {str(file)!r} was made with {field}={written!r}, asked for {wanted!r}; "
            "use name=... for a comparison of its own, or delete the record"
        )
    return True


def read_all(place: Place) -> list[Record]:
    """Every record of the place, sorted by arm, images and seed, with today's names of scores.

    Raises:
        UserError: when there is none, or one is unreadable.
    """
    found = [_today(_read(file), place.config) for file in sorted(place.records.glob("*.json"))]
    if not found:
        raise UserError(f"there is no record in {str(place.records)!r}; run tune/compare.py without --report")
    return sorted(found, key=lambda record: (record["arm"], record["images"], record["seed"]))


def _today(record: Record, config: Config) -> Record:
    """A record of an earlier version, with the labels and names that say the same today."""
    written = record["config"]
    if written["data"]["source"] != config.data.source or not same_labels(written.get("evaluation"), config):
        return record
    evaluation = written["evaluation"] | config.evaluation.model_dump(include={"label_fractions", "max_label_images"})
    return record | {
        "metrics": names.renamed(record["metrics"], config),
        "config": written | {"evaluation": evaluation},
    }


def _read(file: Path) -> Record:
    try:
        record = json.loads(file.read_text())
        _ = record["arm"], record["images"], record["seed"], record["metrics"], record["config"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"record {str(file)!r} is unreadable; delete it and its run will be made anew") from None
    assert isinstance(record, dict)
    return record
