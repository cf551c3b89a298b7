"""The report's chart of bytes by stage as SVG. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from targets.report_stages import SizePoint
from targets.svg import Box, figure, rect, shorten, text
from targets.units import bytes_text

WIDTH = 400.0
FONT = 11.0


def waterfall(sizes: Sequence[SizePoint]) -> str | None:
    """A bar for each stage's real file, its change beside it; None without two sizes."""
    if len(sizes) < 2:
        return None
    step, left = 30.0, 128.0
    right = WIDTH - 108
    most = max(point.bytes for point in sizes) or 1
    parts: list[str] = []
    before: int | None = None
    for i, point in enumerate(sizes):
        top = 6 + i * step
        end = left + (right - left) * point.bytes / most
        parts.append(text(left - 8, top + 15, shorten(point.stage, 21), "label", "end"))
        if before is not None and before > point.bytes:
            past = left + (right - left) * before / most
            parts.append(rect(Box(end, top + 2, past, top + 20), "bar gone"))
        last = "bar ship" if i == len(sizes) - 1 else "bar"
        words = f"{point.stage}: {point.bytes:,} bytes"
        parts.append(rect(Box(left, top + 2, max(end, left + 1.5), top + 20), last, words))
        edge = max(end, left + (right - left) * (before or 0) / most)
        change = "" if not before else _change(point.bytes / before - 1)
        parts.append(text(edge + 8, top + 15, f"{bytes_text(point.bytes)}{change}", "value"))
        before = point.bytes
    description = "; ".join(f"{p.stage} {bytes_text(p.bytes)}" for p in sizes)
    return figure("Size by stage", description, (WIDTH, 12 + len(sizes) * step), parts)


def _change(share: float) -> str:
    return f"  {100 * share:+.0f} %".replace("-", "−")
