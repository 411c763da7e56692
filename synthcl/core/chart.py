"""Charts as SVG inside a page: lines and points, scores with intervals, bars.

Colours are classes of the page, so that a chart is light or dark as the page is; every mark has a title, which is what
the page shows under the pointer. They are drawn narrow, as wide as a telephone, and grow to half of a wide page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from synthcl.core.page import text

Color = Literal["blue", "soft", "orange", "green", "purple", "grey", "ink"]
Mark = Literal["", "dot", "open", "diamond", "tick"]
Point = tuple[float, float]

WIDTH, HEIGHT = 400, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 10, 20, 36
_ROW = 46


@dataclass(frozen=True)
class Series:
    """A line, points, or both.

    Args:
        name: what is said of all of it.
        points: (x, y).
        color: of both.
        mark: of a point; empty for none.
        line: whether points are joined: straight, by `steps` of which the next begins at a point, or by `stairs` that
            end at one.
        wide, dashed: of the line.
        tips: what is said of each point.
        legend: what it is called below; series may share it; empty for no entry.
    """

    name: str
    points: Sequence[Point]
    color: Color = "blue"
    mark: Mark = "dot"
    line: Literal["", "straight", "steps", "stairs"] = "straight"
    wide: bool = False
    dashed: bool = False
    tips: Sequence[str] = ()
    legend: str = ""


@dataclass(frozen=True)
class Interval:
    """A row of a chart of values with intervals.

    Args:
        name: of the row.
        value: of its large mark; none of a row that has nothing to show but its words.
        low, high: ends of its interval, if it has one.
        says: of the large mark.
        dots: small marks beside it: a value, and what is said of it.
        color: of all of them.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    says: str = ""
    dots: Sequence[tuple[float, str]] = field(default_factory=tuple)
    color: Color = "blue"


def lines(
    title: str, series: Sequence[Series], x: str, y: str, *, x_from: float | None = None, y_from: float | None = None
) -> str:
    """A chart of series over a number.

    Args:
        title: above it.
        series: drawn in this order; the last lies above.
        x, y: names of the axes, with units.
        x_from, y_from: what the axes reach down to in any case.

    Raises:
        ValueError: when there is no point.
    """
    points = [point for one in series for point in one.points]
    if not points:
        raise ValueError("there is nothing to draw yet")
    across = _Axis.over([*(at for at, _ in points), *([] if x_from is None else [x_from])], _LEFT, WIDTH - _RIGHT)
    up = _Axis.over([*(at for _, at in points), *([] if y_from is None else [y_from])], HEIGHT - _BOTTOM, _TOP, 0.06)
    drawn = [
        *(_line("grid", _LEFT, up.at(tick), WIDTH - _RIGHT, up.at(tick)) for tick in up.ticks),
        *(_label(_LEFT - 6, up.at(tick) + 4, up.shown(tick), "end") for tick in up.ticks),
        *(_label(across.at(tick), HEIGHT - _BOTTOM + 16, across.shown(tick), "middle") for tick in across.ticks),
        _label(2, 11, y, "start"),
        _label(WIDTH - _RIGHT, HEIGHT - 4, x, "end"),
        *(_series(one, across, up) for one in series),
    ]
    entries: dict[str, Series] = {}
    for one in series:
        if one.legend:
            entries[one.legend] = one
    keys = "".join(f"<li>{_key(one)}{text(name)}</li>" for name, one in reversed(entries.items()))
    return _figure(title, drawn, HEIGHT, f'<ul class="legend">{keys}</ul>' if keys else "")


def intervals(title: str, rows: Sequence[Interval], x: str, *, zero: bool = False) -> str:
    """A chart of values with their intervals, a row each.

    Args:
        title: above it.
        rows: from above.
        x: name of the axis, with unit.
        zero: whether 0 is on it and marked.

    Raises:
        ValueError: when no row has a value.
    """
    ends = [end for row in rows for end in (row.value, row.low, row.high, *(dot for dot, _ in row.dots))]
    known = [end for end in ends if end is not None]
    if not known:
        raise ValueError("nothing has been measured yet")
    across = _Axis.over([*known, *([0.0] if zero else [])], 10, WIDTH - 16, 0.04)
    bottom = 8 + _ROW * len(rows)
    drawn = [_line("grid", across.at(tick), 4, across.at(tick), bottom) for tick in across.ticks]
    drawn += [_label(across.at(tick), bottom + 16, across.shown(tick), "middle") for tick in across.ticks]
    drawn.append(_label(WIDTH - _RIGHT, bottom + 34, x, "end"))
    if zero:
        drawn.append(_line("zero", across.at(0), 4, across.at(0), bottom))
    for place, row in enumerate(rows):
        top = 8 + _ROW * place
        y = top + 30
        marks = [_marked(across.at(dot), y, "open", says, 3) for dot, says in row.dots]
        if row.value is not None:
            if row.low is not None and row.high is not None:
                bar = f'<path class="path" d="M{across.at(row.low):.1f} {y}H{across.at(row.high):.1f}"/>'
                marks.insert(0, f"<g><title>{text(row.says)}</title>{bar}</g>")
            marks.append(_marked(across.at(row.value), y, "diamond", row.says))
        drawn.append(_label(0, top + 17, row.name, "start", "name"))
        drawn.append(f'<g class="{row.color} wide">{"".join(marks)}</g>')
    return _figure(title, drawn, bottom + 40)


def bars(title: str, rows: Sequence[tuple[str, float]], x: str) -> str:
    """A chart of shares, a bar each, from 0.

    Raises:
        ValueError: when there is no row.
    """
    if not rows:
        raise ValueError("there is nothing to draw yet")
    across = _Axis.over([0.0, *(value for _, value in rows)], 0, WIDTH - 50)
    drawn = []
    for place, (name, value) in enumerate(rows):
        top = 32 * place
        drawn.append(_label(0, top + 12, name, "start", "name"))
        bar = f'<rect class="mark" x="0" y="{top + 17}" width="{max(1.0, across.at(value)):.1f}" height="9"/>'
        drawn.append(f'<g class="blue"><title>{text(name)}\n{value:.3f}</title>{bar}</g>')
        drawn.append(_label(across.at(value) + 6, top + 26, f"{value:.2f}", "start"))
    drawn.append(_label(WIDTH - _RIGHT, 32 * len(rows) + 16, x, "end"))
    return _figure(title, drawn, 32 * len(rows) + 22)


@dataclass(frozen=True)
class _Axis:
    """Values to places of the drawing."""

    low: float
    high: float
    begin: float
    end: float

    @classmethod
    def over(cls, values: Sequence[float], begin: float, end: float, room: float = 0.0) -> _Axis:
        """Over all values, with a share of room on both sides; of one value alone, some more."""
        low, high = min(values), max(values)
        spare = (high - low) * room or (0.0 if high > low else abs(high) * 0.05 or 0.5)
        return cls(low - spare, high + spare, begin, end)

    def at(self, value: float) -> float:
        return self.begin + (value - self.low) / (self.high - self.low) * (self.end - self.begin)

    @property
    def ticks(self) -> list[float]:
        step = self._step
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [count * step for count in range(first, last + 1)]

    @property
    def _step(self) -> float:
        """1, 2 or 5 times a power of ten, which gives three to seven ticks."""
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        return power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * 0.9)

    def shown(self, tick: float) -> str:
        decimals = max(0, -math.floor(math.log10(self._step) + 1e-9))
        return f"{tick:,.{decimals}f}" if decimals < 5 else f"{tick:.3g}"


def _series(one: Series, across: _Axis, up: _Axis) -> str:
    places = [(across.at(x), up.at(y)) for x, y in one.points]
    marks = []
    if one.line and len(places) > 1:
        (begin, top), *rest = places
        path = [f"M{begin:.1f} {top:.1f}"]
        for x, y in rest:
            path.append(
                {"straight": f"L{x:.1f} {y:.1f}", "steps": f"H{x:.1f}V{y:.1f}"}.get(one.line, f"V{y:.1f}H{x:.1f}")
            )
        marks.append(f'<path class="path" d="{"".join(path)}"/>')
    if one.mark:
        tips = one.tips or [one.name] * len(places)
        marks += [_marked(x, y, one.mark, says) for (x, y), says in zip(places, tips, strict=True)]
    more = " wide" * one.wide + " dashed" * one.dashed
    return f'<g class="series {one.color}{more}"><title>{text(one.name)}</title>{"".join(marks)}</g>'


def _marked(x: float, y: float, mark: Mark, says: str, radius: float = 3.5) -> str:
    """A mark, and a larger place for the pointer that cannot be seen."""
    shape = f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>'
    if mark == "open":
        shape = shape.replace('class="mark"', 'class="open"')
    elif mark == "diamond":
        shape = f'<path class="mark" d="M{x:.1f} {y - 6:.1f}l6 6l-6 6l-6 -6z"/>'
    elif mark == "tick":
        shape = f'<path class="path" d="M{x:.1f} {y - 5:.1f}v10"/>'
    hit = f'<circle class="hit" cx="{x:.1f}" cy="{y:.1f}" r="9"/>'
    return f"<g><title>{text(says)}</title>{hit}{shape}</g>"


def _key(one: Series) -> str:
    """What a series looks like, for the legend."""
    line = '<path class="path" d="M0 6H24"/>' if one.line else ""
    mark = _marked(12, 6, one.mark, "").replace("<title></title>", "") if one.mark else ""
    more = " wide" * one.wide + " dashed" * one.dashed
    return f'<svg class="{one.color}{more}" viewBox="0 0 24 12" aria-hidden="true">{line}{mark}</svg>'


def _line(kind: str, x: float, y: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x:.1f}" y1="{y:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _label(x: float, y: float, says: str, anchor: str, kind: str = "") -> str:
    own = f' class="{kind}"' if kind else ""
    return f'<text{own} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text(says)}</text>'


def _figure(title: str, drawn: Sequence[str], height: float, below: str = "") -> str:
    """The whole of it; to those who hear the page it is one picture, whose numbers stand in a table."""
    inside = "\n".join(drawn)
    image = f'<svg role="img" aria-label="{text(title)}" viewBox="0 0 {WIDTH} {height:.0f}">\n{inside}\n</svg>'
    return f'<figure class="chart"><figcaption>{text(title)}</figcaption>{image}{below}</figure>'
