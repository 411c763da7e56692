"""Tables of text: for a terminal of any width, and in Markdown."""

from __future__ import annotations

import io
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

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


def aligned(table: list[list[str]], *, numbers: bool = True, indent: int = 0) -> str:
    """Columns below their headings: names to the left, and all others to the right where they are `numbers`.

    On a terminal headings are bold, and words, which numbers are not, wrap within its width, less the `indent`.
    """
    columns = None if numbers or not sys.stdout.isatty() else max(1, terminal_columns() - indent)
    return textwrap.indent(_rendered(grid(table, numbers), columns), " " * indent)


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
        while count > 1 and _width(grid(_columns_of(table, [*range(keys), *rest[:count]]))) > columns:
            count -= 1
        parts.append(aligned(_columns_of(table, [*range(keys), *rest[:count]])))
        rest = rest[count:]
    return "\n\n".join(parts)


def _columns_of(table: list[list[str]], chosen: list[int]) -> list[list[str]]:
    return [[row[index] for index in chosen] for row in table]


def grid(table: list[list[str]], numbers: bool = True) -> Table:
    """The table as rich draws it, heading first; `numbers` as of `aligned`."""
    heading, *rows = table
    space = 1 if numbers else 2
    made = Table(box=None, padding=(0, space, 0, 0), pad_edge=False, header_style="bold")
    for place, name in enumerate(heading):
        right = numbers and place > 0
        made.add_column(Text(name), justify="right" if right else "left", no_wrap=numbers, overflow="fold")
    for row in rows:
        made.add_row(*map(Text, row))  # brackets are intervals, no markup
    return made


def _width(table: Table) -> int:
    return Measurement.get(_console(), _console().options, table).maximum


def _rendered(table: Table, columns: int | None) -> str:
    """As text, with the colours of a terminal where there is one; `columns`: none makes it as wide as it is."""
    console = _console(columns or _width(table))
    console.print(table)
    written = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    return "\n".join(line.rstrip() for line in written.splitlines())


def _console(columns: int = 10_000) -> Console:
    on_terminal = sys.stdout.isatty()
    return Console(
        file=io.StringIO(), width=columns, force_terminal=on_terminal, color_system="auto" if on_terminal else None
    )


def terminal_columns() -> int:
    """Width of the terminal; what a log is laid out for where there is none."""
    return shutil.get_terminal_size((LOG_COLUMNS, 24)).columns


def markdown(table: list[list[str]], align: str = "") -> str:
    """A Markdown table, its heading first; `align` is l or r a column, by default only the first is to the left."""
    heading, *rows = [[cell.replace("|", "\\|") for cell in row] for row in table]
    rule = ["---" if side == "l" else "---:" for side in align or "l" + "r" * (len(heading) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (heading, rule, *rows))
