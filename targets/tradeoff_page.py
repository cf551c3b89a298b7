"""The part of report.html on operations against agreement: curves, all figures folded away."""

from __future__ import annotations

from collections.abc import Callable

from targets.charts import FONT, WIDTH
from targets.svg import (
    Box,
    circle,
    escape,
    figure,
    line,
    linear_ticks,
    place_labels,
    polyline,
    text,
)
from targets.tradeoff import (
    COLUMNS,
    TITLE,
    Tradeoff,
    TradeoffPoint,
    tradeoff_note,
    tradeoff_rows,
)
from targets.units import share_text, wilson

Place = Callable[[float], float]
# Of the series, in order; further ones are drawn as the second is.
_STYLES = (" first", "")


def tradeoff_section(found: Tradeoff | None) -> str:
    """'' where nothing was traced."""
    if found is None or not found.points:
        return ""
    drawing = tradeoff_curves(found) + tradeoff_curves(found, narrow=True)
    return (
        f"<figure><h2>{TITLE}</h2><p>{escape(tradeoff_note(found))} Up and to the left is better. "
        f"Bars: 95 % intervals.</p>{drawing}{_table(found)}</figure>"
    )


def tradeoff_curves(found: Tradeoff, narrow: bool = False) -> str:
    """Agreement against MACs, a curve for each series from the whole net down."""
    wide = WIDTH if narrow else 2.2 * WIDTH
    room = Box(44, 26, wide - 14, 300)
    ends = [end for p in found.points for end in wilson(p.agreement, found.samples)]
    low = min(ends) - 0.04 * (1 - min(ends) or 1.0)
    most = max(found.macs, *(p.macs for p in found.points))

    def x_of(macs: float) -> float:
        return room.left + macs / most * (room.right - room.left)

    def y_of(share: float) -> float:
        return room.bottom - (share - low) / (1 - low) * (room.bottom - room.top)

    parts = _axes(room, (low, most), x_of, y_of)
    whole = (x_of(found.macs), y_of(1.0))
    for number, series in reversed(list(enumerate(found.series))):  # the first one on top
        style = _STYLES[min(number, len(_STYLES) - 1)]
        points = found.of(series)
        at = [(x_of(p.macs), y_of(p.agreement)) for p in points]
        parts.append(polyline([whole, *at], f"curve{style}", series))
        for point, (x, y) in zip(points, at, strict=True):
            least, most_ = wilson(point.agreement, found.samples)
            parts.append(line(x, y_of(least), x, y_of(most_), "interval"))
            parts.append(circle(x, y, 3.0, f"point{style}", _words(point)))
    parts += _names(found, room, x_of, y_of)
    said = "; ".join(_words(p) for series in found.series for p in found.of(series))
    style = "on-narrow" if narrow else "on-wide"
    return figure(TITLE, said, (wide, 340), parts, style)


def _axes(room: Box, ends: tuple[float, float], x_of: Place, y_of: Place) -> list[str]:
    low, most = ends
    parts = [text(0, 10, "agreement, %", "axis")]
    for tick in linear_ticks(100 * low, 100.0, 6):
        y = y_of(tick / 100)
        parts.append(line(room.left, y, room.right, y, "grid"))
        parts.append(text(room.left - 6, y + 4, f"{tick:g}", "tick", "end"))
    for tick in linear_ticks(0.0, most, 5):
        parts.append(line(x_of(tick), room.top, x_of(tick), room.bottom, "grid"))
        parts.append(text(x_of(tick), room.bottom + 15, _millions(tick), "tick", "middle"))
    middle = (room.left + room.right) / 2
    return [*parts, text(middle, room.bottom + 34, "MACs a picture", "axis", "middle")]


def _names(found: Tradeoff, room: Box, x_of: Place, y_of: Place) -> list[str]:
    """Each series' name at its end of the fewest operations."""
    ends = [found.of(series)[-1] for series in found.series]
    points = [(x_of(p.macs), y_of(p.agreement)) for p in ends]
    others = [(x_of(p.macs), y_of(p.agreement)) for p in found.points]
    # Without words of their own, the other points only keep their places free.
    words = [*found.series, *("" for _ in others)]
    spots = place_labels([*points, *others], words, FONT, room)[: len(ends)]
    return [
        text(spot[0], spot[1], series, f"label{_STYLES[min(n, len(_STYLES) - 1)]}", spot[2])
        for n, (series, spot) in enumerate(zip(found.series, spots, strict=True))
        if spot is not None
    ]


def _words(point: TradeoffPoint) -> str:
    return f"{point.series}: {_millions(point.macs)} MACs, {share_text(point.agreement)}"


def _millions(macs: float) -> str:
    return f"{macs / 1e6:g} M" if macs >= 1e5 else f"{macs:g}"


def _table(found: Tradeoff) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in COLUMNS)
    body = ""
    for cells in tradeoff_rows(found):
        pairs = zip(COLUMNS[1:], cells[1:], strict=True)
        values = "".join(f'<td data-of="{name}">{escape(cell)}</td>' for name, cell in pairs)
        body += f'<tr><th scope="row">{escape(cells[0])}</th>{values}</tr>'
    return (
        f'<details><summary>All figures</summary><table class="cards"><thead><tr>{head}</tr>'
        f"</thead><tbody>{body}</tbody></table></details>"
    )
