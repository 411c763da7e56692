"""An image folder of the user's own: `root/train/<class>/*` and `root/test/<class>/*`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from synthcl.errors import UserError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
TEST_NAMES = ("test", "val")


class Files(NamedTuple):
    """Image files as paths inside a folder."""

    folder: Path
    names: tuple[str, ...]


class Listing(NamedTuple):
    """What a folder of images holds; a flat folder has no classes and no class indices."""

    files: Files
    class_indices: tuple[int, ...]
    classes: tuple[str, ...]


def train_folder(root: Path) -> Path:
    """`root/train` where it exists, else `root` itself.

    Raises:
        UserError: when `root` is not a folder.
    """
    if not root.is_dir():
        raise UserError(f"data.root {str(root)!r} is not a folder; put images at {root / 'train' / '<class>' / '*'}")
    inner = root / "train"
    return inner if inner.is_dir() else root


def test_folder(root: Path) -> Path | None:
    """The first of `root/test` and `root/val` that holds class folders, looking at folder names only."""
    candidates = (root / name for name in TEST_NAMES)
    return next((folder for folder in candidates if folder.is_dir() and class_names(folder, root)), None)


def class_names(folder: Path, root: Path) -> tuple[str, ...]:
    """Sorted names of the class folders in `folder`; `root` itself may hold the test folder beside its classes."""
    apart = TEST_NAMES if folder == root else ()
    return tuple(name for name in _entries(folder) if name not in apart and (folder / name).is_dir())


def list_images(folder: Path, root: Path) -> Listing:
    """Find the images of every class, or of a flat folder.

    Args:
        folder: the train or the test folder.
        root: the data set's folder, which `folder` may be.

    Raises:
        UserError: when there are no images, a class is empty, or images lie beside class folders.
    """
    classes = class_names(folder, root)
    loose = [name for name in _entries(folder) if _is_image(folder / name)]
    if loose and classes:
        raise UserError(
            f"folder {str(folder)!r} holds images ({loose[0]!r}) beside class folders ({classes[0]!r}); "
            "move the images into classes, or the folders away"
        )
    if not loose and not classes:
        raise UserError(f"folder {str(folder)!r} holds no images; put them at {folder / '<class>' / '*'}")
    names, indices = loose, []
    for index, name in enumerate(classes):
        found = [str(path.relative_to(folder)) for path in _walk(folder / name, set())]
        if not found:
            raise UserError(
                f"class folder {str(folder / name)!r} holds no images ({' '.join(SUFFIXES)}); fill it or remove it"
            )
        names.extend(found)
        indices.extend([index] * len(found))
    return Listing(Files(folder, tuple(names)), tuple(indices), classes)


def _entries(folder: Path) -> list[str]:
    """Sorted names in a folder, without the hidden ones."""
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise UserError(f"folder {str(folder)!r} cannot be listed: {error.strerror}; make it readable") from None


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def _walk(folder: Path, seen: set[tuple[int, int]]) -> Iterator[Path]:
    """Images below `folder`; links are followed, but a folder is entered once, so loops end."""
    status = folder.stat()
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    for name in _entries(folder):
        path = folder / name
        if _is_image(path):
            yield path
        elif path.is_dir():
            yield from _walk(path, seen)
