"""The report's chart of latency as SVG: every raw time of every file. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from targets.charts import WIDTH
from targets.report_row import Row
from targets.svg import Box, circle, figure, line, linear_ticks, rect, shorten, text
from targets.units import threads_text, time_text

_MOST_DOTS = 120


def latencies(rows: Sequence[Row], ship: str | None, narrow: bool = False) -> str | None:
    """Every raw time as a dot over its box (quartiles) and whiskers (p10, p90); None without any.

    The axis ends a little beyond the slowest file's 95th percentile; times further out are
    counted at the border. `narrow` puts the names above their strips, for phones.
    """
    timed = [(r, np.concatenate([np.asarray(p) for p in r.times_ms])) for r in rows if r.times_ms]
    timed = [(row, times) for row, times in timed if times.size]
    if not timed:
        return None
    wide, left, step = (WIDTH, 6.0, 66.0) if narrow else (2.2 * WIDTH, 220.0, 44.0)
    right = wide - (12 if narrow else 106)
    end = 1.06 * max(float(np.quantile(times, 0.95)) for _, times in timed) or 1.0
    bottom = 8.0 + step * len(timed)
    parts: list[str] = []
    for tick in linear_ticks(0.0, end, 4 if narrow else 6):
        x = left + (right - left) * tick / end
        parts.append(line(x, 8.0, x, bottom, "grid"))
        parts.append(text(x, bottom + 15, _axis_time(tick, end), "tick", "middle"))
    for i, (row, times) in enumerate(timed):
        tint = " ship" if row.sha256 == ship else ""
        middle = 8.0 + step * (i + 0.5) + (14 if narrow else 0)
        parts += _strip_words(row, times, middle, (left, right, end), narrow, tint)
        parts += _strip(times, middle, tint, end, (left, right))
    description = "; ".join(f"{r.path} median {time_text(float(np.median(t)))}" for r, t in timed)
    style = "on-narrow" if narrow else "on-wide"
    return figure("Latency", description, (wide, bottom + 24), parts, style)


def _strip_words(
    row: Row,
    times: NDArray[np.float64],
    middle: float,
    frame: tuple[float, float, float],
    narrow: bool,
    tint: str,
) -> list[str]:
    """Name, place and median of one strip: beside it, or above it on a narrow drawing."""
    left, right, end = frame
    where = f"{row.device}, {threads_text(row.threads)}"
    median = time_text(float(np.median(times)))
    beyond = int((times > end).sum())
    out = f"{beyond} further right" if beyond else ""
    if narrow:
        return [
            text(left, middle - 20, shorten(row.path, 34), f"label{tint}"),
            text(right, middle - 20, f"{median}{f' ({out})' if out else ''}", "note", "end"),
        ]
    return [
        text(left - 14, middle - 1, shorten(row.path, 30), f"label{tint}", "end"),
        text(left - 14, middle + 12, shorten(where, 36), "note", "end"),
        text(right + 12, middle - 1, median, f"value{tint}"),
        text(right + 12, middle + 12, out, "note"),
    ]


def _strip(
    times: NDArray[np.float64], middle: float, tint: str, end: float, span: tuple[float, float]
) -> list[str]:
    """Dots, box and whiskers of one file."""
    left, right = span

    def x_of(ms: float) -> float:
        return left + (right - left) * min(ms, end) / end

    chosen = times[np.linspace(0, times.size - 1, min(times.size, _MOST_DOTS)).astype(int)]
    # Golden-ratio steps spread the dots evenly and always alike, where a random jitter clumps.
    heights = [((i * 0.618034) % 1.0 - 0.5) * 24 for i in range(chosen.size)]
    parts = [
        circle(x_of(float(t)), middle + h, 1.5, f"dot{tint}")
        for t, h in zip(chosen, heights, strict=True)
        if t <= end
    ]
    p10, p25, p50, p75, p90 = (float(q) for q in np.quantile(times, (0.1, 0.25, 0.5, 0.75, 0.9)))
    parts.append(line(x_of(p10), middle, x_of(p90), middle, f"whisker{tint}"))
    parts.append(rect(Box(x_of(p25), middle - 7, x_of(p75) + 0.5, middle + 7), f"box{tint}"))
    parts.append(line(x_of(p50), middle - 11, x_of(p50), middle + 11, f"median{tint}"))
    return parts


def _axis_time(ms: float, end: float) -> str:
    """A tick of an axis up to `end`: all ticks in one unit."""
    if ms == 0:
        return "0"
    return f"{1000 * ms:.4g} µs" if end < 1 else f"{ms:.4g} ms"
