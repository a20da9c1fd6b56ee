"""Small figures as inline SVG: lines, a heat map, a histogram, stacked bars. Colours are CSS variables of the page around them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 860, 92, 100, 14, 44  # pixels; the space on the right is for the lines' names
MOST = 300  # points of a line: more cannot be told apart at this width


class Line(NamedTuple):
    """One line of a chart: its name, its points, the number of its colour (1 to 6); ``dots`` marks the points themselves."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int
    dots: bool = False


def thin(x: Sequence[float], y: Sequence[float], most: int = MOST) -> tuple[np.ndarray, np.ndarray]:
    """At most ``most`` points: means over equal stretches of the series."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    keep = np.isfinite(x) & np.isfinite(y)
    x, y = x[keep], y[keep]
    if len(x) <= most:
        return x, y
    parts = np.array_split(np.arange(len(x)), most)
    return np.array([x[part].mean() for part in parts]), np.array([y[part].mean() for part in parts])


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers between ``low`` and ``high``."""
    if high <= low:
        return [low]
    raw = (high - low) / about
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= raw)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def lines(series: Sequence[Line], x_label: str, y_label: str, height: int = 240) -> str:
    """A line chart, each line named at its end."""
    drawn = [line._replace(x=x, y=y) for line in series for x, y in [thin(line.x, line.y)] if len(x)]
    if not drawn:
        return '<p class="none">nothing of this was recorded</p>'
    frame = _Frame([v for line in drawn for v in line.x], [v for line in drawn for v in line.y], height, margin=True)
    body = [frame.axes(x_label, y_label)]
    ends: list[float] = []
    for line in drawn:
        points = " ".join(f"{frame.x(a):.1f},{frame.y(b):.1f}" for a, b in zip(line.x, line.y, strict=True))
        body.append(f'<polyline class="line c{line.colour}" points="{points}"/>')
        if line.dots:
            places = [(frame.x(a), frame.y(b)) for a, b in zip(line.x, line.y, strict=True)]
            body += [f'<circle class="dot c{line.colour}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places]
        place = _free(frame.y(line.y[-1]), ends)
        body.append(f'<text class="name f{line.colour}" x="{frame.right + 8}" y="{place + 4:.1f}">{escape(line.name)}</text>')
    return _svg(height, "".join(body), f"{y_label} by {x_label}")


def _free(place: float, taken: list[float]) -> float:
    """A place for a name that does not lie on another one."""
    while any(abs(place - other) < 13 for other in taken):
        place += 13
    taken.append(place)
    return place


class _Frame:
    """The area of a chart, and where numbers lie in it."""

    def __init__(self, xs: Sequence[float], ys: Sequence[float], height: int, margin: bool):
        self.low_x, self.high_x, self.low_y, self.high_y = min(xs), max(xs), min(ys), max(ys)
        if margin:
            self.low_y, self.high_y = min(0.0, self.low_y), self.high_y * 1.05 or 1.0
        self.right, self.bottom = WIDTH - RIGHT, height - BOTTOM

    def x(self, value: float) -> float:
        return LEFT + (value - self.low_x) / (self.high_x - self.low_x or 1) * (self.right - LEFT)

    def y(self, value: float) -> float:
        return self.bottom - (value - self.low_y) / (self.high_y - self.low_y or 1) * (self.bottom - TOP)

    def axes(self, x_label: str, y_label: str, marks: dict[float, str] | None = None) -> str:
        """Grid, numbers and labels; ``marks`` are the places and texts of the vertical axis, if they are not its numbers."""
        body = []
        marks = marks or {value: short(value) for value in ticks(self.low_y, self.high_y, 4)}
        for value, text in marks.items():
            place = self.y(value)
            body.append(f'<line class="grid" x1="{LEFT}" x2="{self.right}" y1="{place:.1f}" y2="{place:.1f}"/>')
            body.append(f'<text class="tick" text-anchor="end" x="{LEFT - 8}" y="{place + 4:.1f}">{text}</text>')
        for value in ticks(self.low_x, self.high_x, 7):
            body.append(f'<text class="tick" text-anchor="middle" x="{self.x(value):.1f}" y="{self.bottom + 18}">{short(value)}</text>')
        body.append(
            f'<text class="label" text-anchor="middle" x="{(LEFT + self.right) / 2}" y="{self.bottom + 38}">{escape(x_label)}</text>'
        )
        middle = (TOP + self.bottom) / 2
        turned = f'transform="rotate(-90 16 {middle})"'
        body.append(f'<text class="label" text-anchor="middle" x="16" y="{middle}" {turned}>{escape(y_label)}</text>')
        return "".join(body)


def heat(rows: Sequence[tuple[str, Sequence[float], Sequence[float]]], x_label: str) -> str:
    """A heat map: each row is (name, times, percentages from 0 to 100); the colour's strength is the value."""
    rows = [row for row in rows if len(row[1])]
    if not rows:
        return '<p class="none">nothing of this was recorded</p>'
    each, cells = 20, 150
    height = TOP + len(rows) * (each + 3) + BOTTOM
    frame = _Frame([t for _, times, _ in rows for t in (min(times), max(times))], (0, 1), height, False)
    body = []
    for number, (name, times, values) in enumerate(rows):
        top = TOP + number * (each + 3)
        x, y = thin(times, values, cells)
        wide = (frame.right - LEFT) / max(len(x), 1)
        body.append(f'<text class="tick" text-anchor="end" x="{LEFT - 8}" y="{top + 14}">{escape(name)}</text>')
        box = f'y="{top}" width="{wide + 0.3:.1f}" height="{each}"'
        body += [f'<rect class="cell" x="{LEFT + i * wide:.1f}" {box} fill-opacity="{v / 100:.2f}"/>' for i, v in enumerate(y)]
        body.append(f'<text class="name" x="{frame.right + 8}" y="{top + 14}">mean {np.mean(y):.0f} %</text>')
    for value in ticks(frame.low_x, frame.high_x, 7):
        body.append(f'<text class="tick" text-anchor="middle" x="{frame.x(value):.1f}" y="{height - BOTTOM + 16}">{short(value)}</text>')
    body.append(f'<text class="label" text-anchor="middle" x="{(LEFT + frame.right) / 2}" y="{height - 8}">{escape(x_label)}</text>')
    return _svg(height, "".join(body), "use of each part over time")


def histogram(values: Sequence[float], limit: float, x_label: str, height: int = 220) -> str:
    """How often each value occurs, on a root scale so that rare ones are seen; those above ``limit`` in another colour."""
    array = np.asarray(values, dtype=float)
    counts, edges = np.histogram(array, 60)
    frame = _Frame(edges, (0, math.sqrt(counts.max()) * 1.05), height, False)
    body = []
    for count, left, right in zip(counts, edges, edges[1:], strict=False):
        if count:
            x, top = frame.x(left), frame.y(math.sqrt(count))
            colour = "c2" if left >= limit else "c1"
            size = f'x="{x:.1f}" y="{top:.1f}" width="{max(frame.x(right) - x - 1, 1):.1f}" height="{frame.bottom - top:.1f}"'
            body.append(f'<rect class="bar {colour}" {size}><title>{count} steps from {left:.4g} to {right:.4g}</title></rect>')
    shown = sorted({0, int(counts.max() // 10), int(counts.max())})
    axes = frame.axes(x_label, "steps (root scale)", {math.sqrt(count): str(count) for count in shown})
    if edges[0] < limit < edges[-1]:
        place = frame.x(limit)
        axes += f'<line class="limit" x1="{place:.1f}" x2="{place:.1f}" y1="{TOP}" y2="{frame.bottom}"/>'
        axes += f'<text class="name f2" x="{place + 6:.1f}" y="{TOP + 12}">outliers</text>'
    return _svg(height, axes + "".join(body), "distribution of step times")


def stacked(rows: Sequence[tuple[str, dict[str, float]]], colours: dict[str, int], unit: str) -> str:
    """Stacked bars: each row is (name, {part: amount}); all rows have the full width, parts their share."""
    height = TOP + len(rows) * 46
    body = []
    for number, (name, parts) in enumerate(rows):
        top, x, whole = TOP + number * 46, float(LEFT), sum(parts.values()) or 1
        body.append(f'<text class="tick" text-anchor="end" x="{LEFT - 8}" y="{top + 18}">{escape(name)}</text>')
        for part, amount in parts.items():
            wide = amount / whole * (WIDTH - LEFT - RIGHT)
            tip = f"<title>{part}: {amount:.3g} {unit}, {100 * amount / whole:.1f} %</title>"
            body.append(f'<rect class="bar c{colours[part]}" x="{x:.1f}" y="{top}" width="{wide:.1f}" height="28">{tip}</rect>')
            if wide > 90:
                body.append(f'<text class="inside" x="{x + 6:.1f}" y="{top + 18}">{escape(part)} {100 * amount / whole:.0f} %</text>')
            x += wide
        body.append(f'<text class="name" x="{WIDTH - RIGHT + 8}" y="{top + 18}">{whole:.3g} {unit}</text>')
    return _svg(height, "".join(body), "time by phase")


def short(value: float) -> str:
    """A number for an axis."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def _svg(height: float, body: str, title: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">{body}</svg>'
