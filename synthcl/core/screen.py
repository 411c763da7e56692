"""The lower edge of a terminal: bars, and what they show beneath, while lines are printed above them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import TextIO

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.table import Column

PER_SECOND = 2
"""how often it is drawn anew: the cores are there for training"""


class _Bars(Progress):
    """Rich's bars, and under each what belongs to it."""

    beneath: dict[TaskID, Callable[[], RenderableType]]

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        for make in list(getattr(self, "beneath", {}).values()):
            yield make()


class Screen:
    """Bars by number; it takes no space while there are none.

    Args:
        terminal: that is drawn on.
    """

    def __init__(self, terminal: TextIO) -> None:
        self.terminal = terminal
        self._bars = _Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TextColumn("{task.fields[said]}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
            console=Console(file=terminal),
            refresh_per_second=PER_SECOND,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
            expand=True,
        )
        self._bars.beneath = {}

    def add(
        self, what: str, done: float, total: float, said: str, beneath: Callable[[], RenderableType] | None = None
    ) -> TaskID:
        """A new bar, and what is drawn under it."""
        bar = self._bars.add_task(what, total=total, completed=done, said=said)  # type: ignore[arg-type]
        if beneath is not None:
            self._bars.beneath[bar] = beneath
        if not self._bars.live.is_started:
            self._bars.start()
            self._bars.console.show_cursor(True)  # which whoever is killed cannot bring back
        return bar

    def show(self, bar: TaskID, what: str, done: float, said: str) -> None:
        """Change what a bar shows."""
        self._bars.update(bar, description=what, completed=done, said=said)

    def remove(self, bar: TaskID) -> None:
        """Take a bar away, and with the last one the space."""
        self._bars.beneath.pop(bar, None)
        self._bars.remove_task(bar)
        if not self._bars.tasks:
            self.stop()

    def stop(self) -> None:
        """Give the terminal back."""
        self._bars.stop()
