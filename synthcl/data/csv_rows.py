"""CSV files that say something about images by their paths."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from synthcl.core.errors import UserError
from synthcl.data.folder import Files


def read_rows(file: Path, columns: tuple[str, ...], field: str) -> dict[int, dict[str, str]]:
    """The rows of a CSV file by the number of their line, without space around values.

    Args:
        file: in UTF-8; its first line names the columns.
        columns: those that it must have.
        field: of the configuration that names it, for messages.

    Raises:
        UserError: naming the file, when it cannot be read or lacks a column.
    """
    said = f"{field} {str(file)!r}"
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            for column in columns:
                if column not in (reader.fieldnames or ()):
                    there = ", ".join(reader.fieldnames or ()) or "none"
                    raise UserError(
                        f"{said} has no column {column!r} (it has: {there}); its first line must be {','.join(columns)}"
                    )
            rows: dict[int, dict[str, str]] = {}
            for row in reader:
                rows[reader.line_num] = {name: (row.get(name) or "").strip() for name in columns}
            return rows
    except OSError as error:
        raise UserError(
            f"{said} cannot be read: {error.strerror}; name a CSV file with the columns {' and '.join(columns)}"
        ) from None
    except (UnicodeDecodeError, csv.Error):
        raise UserError(f"{said} is no CSV file in UTF-8; save it as one") from None


def name_in(pool: Files, file: Path, path: str) -> str:
    """The name in a pool that a path of a CSV file stands for, when it stands for one.

    Args:
        pool: images of a folder.
        file: the CSV file; paths are relative to the pool's folder, or to its own.
        path: as it is written there.
    """
    name = os.path.normpath(path)
    if os.path.isabs(path) or not (pool.folder / name).is_file():
        name = os.path.relpath(file.parent.absolute() / path, pool.folder.absolute())
    return name
