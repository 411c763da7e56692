"""Which real image a name stands for, and in which split that image is.

Of images in files, a name is a path, its end, or its end without the ending: `train/cat/001.png`, `cat/001`, `001`.
Of a data set that is one array, it is the published part and the row in it: `train-17`, `test-0017`, `extra-3`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from synthcl.config.sections import DataConfig
from synthcl.core.errors import UserError
from synthcl.data.folder import Files, is_image
from synthcl.data.part import Part
from synthcl.data.pool import is_list
from synthcl.data.sources import SOURCES
from synthcl.data.splits import cut, source_of, unlabelled_parts

_ROW = re.compile(r"(train|test|extra)-0*(\d+)")
UNLABELLED, OUTSIDE, VALIDATION, TEST = "unlabelled", "outside", "validation", "test"


@dataclass(frozen=True)
class Origin:
    """A real image: its split, and its position among the unlabelled images where it is one of them."""

    split: str
    position: int = -1


def find_origins(
    config: DataConfig, names: Collection[str], apart: Collection[str], field: str
) -> tuple[dict[str, Origin], int]:
    """The real image that each name stands for, but for names that stand for none; and the unlabelled images.

    Args:
        config: the data set and its cut.
        names: as in this module's header.
        apart: absolute paths of files that must be no real images.
        field: of the configuration that has the names, for messages.

    Returns:
        Origins by name, and how many unlabelled images there are.

    Raises:
        UserError: when a name stands for several images, or a file is a real image itself.
    """
    asked: dict[str, list[str]] = {}
    for name in names:
        asked.setdefault(_as_written(name), []).append(name)
    others = {*apart}
    matches: dict[str, str] = {}
    origins: dict[str, Origin] = {}
    for split, prefix, first, part in _splits(config):
        for position, (identity, keys) in enumerate(_identities(part, prefix, config), first):
            if identity in origins:
                continue
            if identity in others:
                raise UserError(
                    f"{field}: {identity!r} is one of the real images of data.root {config.root!r}; put synthetic "
                    "images into a folder of their own"
                )
            origins[identity] = Origin(split, position if split == UNLABELLED else -1)
            for key in keys & asked.keys():
                if matches.setdefault(key, identity) != identity:
                    raise UserError(
                        f"{field}: {asked[key][0]!r} stands for {matches[key]!r} and for {identity!r}; write more of "
                        "the path, and the ending where it takes that"
                    )
    unlabelled = sum(origin.split == UNLABELLED for origin in origins.values())
    return {name: origins[identity] for key, identity in matches.items() for name in asked[key]}, unlabelled


def unlabelled_names(config: DataConfig) -> list[str]:
    """What `find_origins` finds each unlabelled image by, in their order: of files the path inside `data.root`.

    Args:
        config: the data set and its cut.
    """
    names = []
    for split, prefix, _, part in _splits(config):
        if split == UNLABELLED:
            names += [_inside(identity, config) for identity, _ in _identities(part, prefix, config)]
    return names


def _inside(identity: str, config: DataConfig) -> str:
    """A path as it is below the root of the data set, which may be moved; other names, and paths elsewhere, stay."""
    base = _base(config)
    return os.path.relpath(identity, base) if identity.startswith(base + os.sep) else identity


def held_out(config: DataConfig) -> list[Part]:
    """The labelled images that encoders are scored on, validation then test; none of a set without labels."""
    source = source_of(config)
    published = source.train(config)
    return [] if published.labels is None else [cut(published, config)[1], source.test(config)]


def _splits(config: DataConfig) -> Iterator[tuple[str, str, int, Part]]:
    """Split, published part, position of the first image, and images; of an image in several, the first holds."""
    source = source_of(config)
    published, extra = _numbered(source.train(config)), source.extra(config)
    extra = _numbered(extra) if extra else None
    parts = unlabelled_parts(published, extra, config)
    named = (
        _published(parts[0], config) if config.pretrain_on == "all" else zip(("train", "extra"), parts, strict=False)
    )
    first = 0
    for prefix, part in named:
        yield UNLABELLED, prefix, first, part
        first += len(part)
    if published.labels is not None:
        yield VALIDATION, "train", 0, cut(published, config)[1]
        yield TEST, "test", 0, _numbered(source.test(config))
    yield OUTSIDE, "train", 0, published
    if extra:
        yield OUTSIDE, "extra", 0, extra


def _published(everything: Part, config: DataConfig) -> Iterator[tuple[str, Part]]:
    """The images of all published parts together by the part that each is from; files have names, whatever it is."""
    source = SOURCES[config.source]
    if isinstance(everything.pixels, Files) or not source.labelled(config):
        yield "train", everything
        return
    begin = 0
    for prefix, part in (
        ("train", source.train(config)),
        ("test", source.test(config)),
        ("extra", source.extra(config)),
    ):
        if part is not None:
            rows = everything.pixels[(everything.pixels >= begin) & (everything.pixels < begin + len(part))] - begin
            yield prefix, replace(everything, pixels=rows[:, None])
            begin += len(part)


def _numbered(part: Part) -> Part:
    """The part with the number of each row in place of its pixels, where it is an array; files have names."""
    return part if isinstance(part.pixels, Files) else replace(part, pixels=np.arange(len(part))[:, None])


def _identities(part: Part, prefix: str, config: DataConfig) -> Iterator[tuple[str, set[str]]]:
    """What each image is called: a name that is its alone, and all that it goes by."""
    if not isinstance(part.pixels, Files):
        for row in part.pixels[:, 0].tolist():
            yield f"{prefix}-{row}", {f"{prefix}-{row}"}
        return
    base, folder = _base(config), os.path.abspath(part.pixels.folder)
    for name in part.pixels.names:
        path = os.path.normpath(os.path.join(folder, name))
        pieces = os.path.relpath(path, base).split(os.sep)
        ends = ["/".join(pieces[begin:]) for begin in range(len(pieces))]
        yield path, {path, *ends, *(os.path.splitext(end)[0] for end in ends)}


def _base(config: DataConfig) -> str:
    """Absolute path of the folder that names are relative to."""
    root = Path(config.root)
    return os.path.abspath(root.parent if is_list(root) else root)


def _as_written(name: str) -> str:
    """The key that a name of the user's is looked up by."""
    if row := _ROW.fullmatch(Path(name).stem if is_image(Path(name)) else name):
        return f"{row[1]}-{int(row[2])}"
    return os.path.normpath(name).replace(os.sep, "/")
