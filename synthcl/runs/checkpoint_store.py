"""The last good checkpoint of a run, in a folder or under a URI that every node reaches.

A run keeps its state with the report of the leg that led there, and only then tells anybody of the leg. So whatever
dies in between, what was reported is kept, and what was kept is reported again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pyarrow import fs

from synthcl.config.schema import Config
from synthcl.core.atomic import remove_leftovers
from synthcl.core.report import Report
from synthcl.runs import checkpoint
from synthcl.runs.location import is_uri, opened, patiently, require_there
from synthcl.training.trainer import Trainer

Require = Callable[[dict[str, Any], Config, Path], None]
"""(what a checkpoint holds, the configuration at hand, where it lies) -> nothing, or a `UserError`"""


def save(trainer: Trainer, folder: Path, report: Report | None = None) -> None:
    """Write `checkpoint.pt` and, where there is a generator, `samples.png` into a folder.

    Args:
        trainer: at a point where it may be continued.
        folder: made if missing.
        report: of the leg that ends here, kept beside the state.
    """
    plain = None if report is None else report.as_dict()
    checkpoint.save(folder, trainer.config, trainer.state_dict(), trainer.samples(), plain)


def load(trainer: Trainer, folder: Path, require: Require = checkpoint.require_same_run) -> Report | None:
    """Continue from a checkpoint's folder.

    Args:
        trainer: new.
        folder: of the checkpoint.
        require: refuses what the trainer may not go on from.

    Returns:
        The report that was saved with it.

    Raises:
        UserError: when the checkpoint is unreadable, foreign or of another configuration.
    """
    state = checkpoint.load(folder, trainer.device)
    require(state, trainer.config, folder)
    trainer.load_state_dict(state["trainer"])
    report = Report.from_dict(state["report"]) if state.get("report") else None
    trainer.spent_seconds = report.seconds if report else 0.0
    trainer.scoring_seconds = report.scoring_seconds if report else 0.0
    return report


def keep(trainer: Trainer, place: str, report: Report) -> None:
    """Replace a run's last checkpoint; what is read there is whole at any time.

    Args:
        trainer: between two legs.
        place: folder or URI of the run; the folder above it exists.
        report: of the leg that ends here.

    Raises:
        OSError: when the storage is full, or away for long; the last checkpoint stays.
    """
    patiently(lambda: _keep(trainer, place, report))


def _keep(trainer: Trainer, place: str, report: Report) -> None:
    require_there(place)
    if not is_uri(place):
        save(trainer, Path(place), report)
        return
    remote, base = fs.FileSystem.from_uri(place)
    remote.create_dir(base, recursive=True)
    with TemporaryDirectory() as folder:
        save(trainer, Path(folder), report)
        for file in sorted(Path(folder).iterdir(), reverse=True):  # samples before the checkpoint they belong to
            _copy(fs.LocalFileSystem(), str(file), remote, f"{base}/.{file.name}")
            remote.move(f"{base}/.{file.name}", f"{base}/{file.name}")


def resume(trainer: Trainer, place: str) -> Report | None:
    """Continue from a run's last checkpoint, if there is one.

    Args:
        trainer: new, of the same configuration.
        place: folder or URI of the run.

    Returns:
        The report of the leg that ended there, perhaps never heard; None for a run that begins.

    Raises:
        UserError: when the checkpoint is unreadable or of another configuration.
    """
    patiently(lambda: require_there(place))
    if not patiently(lambda: _is_file(place, checkpoint.FILE)):
        return None
    if not is_uri(place):
        remove_leftovers(Path(place, checkpoint.FILE))
    with fetched(place) as folder:
        return load(trainer, folder)


def adopt(trainer: Trainer, place: str) -> Report | None:
    """Begin a run with another's last checkpoint; what both did until then is the same.

    Args:
        trainer: new, of a configuration whose schedules may differ from the other's from there on.
        place: folder or URI of the other run.

    Returns:
        The report of the leg that ended there, less what it logged; None where the other has no checkpoint: trained
        from its beginning the run comes to the same numbers.

    Raises:
        UserError: when the checkpoint is unreadable, or of a run that was another one before.
    """
    patiently(lambda: require_there(place))
    if not patiently(lambda: _is_file(place, checkpoint.FILE)):
        return None
    with fetched(place) as folder:
        report = load(trainer, folder, checkpoint.require_ancestor)
    return None if report is None else replace(report, history=[])


def forget(place: str) -> None:
    """Delete a run's last checkpoint and the samples beside it, if they are there."""
    system, base = opened(place)
    for name in (checkpoint.FILE, checkpoint.SAMPLES):
        if _is_file(place, name):
            system.delete_file(f"{base}/{name}")


@contextmanager
def fetched(place: str) -> Iterator[Path]:
    """A run's last checkpoint in a folder of this machine: the run's own, or a copy for as long as it is needed."""
    if not is_uri(place):
        yield Path(place)
        return
    remote, base = fs.FileSystem.from_uri(place)
    with TemporaryDirectory() as folder:
        if _is_file(place, checkpoint.FILE):
            file = f"{folder}/{checkpoint.FILE}"
            patiently(lambda: _copy(remote, f"{base}/{checkpoint.FILE}", fs.LocalFileSystem(), file))
        yield Path(folder)


def samples(place: str) -> bytes | None:
    """The PNG of G(z) over G_ema(z) beside a run's last checkpoint; None in a real-only run."""
    if not _is_file(place, checkpoint.SAMPLES):
        return None
    system, base = opened(place)
    with system.open_input_file(f"{base}/{checkpoint.SAMPLES}") as stream:
        return bytes(stream.read())


def _is_file(place: str, name: str) -> bool:
    system, base = opened(place)
    return bool(system.get_file_info(f"{base}/{name}").type == fs.FileType.File)


def _copy(source: fs.FileSystem, file: str, target: fs.FileSystem, to: str) -> None:
    fs.copy_files(file, to, source_filesystem=source, destination_filesystem=target)
