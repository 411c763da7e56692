"""Files of features: Parquet, NumPy or PyTorch; whole or not there."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from torch import nn

from synthcl.core.atomic import disk_failures_named, whole_file
from synthcl.core.errors import UserError
from synthcl.data.folder import Files
from synthcl.runs.embed import Chunk, embed_chunks, kept_chunks, require_some

KINDS = (".parquet", ".npz", ".pt")
_CHUNKS_A_GROUP = 64


class Written(NamedTuple):
    """What a file of features holds.

    Args:
        images: rows in it.
        feature_dim: of each.
        unreadable: a line for every image that is not in it.
        rate: images that this process has decoded and encoded a second; none when it had nothing left to do.
    """

    images: int
    feature_dim: int
    unreadable: list[str]
    rate: float | None


def require_writable(option: str, file: Path, kinds: tuple[str, ...]) -> None:
    """Refuse a place before anything is computed for it.

    Args:
        option: that names it, for the error.
        file: to write.
        kinds: the endings that it may have.

    Raises:
        UserError: on an unknown ending, or when there is no such folder or it cannot be written.
    """
    if file.suffix not in kinds:
        raise UserError(f"{option} {str(file)!r}: ends in {file.suffix!r}; choose {', '.join(kinds)}")
    if file.is_dir():
        raise UserError(f"{option} {str(file)!r} is a folder; name a file in it")
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise UserError(
            f"{option} {str(file)!r}: {str(file.parent)!r} is no folder that you may write; name one that is"
        )


def write_features(file: Path, encoder: nn.Module, files: Files) -> Written:
    """Embed image files into a file of paths and features.

    What is done is kept in a hidden folder beside it until the file is whole, so the same call resumes.

    Args:
        file: ends in one of KINDS. Parquet: columns `path` and `features`, a list of fixed size. NumPy: arrays `path`
            and `features`. PyTorch: a dictionary of `paths` and `features`.
        encoder: with its transform.
        files: to embed, at least one.

    Raises:
        UserError: when no image can be read, or the disk does not take the file.
    """
    require_writable("--out", file, KINDS)
    parts = file.with_name(f".{file.name}.parts")
    write = {".parquet": _parquet, ".npz": _npz, ".pt": _pt}[file.suffix]
    began, images, done = time.monotonic(), 0, 0
    unreadable: list[str] = []
    with disk_failures_named("--out", file, "make room, and the same command resumes"):
        for chunk in embed_chunks(encoder, files, parts):
            images += len(chunk.rows)
            unreadable += chunk.unreadable
            done += 0 if chunk.kept else len(chunk.rows) + len(chunk.unreadable)
        seconds = time.monotonic() - began
        if not images:
            shutil.rmtree(parts, ignore_errors=True)
        require_some(images, files, unreadable)
        with whole_file(file) as stream:
            write(stream, files, kept_chunks(parts))
    shutil.rmtree(parts, ignore_errors=True)
    return Written(images, chunk.features.shape[1], unreadable, done / seconds if done else None)


def _names(files: Files, chunks: list[Chunk]) -> list[str]:
    """Paths as valid text; bytes that are none are replaced."""
    named = (files.names[row] for chunk in chunks for row in chunk.rows.tolist())
    return [os.fsencode(name).decode(errors="replace") for name in named]


def _parquet(stream: BinaryIO, files: Files, chunks: Iterator[Chunk]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    writer = None
    while group := list(islice(chunks, _CHUNKS_A_GROUP)):  # a group of rows is in memory at a time
        features = torch.cat([chunk.features for chunk in group]).numpy()
        column = pa.FixedSizeListArray.from_arrays(pa.array(features.reshape(-1)), features.shape[1])
        table = pa.table({"path": pa.array(_names(files, group), pa.string()), "features": column})
        writer = writer or parquet.ParquetWriter(stream, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def _npz(stream: BinaryIO, files: Files, chunks: Iterator[Chunk]) -> None:
    every = list(chunks)
    features = torch.cat([chunk.features for chunk in every]).numpy()
    np.savez(stream, path=np.array(_names(files, every)), features=features)


def _pt(stream: BinaryIO, files: Files, chunks: Iterator[Chunk]) -> None:
    every = list(chunks)
    features = torch.cat([chunk.features for chunk in every])
    torch.save({"paths": _names(files, every), "features": features}, stream)
