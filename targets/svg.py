"""A few SVG shapes as escaped text, axis ticks, and labels that do not cover one another.

Colours come from the page's style sheet through classes, so that one drawing serves light, dark
and print. All user text goes through `escape`.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
CHARACTER_WIDTH = 0.56
"""Average width of a character of a sans-serif face, in units of the font size."""


class Box(NamedTuple):
    """A rectangle: left, top, right, bottom."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        """True where the two share area."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def inside(self, other: Box) -> bool:
        return (
            self.left >= other.left
            and self.top >= other.top
            and self.right <= other.right
            and self.bottom <= other.bottom
        )


def escape(text: object) -> str:
    """Text for HTML and SVG, quotes included; characters that they cannot hold become U+FFFD."""
    return html.escape(_CONTROL.sub("\ufffd", str(text)), quote=True)


def shorten(text: str, most: int) -> str:
    """At most `most` characters, cut in the middle, where file names differ least."""
    if len(text) <= most:
        return text
    tail = (most - 1) // 2
    return f"{text[: most - 1 - tail]}…{text[-tail:]}"


def number(value: float) -> str:
    """A coordinate: two decimals, no '-0'."""
    return f"{round(value, 2) + 0.0:g}"


def figure(
    title: str, description: str, size: tuple[float, float], parts: Iterable[str], style: str = ""
) -> str:
    """An <svg> that scales to its column and tells screen readers what it shows."""
    width, height = size
    kind = f' class="{style}"' if style else ""
    return (
        f'<svg{kind} viewBox="0 0 {number(width)} {number(height)}" role="img" '
        f'aria-label="{escape(title)}: {escape(description)}">' + "".join(parts) + "</svg>"
    )


def text(x: float, y: float, content: str, style: str = "", anchor: str = "start") -> str:
    kind = f' class="{style}"' if style else ""
    return (
        f'<text x="{number(x)}" y="{number(y)}" text-anchor="{anchor}"{kind}>'
        f"{escape(content)}</text>"
    )


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    ends = f'x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}"'
    return f'<line class="{style}" {ends}/>'


def polyline(points: Sequence[tuple[float, float]], style: str, title: str = "") -> str:
    corners = " ".join(f"{number(x)},{number(y)}" for x, y in points)
    return f'<polyline class="{style}" points="{corners}">{_title(title)}</polyline>'


def rect(box: Box, style: str, title: str = "") -> str:
    size = f'width="{number(box.right - box.left)}" height="{number(box.bottom - box.top)}"'
    place = f'x="{number(box.left)}" y="{number(box.top)}"'
    return f'<rect class="{style}" {place} {size} rx="1.5">{_title(title)}</rect>'


def circle(x: float, y: float, radius: float, style: str, title: str = "") -> str:
    place = f'cx="{number(x)}" cy="{number(y)}" r="{number(radius)}"'
    said = _title(title)
    return f'<circle class="{style}" {place}' + (f">{said}</circle>" if said else "/>")


def marker(shape: str, x: float, y: float, style: str, title: str) -> str:
    """'circle', 'square', 'diamond', 'triangle' or 'wedge' (a triangle on its point), 10 across."""
    corners = {
        "triangle": [(0.0, -5.6), (5.6, 4.2), (-5.6, 4.2)],
        "wedge": [(0.0, 5.6), (5.6, -4.2), (-5.6, -4.2)],
        "square": [(-4.4, -4.4), (4.4, -4.4), (4.4, 4.4), (-4.4, 4.4)],
        "diamond": [(0.0, -6.2), (6.2, 0.0), (0.0, 6.2), (-6.2, 0.0)],
    }.get(shape)
    if corners is None:
        place = f'cx="{number(x)}" cy="{number(y)}" r="5"'
        return f'<circle class="{style}" {place}>{_title(title)}</circle>'
    points = " ".join(f"{number(x + dx)},{number(y + dy)}" for dx, dy in corners)
    return f'<polygon class="{style}" points="{points}">{_title(title)}</polygon>'


def _title(content: str) -> str:
    return f"<title>{escape(content)}</title>" if content else ""


def linear_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers (1, 2, 5 times a power of ten) in [low, high], roughly `about` of them."""
    raw = (high - low) / max(1, about)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first + 1
    return [round((first + i) * step, 12) for i in range(count)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 times powers of ten in [low, high]; powers of ten only over four decades or more."""
    steps = (1.0, 2.0, 5.0) if high / low < 1e4 else (1.0,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [m * 10.0**d for d in decades for m in steps if low <= m * 10.0**d <= high]


def place_labels(
    points: Sequence[tuple[float, float]], labels: Sequence[str], font: float, room: Box
) -> list[tuple[float, float, str] | None]:
    """(x, baseline y, anchor) for each label so that none covers a point, another or the border.

    Greedy, nearest free place first; None for a label that finds no place.
    """
    taken = [Box(x - 7, y - 7, x + 7, y + 7) for x, y in points]
    placed: list[tuple[float, float, str] | None] = []
    for (x, y), label in zip(points, labels, strict=True):
        width = len(label) * font * CHARACTER_WIDTH
        spot = None
        for dx, dy, anchor in _offsets(font):
            left = x + dx - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
            box = Box(left, y + dy - 0.8 * font, left + width, y + dy + 0.25 * font)
            if box.inside(room) and not any(box.meets(other) for other in taken):
                taken.append(box)
                spot = (x + dx, y + dy, anchor)
                break
        placed.append(spot)
    return placed


def _offsets(font: float) -> Iterable[tuple[float, float, str]]:
    """Places around a point from near to far."""
    middle = 0.35 * font
    yield from ((9, middle, "start"), (-9, middle, "end"))
    yield from ((0, -10, "middle"), (0, 10 + 0.8 * font, "middle"))
    for step in range(1, 9):
        shift = step * 1.25 * font
        for dy in (-shift, shift):
            yield from ((9, middle + dy, "start"), (-9, middle + dy, "end"))
            yield from ((0, middle + dy, "middle"), (26, middle + dy, "start"))
            yield (-26, middle + dy, "end")
