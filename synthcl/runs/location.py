"""A folder or a URI, in the same words: what is below it, what opens it, and patience while it is away."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

from pyarrow import fs

PATIENCE_SECONDS = 300.0
"""how long a storage may be away before that fails a run"""
_LASTING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
"""what waiting does not mend"""

T = TypeVar("T")


def is_uri(place: str) -> bool:
    """Whether a place is a URI such as `s3://bucket/folder`, not a path."""
    return "://" in place


def below(root: str, *parts: str) -> str:
    """A place under a folder or URI; a query, which may name an endpoint, stays at the end."""
    whole = urlsplit(root) if is_uri(root) else None
    path = "/".join([(whole.path if whole else root).rstrip("/"), *parts])
    return urlunsplit(whole._replace(path=path)) if whole else path


def patiently(action: Callable[[], T]) -> T:
    """Do what reads or writes a storage, again while the storage is away.

    Args:
        action: may be done twice.

    Raises:
        OSError: of the last attempt; at once where the disk is full or read-only.
    """
    deadline, pause = time.monotonic() + PATIENCE_SECONDS, 1.0
    while True:
        try:
            return action()
        except OSError as error:
            if error.errno in _LASTING or time.monotonic() + pause > deadline:
                raise
            time.sleep(pause)
            pause = min(2 * pause, 30.0)


def opened(place: str) -> tuple[fs.FileSystem, str]:
    """The file system of a path or URI, and the place there."""
    return fs.FileSystem.from_uri(place) if is_uri(place) else (fs.LocalFileSystem(), place)


def require_there(place: str) -> None:
    """Tell a folder whose disk is away from one that is empty: nothing is begun anew, nothing written beneath."""
    if not is_uri(place) and not Path(place).parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "the storage is away", str(Path(place).parent))
