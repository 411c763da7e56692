"""An image folder of the user's own.

    root/train/<class>/*    labelled images; without `train`, the class folders lie in `root` itself
    root/test/<class>/*     the test part, or `root/val`; without it, a share of every class is held out
    root/unlabelled/*       more images to pretrain on, in any folders, or `root/unlabeled`

Without class folders, and with fewer than two folders in `root`, no image has a label: see `pool.py`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from synthcl.core.errors import UserError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
TEST_NAMES = ("test", "val")
UNLABELLED_NAMES = ("unlabelled", "unlabeled")
_MOST_NAMED = 8


class Files(NamedTuple):
    """Image files as paths inside a folder."""

    folder: Path
    names: tuple[str, ...]


class Listing(NamedTuple):
    """What a folder of class folders holds."""

    files: Files
    class_indices: tuple[int, ...]
    classes: tuple[str, ...]


def train_folder(root: Path) -> Path:
    """`root/train` where it exists, else `root` itself.

    Raises:
        UserError: when `root` is not a folder.
    """
    require_folder(root)
    inner = root / "train"
    return inner if inner.is_dir() else root


def require_folder(root: Path) -> None:
    """Refuse a data set's folder that is none.

    Raises:
        UserError: saying where images belong.
    """
    if not root.is_dir():
        raise UserError(
            f"data.root {str(root)!r} is not a folder; put images at {root / 'train' / '<class>' / '*'}, or name a "
            "list of images that ends in .txt"
        )


def has_classes(root: Path) -> bool:
    """Whether folders are classes: those of `root/train`, or two and more in `root` itself, or beside a test part.

    Args:
        root: the data set's folder; only names of folders are looked at.

    Raises:
        UserError: when `root` is not a folder, or the test part alone has classes.
    """
    train, test = train_folder(root), test_folder(root)
    classes = class_names(train, root)
    if classes and (train != root or test or len(classes) > 1):
        return True
    if test:
        raise UserError(
            f"folder {str(test)!r} has classes, and {str(train)!r} has none; sort images to train on into "
            f"{train / '<class>'}, or give data.labels=none to train on all of them without labels"
        )
    return False


def test_folder(root: Path) -> Path | None:
    """The first of `root/test` and `root/val` that holds class folders, looking at folder names only."""
    candidates = (root / name for name in TEST_NAMES)
    return next((folder for folder in candidates if folder.is_dir() and class_names(folder, root)), None)


def unlabelled_folder(root: Path) -> Path | None:
    """The first of `root/unlabelled` and `root/unlabeled` that is a folder."""
    return next((folder for name in UNLABELLED_NAMES if (folder := root / name).is_dir()), None)


def class_names(folder: Path, root: Path) -> tuple[str, ...]:
    """Sorted names of the class folders in `folder`; `root` itself may hold test and unlabelled images beside them."""
    apart = (*TEST_NAMES, *UNLABELLED_NAMES) if folder == root else ()
    return tuple(entry.name for entry in _scan(folder) if entry.name not in apart and _is_folder(entry))


def list_images(folder: Path, root: Path) -> Listing:
    """Find the images of every class.

    Args:
        folder: the train or the test folder; it has class folders.
        root: the data set's folder, which `folder` may be.

    Raises:
        UserError: when a class is empty, or images lie beside class folders.
    """
    classes = class_names(folder, root)
    if loose := _loose_images(folder):
        raise UserError(
            f"folder {str(folder)!r} holds images ({loose[0]!r}) beside class folders ({classes[0]!r}); "
            f"move the images into classes, or the folders away{_no_classes(folder, root)}"
        )
    names, indices = [], []
    for index, name in enumerate(classes):
        found = [os.path.relpath(path, folder) for path in _walk(folder / name) if is_image(path)]
        if not found:
            raise UserError(
                f"class folder {str(folder / name)!r} holds no images ({' '.join(SUFFIXES)}); fill it or remove "
                f"it{_no_classes(folder, root)}"
            )
        names.extend(found)
        indices.extend([index] * len(found))
    return Listing(Files(folder, tuple(names)), tuple(indices), classes)


def _no_classes(folder: Path, root: Path) -> str:
    """What else is right where folders may not have been meant as classes."""
    return ", or give data.labels=none if the folders are no classes" if folder == root else ""


def list_unlabelled(folder: Path, remedy: str = "fill it or remove it") -> Files:
    """Find the images in a folder and in the folders below it.

    Args:
        folder: where they are.
        remedy: what is right when it has none.

    Raises:
        UserError: when there are none.
    """
    names = tuple(os.path.relpath(path, folder) for path in _walk(folder) if is_image(path))
    if not names:
        raise UserError(f"folder {str(folder)!r} holds no images ({' '.join(SUFFIXES)}); {remedy}")
    return Files(folder, names)


def joined(parts: list[Files]) -> Files:
    """The files of all parts, in their order, as paths inside the folder that holds them all."""
    if len(parts) == 1:
        return parts[0]
    folder = os.path.commonpath([part.folder for part in parts])
    inside = [os.path.relpath(part.folder, folder) for part in parts]
    names = (os.path.join(place, name) for place, part in zip(inside, parts, strict=True) for name in part.names)
    return Files(Path(folder), tuple(names))


def unread(root: Path) -> list[str]:
    """What a data set's folder holds that no split reads, a line for each, so that nothing is left out in silence.

    Args:
        root: the data set's folder; hidden files do not count.
    """
    train, test, more = train_folder(root), test_folder(root), unlabelled_folder(root)
    lines = []
    for name in _entries(root):
        folder = root / name
        if not folder.is_dir() or folder in (train, test, more):
            continue
        if name in TEST_NAMES:
            lines.append(f"{folder}: " + (f"{test} is the test part" if test else "has no class folders"))
        elif name in UNLABELLED_NAMES:
            lines.append(f"{folder}: {more} holds the unlabelled images")
        elif train != root:
            lines.append(f"{folder}: only train, {' or '.join(TEST_NAMES)}, and {UNLABELLED_NAMES[0]} are read")
    if len(lines) > _MOST_NAMED:
        lines[_MOST_NAMED:] = [f"and {len(lines) - _MOST_NAMED} more folders in {root}"]
    if train != root and (loose := _loose_images(root)):
        place = root / UNLABELLED_NAMES[0]
        lines.append(f"{root}: images beside train ({len(loose):,}, such as {loose[0]!r}); move them into {place}")
    parts = [folder for folder in (train, test, more) if folder]
    below = [folder / name for folder in parts for name in (class_names(folder, root) if folder == root else ("",))]
    return lines + others_line(root, [path for folder in below for path in other_files(folder)])


def other_files(folder: Path) -> Iterator[Path]:
    """Files in a folder and below it that are no images."""
    return (path for path in _walk(folder) if not is_image(path))


def others_line(root: Path, others: list[Path]) -> list[str]:
    """A line that counts files that are no images and names one of them, or none."""
    if not others:
        return []
    counts = Counter(path.suffix.lower() or "no ending" for path in others)
    endings = ", ".join(f"{count:,} {ending}" for ending, count in counts.most_common(_MOST_NAMED))
    more = f" and {len(counts) - _MOST_NAMED} kinds more" if len(counts) > _MOST_NAMED else ""
    named = f"files of other kinds ({endings}{more}, such as {others[0].name!r})"
    return [f"{root}: {named}; images end in {' '.join(SUFFIXES)}"]


def _entries(folder: Path) -> list[str]:
    """Sorted names in a folder, without the hidden ones."""
    return [entry.name for entry in _scan(folder)]


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    """Entries of a folder by name, without the hidden ones; they know without another look whether they are folders."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"folder {str(folder)!r} cannot be listed: {error.strerror}; make it readable") from None


def _loose_images(folder: Path) -> list[str]:
    return [entry.name for entry in _scan(folder) if is_image(Path(entry.name)) and not _is_folder(entry)]


def is_image(path: Path) -> bool:
    """Whether a file is an image, by its ending."""
    return path.suffix.lower() in SUFFIXES


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _walk(folder: Path) -> Iterator[Path]:
    """Files below `folder`; links are followed, but a folder is entered once, so loops end."""
    return _files_below(folder, set())


def _files_below(folder: Path, seen: set[tuple[int, int]]) -> Iterator[Path]:
    status = folder.stat()
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    for entry in _scan(folder):
        if _is_folder(entry):
            yield from _files_below(folder / entry.name, seen)
        else:
            yield folder / entry.name
