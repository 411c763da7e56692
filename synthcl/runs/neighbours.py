"""Nearest neighbours among a user's images: which they are, and one page that shows them."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from synthcl.core.errors import UserError
from synthcl.data.folder import Files
from synthcl.data.images import read_image
from synthcl.runs.embed import embed_files, find_files, loaded

THUMBNAIL_PIXELS = 112


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
    images: str | Path | Sequence[str | Path],
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
    return neighbours_of(loaded(encoder, trust_code=trust_code), find_files(images), queries, k)[0]


def neighbours_of(
    encoder: nn.Module, files: Files, queries: int | Sequence[str], k: int
) -> tuple[Neighbours, list[str]]:
    """`neighbours` of files that have been found, and a line for every image that cannot be read."""
    from synthcl.evaluation.neighbours import nearest  # with the probes, SciPy comes too

    require_counts(files, queries, k)
    paths, features, unreadable = embed_files(encoder, files)
    if len(paths) < 2:
        raise UserError(f"{len(paths)} image of {len(files.names):,} can be read; neighbours need at least 2")
    rows = _rows(paths, queries)
    return Neighbours(paths, rows, *nearest(features, rows, k)), unreadable


def require_counts(files: Files, queries: int | Sequence[str], k: int) -> None:
    """Refuse what can be seen to be wrong before an image is read.

    Raises:
        UserError: naming the count, or the query that is none of the files.
    """
    if k < 1:
        raise UserError(f"{k} neighbours cannot be found; ask for at least 1")
    if isinstance(queries, int):
        if queries < 1:
            raise UserError(f"{queries} queries show nothing; ask for at least 1")
        return
    known = set(files.names)
    for query in queries:
        if query not in known:
            named = f"name one as in the folder or list, such as {files.names[0]!r}"
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
    rows = []
    for query, indices, similarities in zip(found.queries, found.indices, found.similarities, strict=True):
        cells = [_figure(folder, found.paths[query], "query")]
        cells += [
            _figure(folder, found.paths[index], f"{similarity:.3f}")
            for index, similarity in zip(indices, similarities.tolist(), strict=True)
        ]
        rows.append(f"<section>\n{''.join(cells)}</section>\n")
    shown = f"{len(found.queries):,} of {len(found.paths):,} images, each beside its {found.indices.shape[1]} nearest"
    title = html.escape(_text(title))
    return _PAGE.format(title=title, shown=shown, rows="".join(rows), pixels=THUMBNAIL_PIXELS)


def _figure(folder: Path, path: str, said: str) -> str:
    name = html.escape(_text(path))
    pixels = read_image(folder / path, THUMBNAIL_PIXELS, 3).permute(1, 2, 0).numpy()
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=85)
    source = f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
    kind = ' class="query"' if said == "query" else ""
    image = f'<img src="{source}" alt="{name}" width="{THUMBNAIL_PIXELS}" height="{THUMBNAIL_PIXELS}">'
    return f'<figure{kind} title="{name}">{image}<figcaption><b>{said}</b> {name}</figcaption></figure>\n'


def _text(name: str) -> str:
    """A name as valid text; bytes that are none are replaced."""
    return os.fsencode(name).decode(errors="replace")


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark;
  --ink: #1c1c1e; --paper: #ffffff; --quiet: #6b6b70; --line: #d8d8dc; --query: #2563eb; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #ececf0; --paper: #17171a; --quiet: #9a9aa2; --line: #3a3a40; --query: #7aa2ff; }}
}}
body {{ margin: 0 auto; padding: 1rem; max-width: 75rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.4 system-ui, sans-serif; }}
h1 {{ font-size: 1.25rem; margin: 0; overflow-wrap: anywhere; }}
p {{ color: var(--quiet); margin: .25rem 0 1rem; }}
section {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(5.5rem, 1fr)); gap: .5rem;
  padding: .75rem 0; border-top: 1px solid var(--line); }}
figure {{ margin: 0; min-width: 0; }}
img {{ display: block; width: 100%; height: auto; max-width: {pixels}px; border-radius: .25rem; }}
.query img {{ outline: 3px solid var(--query); outline-offset: -3px; }}
figcaption {{ font-size: .75rem; color: var(--quiet); overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }}
figcaption b {{ color: var(--ink); font-weight: 600; }}
.query b {{ color: var(--query); }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{shown}, by the cosine of their features; the number is the similarity.</p>
{rows}</body>
</html>
"""
