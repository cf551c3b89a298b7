"""The report's chart of sensitivity as SVG: a curve for each layer pruned alone. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from targets.charts import FONT, WIDTH
from targets.report_stages import LayerCurve, SensitivityScan
from targets.svg import (
    Box,
    circle,
    figure,
    line,
    linear_ticks,
    place_labels,
    polyline,
    shorten,
    text,
)
from targets.words import is_share, scan_text

Place = Callable[[float], float]


def curves(scan: SensitivityScan, narrow: bool = False) -> str | None:
    """The metric against sparsity, a curve for each layer; None without any.

    Each halving of what is kept takes the same width. The layer that loses most is marked, and the
    first few are named where they fall; all names are in the points' titles. `narrow`: for phones.
    """
    if not scan.curves:
        return None
    wide = WIDTH if narrow else 2.2 * WIDTH
    room = Box(44, 26, wide - 8, 300)
    x_of, y_of, ticks = _scales(scan, room)
    parts = _y_axis(scan, room, y_of, ticks)
    parts += _x_axis(sorted({s for c in scan.curves for s in c.sparsities}), room, x_of)
    parts.append(line(room.left, y_of(scan.whole), room.right, y_of(scan.whole), "leader"))
    order = sorted(scan.curves, key=lambda c: sum(c.values) / len(c.values))
    for curve in reversed(order):  # the one that loses most is drawn last, so on top
        first = " first" if curve is order[0] and len(order) > 1 else ""
        at = [(x_of(s), y_of(v)) for s, v in zip(curve.sparsities, curve.values, strict=True)]
        start = (x_of(0.0), y_of(scan.whole))
        parts.append(polyline([start, *at], f"curve{first}", curve.layer))
        for (x, y), s, v in zip(at, curve.sparsities, curve.values, strict=True):
            words = f"{curve.layer} at {100 * s:g} %: {scan_text(scan, v)}"
            parts.append(circle(x, y, 2.6, "point" + first, words))
    half = (scan.whole + min(v for c in scan.curves for v in c.values)) / 2
    parts += _names(order[: 4 if narrow else 8], half, room, x_of, y_of)
    description = "; ".join(
        f"{c.layer} {scan_text(scan, c.values[-1])} at {100 * c.sparsities[-1]:g} %" for c in order
    )
    style = "on-narrow" if narrow else "on-wide"
    return figure("Sensitivity", description, (wide, 340), parts, style)


def _scales(scan: SensitivityScan, room: Box) -> tuple[Place, Place, list[float]]:
    """Sparsity to x, the metric to y, and the ticks of y in units of the metric."""
    end = max(_halvings(s) for c in scan.curves for s in c.sparsities) or 1.0
    values = [scan.whole, *(v for c in scan.curves for v in c.values)]
    low, high = min(values), max(values)
    pad = 0.04 * (high - low) or 0.01
    low, high = low - pad, high + pad

    def x_of(sparsity: float) -> float:
        return room.left + _halvings(sparsity) / end * (room.right - room.left)

    def y_of(value: float) -> float:
        return room.bottom - (value - low) / (high - low) * (room.bottom - room.top)

    return x_of, y_of, linear_ticks(low, high, 6)


def _halvings(sparsity: float) -> float:
    """How often what is kept was halved: 1 at 50 %, 2 at 75 %."""
    return -math.log2(1 - sparsity)


def _y_axis(scan: SensitivityScan, room: Box, y_of: Place, ticks: Sequence[float]) -> list[str]:
    share = is_share(scan)
    parts = [text(0, 10, f"{scan.metric}, %" if share else scan.metric, "axis")]
    for tick in ticks:
        words = f"{100 * tick:.4g}" if share else f"{tick:.4g}"
        parts.append(line(room.left, y_of(tick), room.right, y_of(tick), "grid"))
        parts.append(text(room.left - 6, y_of(tick) + 4, words, "tick", "end"))
    return parts


def _x_axis(sparsities: Sequence[float], room: Box, x_of: Place) -> list[str]:
    """A tick at each measured sparsity that has room for its words."""
    middle = (room.left + room.right) / 2
    parts = [text(middle, room.bottom + 34, "sparsity of the layer, %", "axis", "middle")]
    last = -math.inf
    for sparsity in (0.0, *sparsities):
        x = x_of(sparsity)
        if x - last < 32:
            continue
        last = x
        parts.append(line(x, room.top, x, room.bottom, "grid"))
        parts.append(text(x, room.bottom + 15, f"{100 * sparsity:g}", "tick", "middle"))
    return parts


def _names(
    order: Sequence[LayerCurve], half: float, room: Box, x_of: Place, y_of: Place
) -> list[str]:
    """Names beside their curves, where these fall below `half`; some find no free place."""
    points = [_fall(curve, half, x_of, y_of) for curve in order]
    names = [shorten(curve.layer, 26) for curve in order]
    parts: list[str] = []
    for i, spot in enumerate(place_labels(points, names, FONT, room)):
        if spot is None:
            continue
        (x, y), (at, base, anchor) = points[i], spot
        if abs(base - 0.35 * FONT - y) > 1.2 * FONT:
            parts.append(line(x, y, at, base - (-4.0 if base < y else 9.0), "leader"))
        first = " first" if i == 0 and len(order) > 1 else ""
        parts.append(text(at, base, names[i], f"label{first}", anchor))
    return parts


def _fall(curve: LayerCurve, half: float, x_of: Place, y_of: Place) -> tuple[float, float]:
    """The first measured point below `half`; the last one where there is none."""
    pairs = list(zip(curve.sparsities, curve.values, strict=True))
    sparsity, value = next((pair for pair in pairs if pair[1] < half), pairs[-1])
    return x_of(sparsity), y_of(value)
