"""Files that are whole or not there: written to a temporary name, onto the disk, then renamed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from synthcl.core.errors import UserError


def write_whole(file: Path, content: bytes | memoryview | str) -> None:
    """Write a file whole or not at all; a reader meets the old one until the new one is on the disk.

    Args:
        file: in a folder that exists. Processes that write it at once do not meet; the last one stays.
        content: text is written as UTF-8.

    Raises:
        OSError: naming the file, when the disk is full say; the old file stays.
    """
    with whole_file(file) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def whole_file(file: Path) -> Iterator[BinaryIO]:
    """A stream whose content becomes the file when it is closed without an error, as by `write_whole`.

    Raises:
        OSError: as of `write_whole`.
    """
    temporary = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    except OSError as error:
        if error.filename in (None, str(temporary)):
            error.filename = str(file)  # a failed write does not say which file it was
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def disk_failures_named(option: str, place: Path, remedy: str = "make room, or name another place") -> Iterator[None]:
    """Inside, a disk that takes no more is one line for the user.

    Args:
        option: that names what is written.
        place: the file or folder.
        remedy: what to do then.

    Raises:
        UserError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{option} {str(place)!r}: {error.strerror or error}; {remedy}") from None


def remove_leftovers(file: Path) -> None:
    """Delete what a killed process left of its attempts to write a file; its only writer may call this."""
    for left in file.parent.glob(f".{file.name}.*"):
        left.unlink(missing_ok=True)
