"""The waterfall from the fp32 weights to the file as SVG, by cause. A pure function.

The axis is logarithmic: equal lengths are equal factors, and what the file consists of stays
visible beside a net that was fifty times as large.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from targets.sizing.account import SizeAccount
from targets.sizing.words import START, Change, changes, is_smaller
from targets.svg import Box, figure, line, log_ticks, marker, rect, text
from targets.units import bytes_text, times_text

_WIDTH, _STEP, _TOP = 400.0, 27.0, 8.0
_ROOM = (88.0, 284.0)
_TICK_ROOM = 50.0


def sizes_shown(account: SizeAccount, download_bytes: int | None = None) -> list[int]:
    """The sizes between which the chart's axis must reach."""
    ends = [account.fp32_bytes, *(() if download_bytes is None else (download_bytes,))]
    return [*ends, *(step.total for step in changes(account))]


def cause_chart(
    account: SizeAccount, download_bytes: int | None = None, span: Sequence[int] = ()
) -> str | None:
    """A bar for each cause; None for a file whose weights are as they were.

    download_bytes: shown below the file where it is known. span: sizes that the axis must hold
    beside its own, so that several charts have one axis.
    """
    if not is_smaller(account):
        return None
    steps = [Change(START, account.fp32_bytes, account.fp32_bytes), *changes(account)]
    ends = [("File", account.file_bytes)]
    if download_bytes is not None:
        ends.append(("Download", download_bytes))
    x_of = _Scale([*sizes_shown(account, download_bytes), *span])
    bottom = _TOP + (len(steps) + len(ends)) * _STEP
    parts = _grid(x_of, bottom)
    parts += _total(x_of, 0, START, account.fp32_bytes, account.fp32_bytes, "mark")
    for row, (before, step) in enumerate(pairwise(steps), 1):
        parts += _change(x_of, row, before, step)
    for row, (name, size) in enumerate(ends, len(steps)):
        style = "mark ship" if name == "File" else "mark"
        parts += _total(x_of, row, name, size, account.fp32_bytes, style)
    x = x_of(account.file_bytes)
    parts.append(line(x, _bottom(len(steps) - 1), x, _middle(len(steps)) - 6, "leader"))
    said = "; ".join(f"{step.cause} {bytes_text(step.bytes)}" for step in steps)
    description = f"{said}; File {bytes_text(account.file_bytes)}"
    return figure("From fp32 to the file", description, (_WIDTH, bottom + 20), parts)


class _Scale:
    """Bytes to x, logarithmically; from a little below the smallest to the largest."""

    def __init__(self, sizes: list[int]) -> None:
        known = [max(1, size) for size in sizes]
        self.low, self.high = min(known) / 1.4, max(known) * 1.02
        self._span = math.log(self.high / self.low)

    def __call__(self, size: float) -> float:
        left, right = _ROOM
        share = math.log(max(size, self.low) / self.low) / self._span
        return left + share * (right - left)


def _grid(x_of: _Scale, bottom: float) -> list[str]:
    parts: list[str] = []
    for tick in _ticks(x_of):
        parts.append(line(x_of(tick), _TOP - 4, x_of(tick), bottom, "grid"))
        parts.append(text(x_of(tick), bottom + 14, bytes_text(tick), "tick", "middle"))
    return parts


def _ticks(x_of: _Scale) -> list[float]:
    """Powers of ten where there are two, else what there is; those whose names have room."""
    ticks = log_ticks(x_of.low, x_of.high)
    powers = [tick for tick in ticks if math.isclose(math.log10(tick) % 1, 0, abs_tol=1e-9)]
    kept: list[float] = []
    for tick in powers if len(powers) > 1 else ticks:
        if not kept or x_of(tick) - x_of(kept[-1]) >= _TICK_ROOM:
            kept.append(tick)
    return kept


def _total(x_of: _Scale, row: int, name: str, size: int, fp32_bytes: int, style: str) -> list[str]:
    """A mark at a size, not a bar: a bar of a logarithm would have no meaning."""
    middle, x = _middle(row), x_of(size)
    factor = "" if size >= fp32_bytes or not size else f" · {times_text(fp32_bytes / size)} smaller"
    label = "label ship" if "ship" in style else "label"
    return [
        text(_ROOM[0] - 8, middle + 4, name, label, "end"),
        marker("diamond", x, middle, style, f"{name}: {size:,} bytes"),
        text(x + 12, middle + 4, f"{bytes_text(size)}{factor}", label),
    ]


def _change(x_of: _Scale, row: int, before: Change, step: Change) -> list[str]:
    middle = _middle(row)
    start, end = x_of(before.total), x_of(step.total)
    left, right = min(start, end), max(start, end, min(start, end) + 1.5)
    style = "bar saved" if step.bytes < 0 else "bar cost"
    sign = "−" if step.bytes < 0 else "+"
    words = f"{step.cause}: {sign}{abs(step.bytes):,} bytes, {step.total:,} so far"
    value = f"{sign}{bytes_text(abs(step.bytes))}{_factor(before.total, step.total)}"
    top = _bottom(row - 1) if row > 1 else _middle(0) + 6
    return [
        line(start, top, start, middle - 8, "leader"),
        text(_ROOM[0] - 8, middle + 4, step.cause, "label", "end"),
        rect(Box(left, middle - 8, right, middle + 8), style, words),
        text(right + 8, middle + 4, value, "label"),
    ]


def _factor(before: int, after: int) -> str:
    """' · ÷7.32' or ' · ×1.05'; nothing where it would say one, or where nothing is left."""
    if not before or not after or abs(after / before - 1) < 0.005:
        return ""
    shrunk = after < before
    ratio = times_text(before / after if shrunk else after / before).removesuffix("×")
    return f" · {'÷' if shrunk else '×'}{ratio}"


def _middle(row: int) -> float:
    return _TOP + row * _STEP + _STEP / 2


def _bottom(row: int) -> float:
    return _middle(row) + 8
