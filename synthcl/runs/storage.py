"""One root for everything a search leaves behind: a folder, or a URI with a mirror on this machine."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pyarrow import ArrowException, fs

from synthcl.core.errors import UserError
from synthcl.core.errors import first_line as _first_line
from synthcl.runs.location import below, is_uri

_OF_A_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE)
"""what a write may fail with that does not say which file it was about"""


class Storage:
    """The run's place under the storage root.

    Small files that the driver writes (study, records, report, TensorBoard) live in `folder`; Ray writes its own
    state and the checkpoints where `ray_uri` says. For a plain folder all are the
    same place. For a URI, `folder` is a mirror on this machine, `pull` fills it and `push` sends what changed.

    Args:
        root: folder, or URI such as `s3://bucket/synthcl` or `s3://bucket/synthcl?endpoint_override=host:port`.
        name: the run's name.

    Raises:
        UserError: when the root is no usable URI.
    """

    def __init__(self, root: str, name: str) -> None:
        self.root, self.name = root, name
        self.is_uri = is_uri(root) and not root.startswith("file://")
        if self.is_uri:
            try:
                self._system, base = fs.FileSystem.from_uri(root)
            except (ArrowException, ValueError, OSError) as error:
                raise UserError(
                    f"compute.storage {root!r} is no usable URI: {_first_line(error)}; "
                    "name a folder, or a bucket such as s3://bucket/synthcl"
                ) from None
            self._base = base.rstrip("/")
            cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "synthcl"
            self.shared = cache / hashlib.sha256(root.encode()).hexdigest()[:12]
        else:
            self.shared = Path(root.removeprefix("file://")).expanduser().absolute()
            self._system, self._base = fs.LocalFileSystem(), str(self.shared)
        self.folder = self.shared / name
        self._sent: dict[Path, tuple[int, int]] = {}

    def ray_uri(self, *parts: str) -> str:
        """Where Ray finds a part of the run: a path, or a URI with the root's own query."""
        return below(self.root if self.is_uri else str(self.shared), self.name, *parts)

    @property
    def ray_path(self) -> str:
        """`ray_uri` of the run itself."""
        return self.ray_uri()

    @contextmanager
    def failures_named(self) -> Iterator[None]:
        """Turns what a full, vanished or read-only storage does to a run into one line.

        Raises:
            UserError: in place of an OSError about a file of the storage.
        """
        try:
            yield
        except OSError as error:
            about = str(error.filename or "")
            if not (about.startswith(str(self.shared)) if about else error.errno in _OF_A_DISK):
                raise
            raise UserError(
                f"compute.storage {self.root!r} cannot be used any more ({_first_line(error)}); "
                "mend it, and the same command goes on where it stopped"
            ) from error

    def probe(self) -> None:
        """Write, read and delete a small file; nothing stays, not even the root's folder.

        Raises:
            UserError: when that fails.
        """
        with self.beacon() as token:
            self.answer(token)

    @contextmanager
    def beacon(self) -> Iterator[str]:
        """A small file that tells this storage from any other, for as long as it is needed.

        Yields:
            Its token, for `answer` on another machine.

        Raises:
            UserError: when it cannot be written.
        """
        token = uuid.uuid4().hex
        made: list[Path] = []
        try:
            with self._refusal("be written", "name a folder or URI you may write"):
                if self.folder.exists() and not self.folder.is_dir():
                    raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(self.folder))
                made = [path for path in (self.shared, *self.shared.parents) if not path.exists()]
                self.shared.mkdir(parents=True, exist_ok=True)
                self._write(token)
            yield token
        finally:
            with suppress(OSError, ArrowException):
                self._system.delete_file(self._at(token))
            for folder in made:  # the deepest first; one that somebody filled meanwhile stays
                with suppress(OSError):
                    folder.rmdir()

    def answer(self, token: str) -> None:
        """Prove that this process sees the storage where the beacon stands, and may write there.

        Args:
            token: what `beacon` gave, perhaps on another machine.

        Raises:
            UserError: when the file is not there or says something else, or none can be written.
        """
        own = f"{token}-{uuid.uuid4().hex}"
        with self._refusal("be read and written", "name a folder that all nodes share, or a URI"):
            try:
                self._write(own)
                if self._read(token) != token or self._read(own) != own:
                    raise OSError("it gives back other bytes than were written")
            finally:
                with suppress(OSError, ArrowException):
                    self._system.delete_file(self._at(own))

    @contextmanager
    def _refusal(self, what: str, remedy: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ArrowException) as error:
            raise UserError(f"compute.storage {self.root!r} cannot {what} ({_first_line(error)}); {remedy}") from None

    def _at(self, token: str) -> str:
        return f"{self._base}/.probe-{token}"

    def _write(self, token: str) -> None:
        with self._system.open_output_stream(self._at(token)) as stream:
            stream.write(token.encode())

    def _read(self, token: str) -> str:
        with self._system.open_input_file(self._at(token)) as stream:
            return bytes(stream.read()).decode(errors="replace")

    def pull(self) -> None:
        """Bring the run's small files and the cached GANs from a URI to the mirror, newer ones of the mirror aside.

        Raises:
            UserError: when the URI cannot be read.
        """
        if not self.is_uri:
            return
        with self._refusal("be read", "mend it and give the same command again"):
            for part in (self.name, "gan"):
                selector = fs.FileSelector(f"{self._base}/{part}", recursive=True, allow_not_found=True)
                for info in self._system.get_file_info(selector):
                    relative = Path(info.path.removeprefix(self._base).lstrip("/"))
                    if info.type == fs.FileType.File and not relative.name.startswith(".") and not _is_rays(relative):
                        self._copy_down(info, self.shared / relative)

    def _copy_down(self, info: fs.FileInfo, target: Path) -> None:
        if target.is_file() and target.stat().st_mtime_ns > info.mtime_ns:
            return  # written here after it was last sent: an interruption came before the push
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            fs.copy_files(
                info.path, str(temporary), source_filesystem=self._system, destination_filesystem=fs.LocalFileSystem()
            )
            os.utime(temporary, ns=(info.mtime_ns, info.mtime_ns))
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        self._sent[target] = _stamp(target)

    def push(self) -> None:
        """Send what changed since the last push to the URI; nothing to do for a folder.

        Raises:
            UserError: when that fails; what was not sent is sent by the next push.
        """
        if not self.is_uri:
            return
        with self._refusal("be written", f"all is kept in {str(self.folder)!r} and sent by the same command"):
            for file in [*self.folder.rglob("*"), *(self.shared / "gan").rglob("*")]:
                if file.is_file() and not file.name.startswith(".") and self._sent.get(file) != (stamp := _stamp(file)):
                    target = f"{self._base}/{file.relative_to(self.shared).as_posix()}"
                    fs.copy_files(
                        str(file), target, source_filesystem=fs.LocalFileSystem(), destination_filesystem=self._system
                    )
                    self._sent[file] = stamp

    def clear(self, part: str = "") -> None:
        """Forget the run, or one part of it: `--fresh`. Cached GANs stay, they are shared.

        Args:
            part: name of a folder or of files without their suffix, inside the run's folder; empty means all.
        """
        for path in list(self.folder.glob("*")):
            if part in ("", path.name, path.stem):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        if self.is_uri:
            selector = fs.FileSelector(f"{self._base}/{self.name}", allow_not_found=True)
            for info in self._system.get_file_info(selector):
                if part in ("", info.base_name, Path(info.base_name).stem):
                    directory = info.type == fs.FileType.Directory
                    (self._system.delete_dir if directory else self._system.delete_file)(info.path)


def _is_rays(relative: Path) -> bool:
    """Whether a file belongs to a Ray experiment (`search-1`, `train-joint`), which Ray reads from the URI itself."""
    stages = ("search", "confirm", "refit", "train", "workers")
    return len(relative.parts) > 2 and relative.parts[1].split("-")[0] in stages


def _stamp(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_mtime_ns, status.st_size
