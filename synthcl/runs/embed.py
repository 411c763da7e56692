"""Features of image files by an exported encoder, in memory or chunk by chunk in a folder, so that nothing is lost."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, cast

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.utils.data import Dataset

from synthcl.core.atomic import write_whole
from synthcl.core.errors import UserError
from synthcl.core.progress import Progress
from synthcl.data.dataset_items import is_dataset, items, length
from synthcl.data.features import encode
from synthcl.data.folder import SUFFIXES, Files, list_unlabelled
from synthcl.data.images import ResidentImages, read_image
from synthcl.data.transform import Transform
from synthcl.runs.export import load_any

CHUNK_FILES = 256
"""decoded, encoded and kept at a time"""
_PLAN = "plan.txt"


class Chunk(NamedTuple):
    """Features of a few files that follow each other.

    Args:
        rows: (m,) int64, the positions of those that can be read.
        features: (m, feature_dim) float32 on the CPU.
        unreadable: a line for every other, which names it and says why.
        kept: whether an earlier process has made it.
    """

    rows: Tensor
    features: Tensor
    unreadable: list[str]
    kept: bool = False


Images = str | Path | Sequence[str | Path] | Dataset[Any]


def embed(encoder: str | Path | nn.Module, images: Images, *, trust_code: bool = False) -> tuple[list[str], Tensor]:
    """Features of images, resized and cropped as evaluation does.

    Args:
        encoder: an `encoder.safetensors`, a checkpoint or a folder with one of them; or what `load_encoder` returned.
        images: a folder, searched at any depth; a text file with a path a line; paths; or a
            `torch.utils.data.Dataset` whose items are images (PIL, or tensors (C, H, W): uint8, or floats in [0, 1]) or
            (image, label).
        trust_code: whether the code that an encoder of kind `custom` names may be imported and called.

    Returns:
        (paths, features): the files that can be read, as paths inside the folder, and (n, feature_dim) float32.
        What cannot be read is left out. Of a Dataset, the positions of all its items as text.

    Raises:
        UserError: when there is no encoder or no image, when no image can be read, or an item is no image.

    Example:
        paths, features = synthcl.embed("runs/fashion-mini/encoder.safetensors", "photos")
    """
    paths, features, _ = embed_found(loaded(encoder, trust_code=trust_code), find_images(images))
    return paths, features


def find_images(images: Images) -> Files | Dataset[Any]:
    """Files as `find_files` has them, or the Dataset as it is."""
    return images if is_dataset(images) else find_files(images)  # type: ignore[return-value, arg-type]


def embed_found(encoder: nn.Module, found: Files | Dataset[Any]) -> tuple[list[str], Tensor, list[str]]:
    """`embed` of images that have been found, and a line for every one that cannot be read."""
    return embed_files(encoder, found) if isinstance(found, Files) else _embed_dataset(encoder, found)


def _embed_dataset(encoder: nn.Module, dataset: Any) -> tuple[list[str], Tensor, list[str]]:
    transform, count = cast(Transform, encoder.transform), length(dataset)
    found = items(dataset, transform.image_size, transform.channels)
    chunks = []
    with Progress("images", count, "image", delay_seconds=5, leave=False) as progress:
        for begin in range(0, count, CHUNK_FILES):
            span = range(begin, min(begin + CHUNK_FILES, count))
            chunks.append(_encoded(encoder, transform, span, [next(found).pixels for _ in span]).features)
            progress.advance(len(span))
    return [str(index) for index in range(count)], torch.cat(chunks), []


def embed_files(encoder: nn.Module, files: Files) -> tuple[list[str], Tensor, list[str]]:
    """`embed` of files that have been found, and a line for every image that cannot be read."""
    chunks = list(embed_chunks(encoder, files))
    rows = torch.cat([chunk.rows for chunk in chunks]).tolist()
    unreadable = [line for chunk in chunks for line in chunk.unreadable]
    require_some(len(rows), files, unreadable)
    return [files.names[row] for row in rows], torch.cat([chunk.features for chunk in chunks]), unreadable


def find_files(images: str | Path | Sequence[str | Path]) -> Files:
    """The image files that somebody means, found and not opened.

    Args:
        images: a folder, searched at any depth; a text file with a path a line, relative to the file's own folder; or
            paths.

    Raises:
        UserError: when there is none.
    """
    if not isinstance(images, str | Path):
        if not images:
            raise UserError("images are an empty list; give a folder, or at least one path")
        return Files(Path(), tuple(map(str, images)))
    place = Path(images)
    if place.is_dir():
        return list_unlabelled(place)
    if not place.is_file():
        raise UserError(f"images {str(place)!r}: there is no such folder or file; give a folder, or a list of paths")
    if place.suffix.lower() in SUFFIXES:
        raise UserError(f"images {str(place)!r} is one image; give its folder, or a text file with a path a line")
    content = place.read_bytes()
    if b"\0" in content:
        raise UserError(f"images {str(place)!r} is not text; give a folder, or a text file with a path a line")
    lines = (line.removesuffix("\r") for line in os.fsdecode(content).split("\n"))
    names = tuple(line for line in lines if line.strip())
    if not names:
        raise UserError(f"images {str(place)!r} is an empty list; write a path a line into it")
    return Files(place.parent, names)


def loaded(encoder: str | Path | nn.Module, *, trust_code: bool = False) -> nn.Module:
    """An encoder with its transform; one from a file is moved to the GPU where there is one.

    Raises:
        UserError: when it cannot be loaded, or is a module without a transform.
    """
    if not isinstance(encoder, nn.Module):
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return load_any(Path(encoder), trust_code=trust_code)[0].to(device)
    if not isinstance(getattr(encoder, "transform", None), Transform):
        raise UserError(f"encoder is a {type(encoder).__name__} without a transform; give what load_encoder returns")
    return encoder


def embed_chunks(encoder: nn.Module, files: Files, folder: Path | None = None) -> Iterator[Chunk]:
    """Decode by threads and encode, a chunk after the other.

    Args:
        encoder: with its transform.
        files: at least one.
        folder: where to keep what is done and look for what is; what another encoder left or of other files is
            deleted.

    Raises:
        Diverged: when a feature is not finite.
    """
    transform = cast(Transform, encoder.transform)
    count = len(files.names)
    spans = [range(begin, min(begin + CHUNK_FILES, count)) for begin in range(0, count, CHUNK_FILES)]
    kept = {} if folder is None else _kept(folder, _plan(encoder, files))
    images = _decoded(files, [span for number, span in enumerate(spans) if number not in kept], transform)
    done = sum(len(spans[number]) for number in kept)
    with Progress("images", count, "image", done=done, delay_seconds=5, leave=False) as progress:
        for number, span in enumerate(spans):
            if number in kept:
                yield _read(kept[number])
                continue
            chunk = _encoded(encoder, transform, span, next(images))
            if folder is not None:
                _write(folder / f"{number:08}.safetensors", chunk)
            progress.advance(len(span))
            yield chunk


def kept_chunks(folder: Path) -> Iterator[Chunk]:
    """What `embed_chunks` has kept in a folder, in order."""
    return map(_read, sorted(folder.glob("[0-9]*.safetensors")))


def require_some(readable: int, files: Files, unreadable: list[str]) -> None:
    """
    Raises:
        UserError: when no file can be read.
    """
    if not readable:
        raise UserError(f"none of {len(files.names):,} images can be read; the first: {unreadable[0]}")


def _decoded(files: Files, spans: list[range], transform: Transform) -> Iterator[list[Tensor | UserError]]:
    """The pixels of every span's files, or what is wrong with them; the next span is decoded meanwhile."""

    def decode(row: int) -> Tensor | UserError:
        try:
            return read_image(files.folder / files.names[row], transform.image_size, transform.channels)
        except UserError as error:
            return error

    waiting: deque[list[Future[Tensor | UserError]]] = deque()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        try:
            for span in spans:
                waiting.append([pool.submit(decode, row) for row in span])
                if len(waiting) > 1:
                    yield [image.result() for image in waiting.popleft()]
            while waiting:
                yield [image.result() for image in waiting.popleft()]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _encoded(encoder: nn.Module, transform: Transform, span: range, images: Sequence[Tensor | UserError]) -> Chunk:
    pixels = {row: image for row, image in zip(span, images, strict=True) if isinstance(image, Tensor)}
    unreadable = [str(image) for image in images if isinstance(image, UserError)]
    rows = torch.tensor(list(pixels), dtype=torch.int64)
    if not pixels:
        return Chunk(rows, torch.empty(0, cast(int, encoder.feature_dim)), unreadable)
    first = next(encoder.parameters(), None)
    source = ResidentImages(torch.stack(list(pixels.values())), "cpu" if first is None else first.device)
    return Chunk(rows, encode(encoder, source, None, CHUNK_FILES, transform.size).cpu(), unreadable)


def _plan(encoder: nn.Module, files: Files) -> str:
    """Hex SHA-256 of everything that features depend on: weights, transform, and every file's name, length and time."""
    digest = hashlib.sha256(f"{encoder} {encoder.transform} {CHUNK_FILES} {files.folder.absolute()}".encode())
    for name, value in encoder.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    for name in files.names:
        try:
            status = os.stat(files.folder / name)
            said = f"\n{name}\0{status.st_size} {status.st_mtime_ns}"
        except OSError:
            said = f"\n{name}\0"
        digest.update(said.encode(errors="surrogateescape"))
    return digest.hexdigest()


def _kept(folder: Path, plan: str) -> dict[int, Path]:
    """The chunks that an earlier process has finished; of another plan, they are deleted."""
    written = folder / _PLAN
    if not written.is_file() or written.read_text() != plan:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        write_whole(written, plan)
    return {int(file.stem): file for file in folder.glob("[0-9]*.safetensors")}


def _write(file: Path, chunk: Chunk) -> None:
    tensors = {"rows": chunk.rows, "features": chunk.features}
    write_whole(file, safetensors.torch.save(tensors, {"unreadable": json.dumps(chunk.unreadable)}))


def _read(file: Path) -> Chunk:
    with safe_open(file, "pt") as stored:
        unreadable = json.loads(stored.metadata()["unreadable"])
        return Chunk(stored.get_tensor("rows"), stored.get_tensor("features"), unreadable, kept=True)
