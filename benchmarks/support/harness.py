"""What the benchmarks share: timings that take turns, a table for people, and ratios as the last line for programs."""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Timing:
    """Wall seconds of one piece of work, one entry a round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def fastest(self) -> float:
        return min(self.seconds)

    @property
    def slowest(self) -> float:
        return max(self.seconds)

    def per(self, count: int) -> "Timing":
        """Of one of the `count` things that a call did."""
        return Timing(tuple(seconds / count for seconds in self.seconds))


def interleave(
    work: Mapping[str, Callable[[], object]],
    repeats: int,
    warm_ups: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time pieces of work in turns, so that what else the machine does weighs on all of them alike.

    Args:
        work: named calls; what they queue on a GPU is waited for.
        repeats: timed rounds; every round calls each piece once.
        warm_ups: untimed rounds before.
        clock: of wall seconds, or of this process's own where others have the machine most of the time.
    """
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(-warm_ups, repeats):
        for name, call in work.items():
            wait_for_gpu()
            began = clock()
            call()
            wait_for_gpu()
            if turn >= 0:
                seconds[name].append(clock() - began)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def ratio(slower: Timing, faster: Timing) -> float:
    """Median over rounds of one piece's seconds over another's: both met the same load in a round."""
    return statistics.median(one / other for one, other in zip(slower.seconds, faster.seconds, strict=True))


def middle_half(slower: Timing, faster: Timing) -> str:
    """From the first to the third quartile of what `ratio` is the median of."""
    rounds = sorted(one / other for one, other in zip(slower.seconds, faster.seconds, strict=True))
    return f"{rounds[len(rounds) // 4]:.2f} to {rounds[-1 - len(rounds) // 4]:.2f}"


def wait_for_gpu() -> None:
    """Return when everything queued on the GPU, if there is one in use, is done."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with what every benchmark takes: `--quick`, a figure within a minute."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repeats: a figure within a minute")
    return parser


def comma_separated(kind: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    """An argument's type: `32,96` as a list; an empty one is empty."""
    return lambda text: [kind(item) for item in text.split(",") if item]


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a Markdown table with aligned columns; floats get three significant digits.

    Args:
        header: names of the columns, with their units; the first column is left-aligned.
        rows: one sequence a row, as long as the header.
    """
    cells = [list(header), *([_shown(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    rule = [f"{'':-<{width}}" if column == 0 else f"{'':-<{width - 1}}:" for column, width in enumerate(widths)]
    for row in [cells[0], rule, *cells[1:]]:
        aligned = [f"{cell:{'<' if column == 0 else '>'}{widths[column]}}" for column, cell in enumerate(row)]
        print(f"| {' | '.join(aligned)} |")


def _shown(value: object) -> str:
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def finish(ratios: Mapping[str, float]) -> None:
    """Print the ratios as one JSON object: the last line of every benchmark."""
    print(json.dumps({name: round(value, 4) for name, value in ratios.items()}), flush=True)
