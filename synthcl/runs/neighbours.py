"""Nearest neighbours among a user's images: which they are, and one page that shows them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from synthcl.core.errors import UserError
from synthcl.core.page import document, picture, text
from synthcl.data.dataset_items import length
from synthcl.data.folder import Files
from synthcl.data.images import read_image
from synthcl.runs.embed import Images, embed_found, find_images, loaded

THUMBNAIL_PIXELS = 112
SMALL_PIXELS = 64
"""below it, an image is shown pixel by pixel"""
QUERY = "query"


class Neighbours(NamedTuple):
    """The nearest images of a few.

    Args:
        paths: of all n images.
        queries: (q,) int64, positions in paths.
        indices: (q, k) int64, the nearest of each query in paths, nearest first.
        similarities: (q, k) float32, their cosines.
    """

    paths: list[str]
    queries: Tensor
    indices: Tensor
    similarities: Tensor


def neighbours(
    encoder: str | Path | nn.Module,
    images: Images,
    queries: int | Sequence[str] = 12,
    k: int = 8,
    *,
    trust_code: bool = False,
) -> Neighbours:
    """The images that an encoder finds most alike, by the cosine of their features.

    Args:
        encoder: as of `synthcl.embed`.
        images: as of `synthcl.embed`.
        queries: how many images to find neighbours of, spread evenly over all of them; or their paths.
        k: neighbours of each, at least 1; of n images there are n - 1 at most.
        trust_code: as of `synthcl.embed`.

    Raises:
        UserError: as `synthcl.embed`; when a query is none of the images, or fewer than two images can be read.

    Example:
        found = synthcl.neighbours("runs/fashion-mini/encoder.safetensors", "photos", ["cat/1.jpg"])
        nearest = found.paths[found.indices[0, 0]]
    """
    return neighbours_of(loaded(encoder, trust_code=trust_code), find_images(images), queries, k)[0]


def neighbours_of(
    encoder: nn.Module, images: Files | Dataset[Any], queries: int | Sequence[str], k: int
) -> tuple[Neighbours, list[str]]:
    """`neighbours` of images that have been found, and a line for every one that cannot be read."""
    from synthcl.evaluation.neighbours import nearest  # with the probes, SciPy comes too

    names = images.names if isinstance(images, Files) else tuple(map(str, range(length(images))))
    require_counts(names, queries, k)
    paths, features, unreadable = embed_found(encoder, images)
    if len(paths) < 2:
        raise UserError(f"{len(paths)} image of {len(names):,} can be read; neighbours need at least 2")
    rows = _rows(paths, queries)
    return Neighbours(paths, rows, *nearest(features, rows, k)), unreadable


def require_counts(names: Sequence[str], queries: int | Sequence[str], k: int) -> None:
    """Refuse what can be seen to be wrong before an image is read.

    Raises:
        UserError: naming the count, or the query that is none of the names.
    """
    if k < 1:
        raise UserError(f"{k} neighbours cannot be found; ask for at least 1")
    if isinstance(queries, int):
        if queries < 1:
            raise UserError(f"{queries} queries show nothing; ask for at least 1")
        return
    known = set(names)
    for query in queries:
        if query not in known:
            named = f"name one as in the folder or list, such as {names[0]!r}"
            raise UserError(f"query {query!r} is none of the images; {named}")


def _rows(paths: list[str], queries: int | Sequence[str]) -> Tensor:
    if isinstance(queries, int):
        return torch.from_numpy(np.linspace(0, len(paths) - 1, min(queries, len(paths))).round().astype(np.int64))
    positions = {path: row for row, path in enumerate(paths)}
    for query in queries:
        if query not in positions:
            raise UserError(f"query {query!r} cannot be read; name an image that can")
    return torch.tensor([positions[query] for query in queries], dtype=torch.int64)


def page(found: Neighbours, folder: Path, title: str) -> str:
    """One HTML page that needs no other file: every query beside its neighbours, with names and similarities.

    Args:
        found: what to show.
        folder: that the paths are inside.
        title: for people.
    """

    def seen(row: int, said: str) -> Seen:
        name = found.paths[row]
        return Seen(read_image(folder / name, THUMBNAIL_PIXELS, 3), name, said)

    rows = (
        [seen(query, QUERY), *(seen(row, f"{cosine:.3f}") for row, cosine in zip(nearest, cosines, strict=True))]
        for query, nearest, cosines in zip(
            found.queries.tolist(), found.indices.tolist(), found.similarities.tolist(), strict=True
        )
    )
    shown = f"{len(found.queries):,} of {len(found.paths):,} images, each beside its {found.indices.shape[1]} nearest"
    said = f'<p class="quiet">{shown}, by the cosine of their features; the number is the similarity.</p>'
    return document(title, f"<h1>{text(title)}</h1>\n{said}\n{gallery(rows)}")


class Seen(NamedTuple):
    """An image of a gallery.

    Args:
        pixels: (C, S, S) uint8.
        name: of the image; empty where it has none.
        said: `QUERY`, or a number.
    """

    pixels: Tensor
    name: str
    said: str


def gallery(rows: Iterable[Sequence[Seen]]) -> str:
    """HTML with every query and its neighbours side by side, as many in a line as fit."""
    return "\n".join(f'<section class="neighbours">\n{"".join(map(_figure, row))}</section>' for row in rows)


def _figure(seen: Seen) -> str:
    name, size = text(seen.name), THUMBNAIL_PIXELS
    small = seen.pixels.shape[-1] < SMALL_PIXELS
    kind = "png" if small else "jpeg"
    stream = io.BytesIO()
    pixels = seen.pixels.expand(3, -1, -1).permute(1, 2, 0).contiguous()
    Image.fromarray(pixels.numpy()).save(stream, kind.upper(), quality=85)
    says = QUERY if seen.said == QUERY else f"similarity {seen.said}"
    says += f": {seen.name}" if seen.name else ""
    shown = picture(stream.getvalue(), kind, says, width=size, height=size, pixelated=small)
    mark = ' class="query"' if seen.said == QUERY else ""
    said = f"<b>{text(seen.said)}</b> {name}"
    whole = f' title="{name}"' if name else ""  # where the line below cuts it short
    return f"<figure{mark}{whole}>{shown}<figcaption>{said}</figcaption></figure>\n"
