"""Charts: values are where the axis says, and marks say what they are."""

from __future__ import annotations

import math
import re

import pytest

from synthcl.core import chart
from synthcl.core.chart import HEIGHT, WIDTH, Interval, Series


def places(drawn: str, tick: str) -> list[float]:
    """Where the labels with this text stand, across."""
    return [float(x) for x in re.findall(rf'<text x="([\d.-]+)" y="[\d.]+" text-anchor="middle">{tick}</text>', drawn)]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (0, 50_000, ["0", "10,000", "20,000", "30,000", "40,000", "50,000"]),
        (-3, 7, ["-2", "0", "2", "4", "6"]),
        (0, 1e-3, ["0.0000", "0.0002", "0.0004", "0.0006", "0.0008", "0.0010"]),
        (79.2, 80.9, ["79.5", "80.0", "80.5"]),
    ],
)
def test_ticks_are_round_and_few(low: float, high: float, ticks: list[str]) -> None:
    axis = chart._Axis.over([low, high], 0, 100)
    assert [axis.shown(tick) for tick in axis.ticks] == ticks
    assert axis.at(low) == 0
    assert axis.at(high) == pytest.approx(100)


@pytest.mark.parametrize("value", [0.0, 5.0, -2e-9, 1e12])
def test_a_single_value_has_room(value: float) -> None:
    axis = chart._Axis.over([value, value], 0, 100)
    assert axis.at(value) == pytest.approx(50)
    assert 1 <= len(axis.ticks) < 12


def test_points_are_where_the_axes_say_and_say_what_they_are() -> None:
    series = [Series("a <run>", [(0, 10), (4, 30)], tips=["first", "second & last"], legend="runs")]
    drawn = chart.lines("Curves", series, "images", "score", x_from=0)
    chosen, legend = drawn.split('<ul class="legend">')
    first, second = re.findall(r'<circle class="mark" cx="([\d.]+)" cy="([\d.]+)"', chosen)
    assert legend.count("runs") == 1
    assert (float(first[0]), float(second[0])) == (places(drawn, "0")[0], places(drawn, "4")[0])
    assert float(first[1]) > float(second[1])  # higher scores stand above
    assert "<title>second &amp; last</title>" in drawn
    assert "<title>a &lt;run&gt;</title>" in drawn
    assert 'role="img" aria-label="Curves"' in drawn
    assert all(0 <= float(x) <= WIDTH and 0 <= float(y) <= HEIGHT for x, y in (first, second))


@pytest.mark.parametrize(
    ("line", "path"), [("straight", "M. .L. .L. ."), ("steps", "M. .H.V.H.V."), ("stairs", "M. .V.H.V.H.")]
)
def test_a_line_goes_as_it_is_asked_to(line: str, path: str) -> None:
    drawn = chart.lines("t", [Series("s", [(0, 0), (1, 1), (2, 4)], line=line)], "x", "y")  # type: ignore[arg-type]
    assert re.sub(r"[\d.]+", ".", re.findall(r'class="path" d="([^"]*)"', drawn)[0]) == path


def test_an_interval_reaches_from_its_low_to_its_high_end() -> None:
    rows = [Interval("first", 1.0, -1.0, 3.0, "says", [(0.0, "seed 1")]), Interval("second: nothing", None)]
    drawn = chart.intervals("Differences", rows, "points", zero=True)
    begin, end = re.findall(r'class="path" d="M([\d.]+) \d+H([\d.]+)"', drawn)[0]
    assert (float(begin), float(end)) == (places(drawn, "-1")[0], places(drawn, "3")[0])
    zero = float(re.findall(r'<line class="zero" x1="([\d.]+)"', drawn)[0])
    assert zero == places(drawn, "0")[0] == float(re.findall(r'class="open" cx="([\d.]+)"', drawn)[0])
    assert "second: nothing" in drawn


def test_bars_are_as_long_as_their_shares() -> None:
    drawn = chart.bars("Shares", [("a", 0.5), ("b", 0.25), ("c", 0.0)], "share")
    long, half, none = (float(width) for width in re.findall(r'width="([\d.]+)"', drawn))
    assert half == pytest.approx(long / 2, abs=0.1)
    assert none == 1  # it can be seen that there is one


def test_nothing_to_draw_is_said() -> None:
    for draw in (
        lambda: chart.lines("t", [Series("s", [])], "x", "y"),
        lambda: chart.intervals("t", [Interval("r", None)], "x"),
        lambda: chart.bars("t", [], "x"),
    ):
        with pytest.raises(ValueError, match="nothing"):
            draw()


def test_numbers_in_a_drawing_are_finite() -> None:
    drawn = chart.lines("t", [Series("s", [(0, 1e-12), (1e9, 1e12)])], "x", "y")
    assert all(math.isfinite(float(number)) for number in re.findall(r'\b(?:x|y|cx|cy)\d?="([^"]*)"', drawn))
