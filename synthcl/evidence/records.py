"""One JSON record for every finished run: all that tables and figures are made of."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from synthcl.config import Config
from synthcl.curriculum import is_real_only
from synthcl.errors import UserError
from synthcl.evidence.plan import Run

Record = dict[str, Any]

_FREE: dict[str, Any] = {
    "name": True,
    "compute": True,
    "health": True,
    "search": True,
    "data": {"root", "download", "loader_workers", "resident_limit_mib"},
    "training": {"checkpoint_minutes", "log_kimg"},
}
"""what says where and how a run is made, not what it measures"""


class Place:
    """Where the evidence of a configuration lies: `<storage>/<name>/evidence/`.

    Args:
        config: its name and storage.

    Raises:
        UserError: when the storage is a URI.
    """

    def __init__(self, config: Config) -> None:
        if "://" in config.compute.storage:
            raise UserError(
                f"compute.storage {config.compute.storage!r}: evidence needs a folder, on a cluster one all nodes see"
            )
        root = Path(config.compute.storage).expanduser().absolute()
        self.gans = root / "gan"
        self.records = root / config.name / "evidence"
        self.report = self.records / "report"

    def record(self, run: Run) -> Path:
        return self.records / f"{run.label}.json"

    def checkpoint(self, run: Run) -> Path:
        return self.records / "checkpoints" / run.label

    def legs(self, run: Run) -> Path:
        """What an unfinished run has measured so far."""
        return self.checkpoint(run) / "legs.json"


def settings(config: Config) -> dict[str, dict[str, Any]]:
    """The part of a configuration that decides what a run measures: not the GAN where no view is synthetic."""
    decisive = config.model_dump(mode="json", exclude=_FREE)
    if is_real_only(config):
        del decisive["gan"]
    return decisive


def digest(config: Config) -> str:
    """First 12 hex digits of the SHA-256 over `settings`."""
    return hashlib.sha256(json.dumps(settings(config), sort_keys=True).encode()).hexdigest()[:12]


def is_finished(run: Run, place: Place) -> bool:
    """Whether the run's record is there.

    Raises:
        UserError: when it was made with another configuration.
    """
    file = place.record(run)
    if not file.is_file():
        return False
    written, defaults = _read(file)["config"], Config(name=run.config.name).model_dump(mode="json")
    for section, fields in settings(run.config).items():
        for field, value in fields.items():
            other = written.get(section, {}).get(field, defaults[section][field])  # a later field: as it was before
            if other != value:
                raise UserError(
                    f"record {str(file)!r} was made with {section}.{field}={other!r}, asked for {value!r}; "
                    "use name=... for a comparison of its own, or delete the record"
                )
    return True


def read_all(place: Place) -> list[Record]:
    """Every record of the place, sorted by arm, images and seed.

    Raises:
        UserError: when there is none, or one is unreadable.
    """
    found = [_read(file) for file in sorted(place.records.glob("*.json"))]
    if not found:
        raise UserError(f"there is no record in {str(place.records)!r}; run benchmarks/evidence.py without --report")
    return sorted(found, key=lambda record: (record["arm"], record["images"], record["seed"]))


def _read(file: Path) -> Record:
    try:
        record = json.loads(file.read_text())
        _ = record["arm"], record["images"], record["seed"], record["metrics"], record["config"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"record {str(file)!r} is unreadable; delete it and its run will be made anew") from None
    assert isinstance(record, dict)
    return record
