"""Images of the user's own whose folders mean nothing: all below a folder or on a list, and labels in a CSV file.

photos/**/*        every image below `data.root`, at any depth
images.txt         `data.root` may be a list instead: a path a line, relative to the list's own folder
labels.csv         `data.labels`: the columns `path` and `label`; images that it does not name have no label
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from synthcl.core.errors import UserError
from synthcl.data.csv_rows import name_in, read_rows
from synthcl.data.folder import Files, is_image, list_unlabelled, other_files, others_line, require_folder

LIST_SUFFIX = ".txt"
COLUMNS = ("path", "label")


class Labelled(NamedTuple):
    """The images that a CSV file names, in the pool's order, and the others."""

    files: Files
    class_indices: tuple[int, ...]
    classes: tuple[str, ...]
    others: Files


def is_list(root: Path) -> bool:
    """Whether `root` is a list of images."""
    return root.suffix.lower() == LIST_SUFFIX and root.is_file()


def list_pool(root: Path) -> Files:
    """Every image of a folder, at any depth, or of a list; sorted, and each once.

    Raises:
        UserError: when there are none, `root` is neither, or a listed file is missing.
    """
    if not is_list(root):
        require_folder(root)
        return list_unlabelled(root, f"put them at {root / 'train' / '<class>' / '*'}, or without labels at any depth")
    lines = _lines(root)
    names = sorted({os.path.normpath(line) for line in lines.values() if not _is_other(line)})
    if not names:
        raise UserError(f"list {str(root)!r} names no images; write the path of an image on every line")
    known = set(names)
    for number, line in lines.items():
        if os.path.normpath(line) in known and not (root.parent / line).is_file():
            raise UserError(
                f"list {str(root)!r}, line {number}: there is no file {str(root.parent / line)!r}; paths are relative "
                "to the list's folder; correct or remove the line"
            )
    return Files(root.parent, tuple(names))


def unread_of_pool(root: Path, labels: Path | None = None) -> list[str]:
    """What lies below a folder, or stands on a list, and is no image, in a line or two.

    Args:
        root: the folder or list.
        labels: a file that is read as labels.
    """
    if not is_list(root):
        found = (path for path in other_files(root) if labels is None or path.absolute() != labels.absolute())
        return others_line(root, list(found))
    lines = list(_lines(root).values())
    notes = others_line(root, [Path(line) for line in lines if _is_other(line)])
    times = Counter(os.path.normpath(line) for line in lines if not _is_other(line))
    if again := [name for name, count in times.items() if count > 1]:
        more = sum(times[name] - 1 for name in again)
        notes.append(f"{root}: lines that name an image again ({more:,}, such as {again[0]!r})")
    return notes


def labels_file(named: str, root: Path) -> Path:
    """Where `data.labels` is: as given, or inside the folder of `data.root`."""
    given, inside = Path(named).expanduser(), (root.parent if is_list(root) else root) / named
    return given if given.is_file() or not inside.is_file() else inside


def read_labels(file: Path, pool: Files) -> Labelled:
    """Divide a pool into the images that a CSV file labels and the others.

    Args:
        file: with the columns `path` and `label`, in UTF-8; paths are relative to the pool's folder, or to the file's.
        pool: every image there is.

    Raises:
        UserError: naming the file and the line, when a column, a label or an image is missing, or an image has two
            labels.
    """
    known = set(pool.names)
    found: dict[str, str] = {}
    for number, row in read_rows(file, COLUMNS, "data.labels").items():
        path, label = (row[column] for column in COLUMNS)
        name = name_in(pool, file, path)
        if name not in known:
            raise UserError(
                f"data.labels {str(file)!r}, line {number}: {path!r} is none of the images of {str(pool.folder)!r}; "
                "paths are relative to data.root or to the CSV file; correct or remove the line"
            )
        if not label:
            raise UserError(
                f"data.labels {str(file)!r}, line {number}: {path!r} has no label; add it or remove the line"
            )
        if found.setdefault(name, label) != label:
            raise UserError(
                f"data.labels {str(file)!r}, line {number}: {path!r} is {label!r} here and {found[name]!r} above; "
                "give an image one label"
            )
    if not found:
        raise UserError(f"data.labels {str(file)!r} labels no image; write a line for each, or use data.labels=none")
    classes = tuple(sorted(set(found.values())))
    index = {name: number for number, name in enumerate(classes)}
    names = tuple(name for name in pool.names if name in found)
    others = tuple(name for name in pool.names if name not in found)
    indices = tuple(index[found[name]] for name in names)
    return Labelled(Files(pool.folder, names), indices, classes, Files(pool.folder, others))


def _lines(file: Path) -> dict[int, str]:
    """The lines of a list by their number, without the empty ones."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"list {str(file)!r} cannot be read: {error.strerror}; make it readable") from None
    except UnicodeDecodeError:
        raise UserError(f"list {str(file)!r} is no text in UTF-8; save it as such") from None
    return {number: line.strip() for number, line in enumerate(text.splitlines(), 1) if line.strip()}


def _is_other(line: str) -> bool:
    return not is_image(Path(line))
