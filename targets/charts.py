"""The report's charts of bytes as SVG: accuracy against size, size by stage. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from targets.loss import fidelity_of
from targets.report import Row, SizePoint
from targets.svg import (
    Box,
    figure,
    line,
    linear_ticks,
    log_ticks,
    marker,
    place_labels,
    rect,
    shorten,
    text,
)
from targets.units import bytes_text, share_text, wilson

WIDTH = 400.0
FONT = 11.0
_SHAPES = {"onnx": "circle", "tflite": "square"}


def scatter(rows: Sequence[Row], floor: float | None, ship: str | None) -> str | None:
    """top-1 (with its 95 % interval) against download size (log); None without two scored files.

    Without labels it is the agreement with the original's answers.

    `floor` is the least top-1 that is allowed, `ship` the sha256 of the file advised.
    """
    files = list({r.sha256: r for r in rows if fidelity_of(r) is not None and r.samples}.values())
    files.sort(key=lambda r: r.sha256 == ship)  # drawn last, so on top
    if len(files) < 2:
        return None
    room = Box(40, 26, WIDTH - 8, 268)
    x_of = _log_scale([r.download_bytes for r in files], room.left, room.right)
    intervals = [wilson(fidelity_of(r) or 0.0, r.samples or 1) for r in files]
    ends = [*(v for pair in intervals for v in pair), *([] if floor is None else [floor])]
    low, high = _padded(min(ends), max(ends))

    def y_of(share: float) -> float:
        return room.bottom - (share - low) / (high - low) * (room.bottom - room.top)

    what = "top-1" if any(r.top1 is not None for r in files) else "agreement"
    parts = _y_axis(room, low, high, what)
    for tick in _thin(log_ticks(*_log_span([r.download_bytes for r in files]))):
        parts.append(line(x_of(tick), room.top, x_of(tick), room.bottom, "grid"))
        parts.append(text(x_of(tick), room.bottom + 15, bytes_text(tick), "tick", "middle"))
    parts.append(text((room.left + room.right) / 2, 302, "download size (log)", "axis", "middle"))
    if floor is not None:
        parts.append(line(room.left, y_of(floor), room.right, y_of(floor), "floor"))
    points = [(x_of(r.download_bytes), y_of(fidelity_of(r) or 0.0)) for r in files]
    for row, (x, y), (least, most) in zip(files, points, intervals, strict=True):
        style = "mark ship" if row.sha256 == ship else "mark"
        parts.append(line(x, y_of(least), x, y_of(most), "interval"))
        words = (
            f"{row.path}: {bytes_text(row.download_bytes)}, {share_text(fidelity_of(row) or 0.0)}"
        )
        parts.append(marker(_SHAPES.get(row.format, "diamond"), x, y, style, words))
    parts += _labels(files, points, room, ship)
    parts.append(_key(files, floor is not None))
    description = "; ".join(
        f"{r.path} {bytes_text(r.download_bytes)} {share_text(fidelity_of(r) or 0.0)}"
        for r in files
    )
    return figure("Accuracy against size", description, (WIDTH, 330), parts)


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


def _labels(
    files: Sequence[Row], points: Sequence[tuple[float, float]], room: Box, ship: str | None
) -> list[str]:
    """File names beside their marks, with a thin leader where the name stands away."""
    names = [shorten(r.path, 26) for r in files]
    parts: list[str] = []
    spots = place_labels(points, names, FONT, room)
    for row, name, (x, y), spot in zip(files, names, points, spots, strict=True):
        if spot is None:
            continue
        at, base, anchor = spot
        if abs(base - 0.35 * FONT - y) > 1.2 * FONT:
            reach = -4.0 if base < y else 9.0
            parts.append(line(x, y, at, base - reach, "leader"))
        parts.append(text(at, base, name, "label ship" if row.sha256 == ship else "label", anchor))
    return parts


def _key(files: Sequence[Row], floor: bool) -> str:
    """What the shapes of the marks stand for, and the line of the least top-1 if there is one.

    The line is named here, since along it there may be no free place.
    """
    formats = sorted({r.format for r in files})
    x, parts = 40.0, ""
    for name in formats:
        parts += marker(_SHAPES.get(name, "diamond"), x + 5, 317, "mark", name)
        parts += text(x + 15, 321, name, "note")
        x += 34 + 6.2 * len(name)
    if floor:
        parts += line(x, 317, x + 18, 317, "floor") + text(x + 24, 321, "least allowed", "note")
    return parts


def _y_axis(room: Box, low: float, high: float, what: str) -> list[str]:
    parts: list[str] = []
    ticks = linear_ticks(100 * low, 100 * high)
    decimals = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9)) if len(ticks) > 1 else 2
    for tick in ticks:
        y = room.bottom - (tick / 100 - low) / (high - low) * (room.bottom - room.top)
        parts.append(line(room.left, y, room.right, y, "grid"))
        parts.append(text(room.left - 6, y + 4, f"{tick:.{decimals}f}", "tick", "end"))
    parts.append(text(0, 10, f"{what}, %", "axis"))
    return parts


def _padded(low: float, high: float) -> tuple[float, float]:
    pad = 0.08 * (high - low) or 0.01
    return low - pad, high + pad


def _log_span(values: Sequence[int]) -> tuple[float, float]:
    """The values' range with room at both ends, at least a factor of 2."""
    low, high = max(1, min(values)), max(1, *values)
    pad = max((high / low) ** 0.10, 1.4)
    return low / pad, high * pad


def _log_scale(values: Sequence[int], left: float, right: float) -> _Scale:
    low, high = (math.log(v) for v in _log_span(values))
    return _Scale(low, high, left, right)


class _Scale:
    """Positive values to coordinates, logarithmically."""

    def __init__(self, low: float, high: float, left: float, right: float) -> None:
        self.low, self.high, self.left, self.right = low, high, left, right

    def __call__(self, value: float) -> float:
        share = (math.log(max(1.0, value)) - self.low) / (self.high - self.low)
        return self.left + share * (self.right - self.left)


def _thin(ticks: list[float]) -> list[float]:
    """At most seven ticks: labels of more would touch."""
    return ticks[:: math.ceil(len(ticks) / 7)] if ticks else ticks


def _change(share: float) -> str:
    return f"  {100 * share:+.0f} %".replace("-", "−")
