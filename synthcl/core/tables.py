"""Tables of text: for a terminal of any width, and in Markdown."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

LOG_COLUMNS = 110
"""what a table is laid out for where there is no terminal"""


def filled(
    keys: Sequence[str],
    columns: Iterable[str],
    rows: Iterable[tuple[Sequence[str], Mapping[str, Any]]],
    text: Callable[[Any], str] = str,
    missing: str = "-",
) -> list[list[str]]:
    """A table of values by column, heading first.

    Args:
        keys: headings of the columns that name a row.
        columns: headings of the others.
        rows: what stands under the keys, and values by column; one that is not there, or None, is `missing`.
        text: of a value.
    """
    shown = list(columns)
    found = [[*names, *(values.get(column) for column in shown)] for names, values in rows]
    return [
        [*keys, *shown],
        *([missing if v is None else v if isinstance(v, str) else text(v) for v in row] for row in found),
    ]


def aligned(table: list[list[str]], *, numbers: bool = True) -> str:
    """Columns of a terminal: names to the left, and all others to the right where they are `numbers`."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = [
            cell.rjust(width) if numbers and column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append((" " if numbers else "  ").join(cells).rstrip())
    return "\n".join(lines)


def fitted(table: list[list[str]], columns: int, keys: int = 1) -> str:
    """The table as `aligned` makes it, in as many tables below each other as the terminal's width asks for.

    Args:
        table: heading first.
        columns: of the terminal.
        keys: how many columns at the left name a row; every part has them.
    """
    parts, rest = [], list(range(keys, len(table[0])))
    while rest:
        count = len(rest)
        while count > 1 and _width(_columns_of(table, [*range(keys), *rest[:count]])) > columns:
            count -= 1
        parts.append(aligned(_columns_of(table, [*range(keys), *rest[:count]])))
        rest = rest[count:]
    return "\n\n".join(parts)


def _columns_of(table: list[list[str]], chosen: list[int]) -> list[list[str]]:
    return [[row[index] for index in chosen] for row in table]


def _width(table: list[list[str]]) -> int:
    return max(map(len, aligned(table).splitlines()))


def terminal_columns() -> int:
    """Width of the terminal; what a log is laid out for where there is none."""
    return shutil.get_terminal_size((LOG_COLUMNS, 24)).columns


def markdown(table: list[list[str]], align: str = "") -> str:
    """A Markdown table, its heading first; `align` is l or r a column, by default only the first is to the left."""
    heading, *rows = [[cell.replace("|", "\\|") for cell in row] for row in table]
    rule = ["---" if side == "l" else "---:" for side in align or "l" + "r" * (len(heading) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (heading, rule, *rows))
