"""How far something is: bars at the lower edge of a terminal, and a plain line about once a minute anywhere else."""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

    from synthcl.core.screen import Screen

EVERY_SECONDS = 60.0
"""between two lines of a log"""


class Progress:
    """The progress of one piece of work, on standard error.

    Args:
        what: such as 'search'; starts the line.
        total: how much there is to do.
        unit: of the total.
        percent: a log shows the share that is done instead of both numbers.
        done: how much was done before this process began.
        delay_seconds: nothing is shown of work that is done sooner.
        leave: whether the end of the work is shown, too.
        shown: false shows nothing.
        following: seconds of the work that comes after this one, 0 while they are unknown; the time left is of both.
        beneath: what a terminal shows under the bar, made anew at every refresh.

    Example:
        with Progress("images", len(files), "file") as progress:
            for file in files:
                progress.advance()
    """

    def __init__(
        self,
        what: str,
        total: float,
        unit: str,
        *,
        percent: bool = False,
        done: float = 0,
        delay_seconds: float = 0,
        leave: bool = True,
        shown: bool = True,
        following: Callable[[], float] = lambda: 0.0,
        beneath: Callable[[], RenderableType] | None = None,
    ) -> None:
        self.what, self.note = what, ""
        self._total, self._unit, self._percent, self._leave, self._shown = total, unit, percent, leave, shown
        self._done = self._before = done
        self._following = following
        self._began = time.monotonic()
        self._next = self._began + max(EVERY_SECONDS, delay_seconds)
        self._delay_seconds, self._beneath = delay_seconds, beneath
        self._screen = _screen() if shown else None
        self._bar: Any = None
        self._draw()

    @property
    def done(self) -> float:
        """How much of it is done."""
        return self._done

    @property
    def total(self) -> float:
        """How much there is to do."""
        return self._total

    @property
    def left_seconds(self) -> float | None:
        """Until this work and what follows it are done; None before anything is."""
        remaining = self._remaining_seconds()
        return None if remaining is None else remaining + self._following()

    def advance(self, more: float = 1) -> None:
        """Count work that has been done."""
        self._done += more
        self.look()

    def describe(self, what: str | None = None, note: str | None = None) -> None:
        """Change what starts the line, or what stands behind it, from the next time that it is shown."""
        self.what, self.note = self.what if what is None else what, self.note if note is None else note
        self._draw()

    def look(self) -> None:
        """Draw the bar anew, or write a line to the log if one is due; `advance` does so, too."""
        self._draw()
        if self._screen is None and self._shown and time.monotonic() >= self._next:
            self._next = time.monotonic() + EVERY_SECONDS
            self._write(", ".join(filter(None, [self._line(), self._whole_left()])))

    def close(self) -> None:
        """The end of the work; its last line is the same on a terminal and in a log."""
        if self._screen is not None and self._bar is not None:
            self._screen.remove(self._bar)
        was_seen = self._screen is None or self._bar is not None
        if self._shown and self._leave and was_seen:
            self._write(f"{self._line()}, took {duration(time.monotonic() - self._began)}")
        self._screen, self._bar, self._shown = None, None, False

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._leave = False  # it did not come to its end
        self.close()

    def _draw(self) -> None:
        if self._screen is None:
            return
        counted = f"{self._done:,.0f}/{self._total:,.0f} {self._unit}"
        said = ", ".join(filter(None, [counted, self.note, self._whole_left()]))
        if self._bar is None and time.monotonic() - self._began >= self._delay_seconds:
            self._bar = self._screen.add(self.what, self._done, self._total, said, self._beneath)
        elif self._bar is not None:
            self._screen.show(self._bar, self.what, self._done, said)

    def _line(self) -> str:
        share = self._done / self._total if self._total else 1.0
        counted = f"{share:.0%}" if self._percent else f"{self._done:,.0f}/{self._total:,.0f}"
        return f"{self.what} {counted}" + (f", {self.note}" if self.note else "")

    def _remaining_seconds(self) -> float | None:
        here = self._done - self._before
        spent = time.monotonic() - self._began
        return max(0.0, self._total - self._done) * spent / here if here > 0 else None

    def _whole_left(self) -> str:
        """The time of this work and of what follows it; empty while it is unknown."""
        remaining, following = self._remaining_seconds(), self._following()
        if remaining is None:
            return ""
        own = f" ({self.what} {duration(remaining)})" if following else ""
        return f"about {duration(remaining + following)} left{own}"

    def _write(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


_shared: Screen | None = None
"""of the terminal that was last written to"""


def _screen() -> Screen | None:
    """The bars of the terminal; none where standard error is no terminal."""
    global _shared
    terminal = getattr(sys.stderr, "rich_proxied_file", sys.stderr)  # what stands behind, while bars are shown
    if not terminal.isatty() or os.environ.get("TERM") == "dumb":
        return None
    if _shared is None or _shared.terminal is not terminal:
        from synthcl.core.screen import Screen

        _shared = Screen(terminal)
        atexit.register(_shared.stop)
    return _shared


def say(line: str) -> None:
    """Print a line at once; a terminal shows it above its bars."""
    print(line, flush=True)


def duration(seconds: float) -> str:
    """Seconds as people say them.

    Example:
        >>> duration(21.4), duration(90), duration(5400)
        ('21 s', '2 min', '1.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
