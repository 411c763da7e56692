"""One HTML page that needs no other file and asks nobody for anything: its frame, its tables and its pictures."""

from __future__ import annotations

import base64
import hashlib
import html
import os
import re
from collections.abc import Sequence
from functools import cache
from importlib import resources

RELOAD_SECONDS = 20
"""between two looks of a live page at its file"""


def document(title: str, body: str, *, live: bool = False, hover: bool = False) -> str:
    """A whole page, light or dark as the reader's system is.

    The browser is told to load nothing and to run nothing but what this function puts in: a name that became markup
    would still do nothing.

    Args:
        title: plain text.
        body: HTML.
        live: whether the page loads itself again every `RELOAD_SECONDS`, for the file is written again.
        hover: whether charts say what is under the pointer.

    Example:
        >>> "<h1>a &amp; b</h1>" in document("a & b", "<h1>a &amp; b</h1>")
        True
    """
    style, scripts = _asset("page.css"), []
    if hover:
        scripts.append(_asset("hover.js"))
    if live:
        scripts.append(_asset("reload.js").replace("RELOAD_SECONDS", str(RELOAD_SECONDS)))
    allowed = ["default-src 'none'", "img-src data:", f"style-src {_hash(style)}", "base-uri 'none'"]
    allowed += ["form-action 'none'", *([f"script-src {' '.join(map(_hash, scripts))}"] if scripts else [])]
    without = f'<noscript><meta http-equiv="refresh" content="{RELOAD_SECONDS}"></noscript>\n' if live else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{"; ".join(allowed)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{style}</style>\n{without}</head>\n<body>\n{body}\n"
        + "".join(f"<script>{script}</script>\n" for script in scripts)
        + "</body>\n</html>\n"
    )


def text(value: object) -> str:
    """Anything as text that cannot become markup, in an attribute neither; bytes that are no text are replaced."""
    return html.escape(os.fsencode(str(value)).decode(errors="replace"))


def prose(value: str) -> str:
    """Text in which `this` is code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", text(value))


def table(cells: Sequence[Sequence[str]], name: str, words: Sequence[int] = ()) -> str:
    """A table that scrolls by itself where it is wider than the page.

    Args:
        cells: heading first; the first column names the rows.
        name: of the table, for those who hear it.
        words: columns that hold words, not numbers; the first does in any case.
    """
    kinds = ["" if column in (0, *words) else ' class="number"' for column in range(len(cells[0]))]
    heading, *rows = cells
    pairs = ' class="pairs"' if len(heading) == 2 else ""
    head = "".join(f'<th scope="col"{kind}>{text(cell)}</th>' for cell, kind in zip(heading, kinds, strict=True))
    lines = [
        f'<tr><th scope="row">{text(first)}</th>'
        + "".join(f"<td{kind}>{text(cell)}</td>" for cell, kind in zip(rest, kinds[1:], strict=True))
        + "</tr>"
        for first, *rest in rows
    ]
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{text(name)}"><table{pairs}>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(lines) + "\n</tbody></table></div>"
    )


def picture(content: bytes, kind: str, says: str, *, width: int, height: int, pixelated: bool = False) -> str:
    """An image inside the page.

    Args:
        content: of the file.
        kind: jpeg or png.
        says: what it shows, in words.
        width, height: in pixels of the page, at most.
        pixelated: whether pixels stay squares where it is shown larger than it is.
    """
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    sharp = ' class="pixelated"' if pixelated else ""
    return f'<img src="{source}" alt="{text(says)}" width="{width}" height="{height}"{sharp}>'


@cache
def _asset(name: str) -> str:
    return (resources.files("synthcl.core") / "assets" / name).read_text(encoding="utf-8")


def _hash(inside: str) -> str:
    """What a policy calls a style or a script by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()}'"
