"""One root for everything a search leaves behind: a folder, or a URI with a mirror on this machine."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from pathlib import Path

from pyarrow import ArrowException, fs

from synthcl.errors import UserError


class Storage:
    """The run's place under the storage root.

    Small files that the driver writes (study, records, report, TensorBoard) live in `folder`; Ray writes its own
    state and the checkpoints under `ray_path` (`ray_folder` on its file system). For a plain folder all are the same
    place. For a URI, `folder` is a mirror on this machine, `pull` fills it and `push` sends what changed.

    Args:
        root: folder, or URI such as `s3://bucket/synthcl`.
        name: the run's name.

    Raises:
        UserError: when the root cannot be written.
    """

    def __init__(self, root: str, name: str) -> None:
        self.root = root
        self.is_uri = "://" in root
        if self.is_uri:
            try:
                self._remote, base = fs.FileSystem.from_uri(root)
            except (ArrowException, ValueError, OSError) as error:
                raise UserError(f"compute.storage {root!r} is no usable URI: {_first_line(error)}") from None
            self._base = base.rstrip("/")
            cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "synthcl"
            self.shared = cache / hashlib.sha256(root.encode()).hexdigest()[:12]
            self.ray_path = f"{root.rstrip('/')}/{name}"
            self.ray_folder = f"{self._base}/{name}"
        else:
            self.shared = Path(root).expanduser().absolute()
            self.ray_path = self.ray_folder = str(self.shared / name)
        self.name = name
        self.folder = self.shared / name
        self._sent: dict[Path, tuple[int, int]] = {}

    def probe(self) -> None:
        """Write, read and delete a small file.

        Raises:
            UserError: when that fails.
        """
        token = uuid.uuid4().hex
        try:
            self.shared.mkdir(parents=True, exist_ok=True)
            probe = self.shared / f".probe-{token}"
            probe.write_text(token)
            whole = probe.read_text() == token
            probe.unlink()
            if self.is_uri:
                remote = f"{self._base}/.probe-{token}"
                self._remote.create_dir(self._base, recursive=True)
                with self._remote.open_output_stream(remote) as stream:
                    stream.write(token.encode())
                with self._remote.open_input_file(remote) as stream:
                    whole = whole and stream.read() == token.encode()
                self._remote.delete_file(remote)
        except (OSError, ArrowException) as error:
            raise UserError(
                f"compute.storage {self.root!r} cannot be written ({_first_line(error)}); "
                "name a folder or URI you may write"
            ) from None
        if not whole:
            raise UserError(f"compute.storage {self.root!r} gives back other bytes than were written")

    def pull(self) -> None:
        """Bring the run's small files and the cached GANs from a URI to the mirror."""
        if self.is_uri:
            for part in (self.name, "gan"):
                info = self._remote.get_file_info(f"{self._base}/{part}")
                if info.type == fs.FileType.Directory:
                    self._copy_down(part)

    def _copy_down(self, part: str) -> None:
        selector = fs.FileSelector(f"{self._base}/{part}", recursive=True)
        for info in self._remote.get_file_info(selector):
            relative = Path(info.path.removeprefix(self._base).lstrip("/"))
            if info.type != fs.FileType.File or _is_rays(relative):
                continue
            target = self.shared / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            fs.copy_files(
                info.path, str(target), source_filesystem=self._remote, destination_filesystem=fs.LocalFileSystem()
            )
            self._sent[target] = _stamp(target)

    def push(self) -> None:
        """Send what changed since the last push to the URI; nothing to do for a folder."""
        if not self.is_uri:
            return
        for file in [*self.folder.rglob("*"), *(self.shared / "gan").rglob("*")]:
            if file.is_file() and not file.name.startswith(".") and self._sent.get(file) != (stamp := _stamp(file)):
                target = f"{self._base}/{file.relative_to(self.shared).as_posix()}"
                self._remote.create_dir(target.rsplit("/", 1)[0], recursive=True)
                fs.copy_files(
                    str(file), target, source_filesystem=fs.LocalFileSystem(), destination_filesystem=self._remote
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
        if self.is_uri and self._remote.get_file_info(f"{self._base}/{self.name}").type == fs.FileType.Directory:
            for info in self._remote.get_file_info(fs.FileSelector(f"{self._base}/{self.name}")):
                if part in ("", info.base_name, Path(info.base_name).stem):
                    directory = info.type == fs.FileType.Directory
                    (self._remote.delete_dir if directory else self._remote.delete_file)(info.path)


def _is_rays(relative: Path) -> bool:
    """Whether a file belongs to a Ray experiment (`search-1`, `train-joint`), which Ray reads from the URI itself."""
    return len(relative.parts) > 2 and relative.parts[1].split("-")[0] in ("search", "confirm", "train", "workers")


def _stamp(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_mtime_ns, status.st_size


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
