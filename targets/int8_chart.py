"""The report's chart of int8 by layers as SVG: a bar for each of the worst. Pure functions."""

from __future__ import annotations

from targets.charts import WIDTH
from targets.int8_scan import Int8Layer, Int8Scan
from targets.int8_words import TITLE, WORST, nats
from targets.svg import Box, circle, figure, line, linear_ticks, rect, shorten, text

_STEP = 21.0
_TOP = 46.0


def int8_bars(scan: Int8Scan, narrow: bool = False) -> str | None:
    """What the worst layers lose alone, split by weights and output; None where none loses.

    The two parts do not add up exactly, so their shares divide the bar of both together. A dot is
    what is left by the best mending. `narrow`: for phones.
    """
    rows = [row for row in scan.layers[:WORST] if row.alone_kl > 0]
    if not rows:
        return None
    wide = WIDTH if narrow else 2.2 * WIDTH
    left = 136.0 if narrow else 230.0
    room = Box(left, _TOP, wide - 44, _TOP + _STEP * len(rows))
    most = max(row.alone_kl for row in rows)

    def x_of(value: float) -> float:
        return room.left + value / most * (room.right - room.left)

    parts = _key(room, any(row.mended_kl is not None for row in rows))
    for tick in linear_ticks(0.0, 1000 * most, 3 if narrow else 6):
        x = x_of(tick / 1000)
        parts.append(line(x, room.top - 4, x, room.bottom, "grid"))
        parts.append(text(x, room.bottom + 14, f"{tick:g}", "tick", "middle"))
    middle = (room.left + room.right) / 2
    parts.append(text(middle, room.bottom + 32, "thousandths of a nat a picture", "axis", "middle"))
    for place, row in enumerate(rows):
        y = room.top + _STEP * place
        name = shorten(row.layer, 21 if narrow else 36)
        parts.append(text(room.left - 8, y + 13, name, "", "end"))
        parts += _bar(row, room.left, x_of(row.alone_kl), y)
        if row.mended_kl is not None and row.mended_kl <= row.alone_kl:
            words = f"{row.layer} by {row.mend}: {nats(row.mended_kl)}"
            parts.append(circle(x_of(row.mended_kl), y + 9, 4.2, "mark ship", words))
        parts.append(text(x_of(row.alone_kl) + 8, y + 13, nats(row.alone_kl), "value"))
    description = "; ".join(f"{row.layer} {nats(row.alone_kl)}" for row in rows)
    style = "on-narrow" if narrow else "on-wide"
    return figure(TITLE, description, (wide, room.bottom + 40), parts, style)


def _bar(row: Int8Layer, left: float, right: float, y: float) -> list[str]:
    """The bar, its left part the share of the weights."""
    both = row.weights_kl + row.output_kl
    share = row.weights_kl / both if both else 0.0
    middle = left + share * (right - left)
    boxes = (
        (Box(left, y + 3, middle, y + 15), "bar cost", f"its weights {nats(row.weights_kl)}"),
        (Box(middle, y + 3, right, y + 15), "bar", f"its output {nats(row.output_kl)}"),
    )
    return [
        rect(box, style, f"{row.layer}: {words}")
        for box, style, words in boxes
        if box.right - box.left > 0.05
    ]


def _key(room: Box, mended: bool) -> list[str]:
    """What the colours mean."""
    parts = [
        rect(Box(room.left, 8, room.left + 10, 18), "bar cost"),
        text(room.left + 15, 17, "by its weights", "note"),
        rect(Box(room.left + 96, 8, room.left + 106, 18), "bar"),
        text(room.left + 111, 17, "by its output", "note"),
    ]
    if mended:
        parts.append(circle(room.left + 5, 31, 4.2, "mark ship"))
        parts.append(text(room.left + 15, 34, "left by what mends best", "note"))
    return parts
