"""The state of an unfinished GAN warm-up: one file in a folder, or under a URI that every node reaches."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import torch
from pyarrow import fs

from synthcl.core.atomic import remove_leftovers, write_whole
from synthcl.runs.checkpoint import versions
from synthcl.runs.location import is_uri, opened, patiently, require_there

FORMAT = 1
_log = logging.getLogger(__name__)


def keep(place: str, key: str, state: dict[str, Any]) -> None:
    """Replace the state; what is read there is whole at any time.

    Args:
        place: the file, a path or a URI; a folder above it exists.
        key: of the warm-up's result.
        state: tensors and plain values.

    Raises:
        OSError: when the storage is full, or away for long; the last state stays.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "key": key, "versions": versions(), "state": state}, buffer)
    patiently(lambda: _write(place, buffer.getbuffer()))


def _write(place: str, content: memoryview) -> None:
    require_there(place)
    if not is_uri(place):
        write_whole(Path(place), content)
        return
    system, path = opened(place)
    folder, _, name = path.rpartition("/")
    system.create_dir(folder, recursive=True)
    with system.open_output_stream(f"{folder}/.{name}") as stream:
        stream.write(content)
    system.move(f"{folder}/.{name}", path)


def kept(place: str, key: str, device: torch.device) -> dict[str, Any] | None:
    """The state that was kept; None where there is none. One that cannot be used is named in the log and left out.

    Args:
        place: as of `keep`.
        key: of the warm-up that asks; the state of another one is of no use.
        device: of the tensors.

    Raises:
        OSError: when the storage is away for long.
    """
    content = patiently(lambda: _read(place))
    if content is None:
        return None
    try:
        whole = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
        if whole["format"] != FORMAT or whole["key"] != key:
            raise ValueError(f"it is of format {whole['format']} and of warm-up {whole['key']}, not {FORMAT} and {key}")
        state: dict[str, Any] = whole["state"]
    except Exception as error:  # a broken file can raise anything inside its decoder
        ignored(place, error)
        return None
    return state


def ignored(place: str, error: Exception) -> None:
    """Say that a state is not used."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    _log.warning("GAN warm-up starts over: its checkpoint %s cannot be used (%s)", place, reason)


def _read(place: str) -> bytes | None:
    require_there(place)
    system, path = opened(place)
    if system.get_file_info(path).type != fs.FileType.File:
        return None
    with system.open_input_file(path) as stream:
        return bytes(stream.read())


def forget(place: str) -> None:
    """Delete the state, and what a killed process left of an attempt to write it, if they are there."""
    system, path = opened(place)
    if system.get_file_info(path).type == fs.FileType.File:
        system.delete_file(path)
    if not is_uri(place):
        remove_leftovers(Path(place))
