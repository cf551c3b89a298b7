"""The axes of the scatter charts: what a file costs, its accuracy; values to coordinates."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from targets.charts import WIDTH
from targets.report_row import Row
from targets.smaller import latency_of
from targets.svg import Box, line, linear_ticks, log_ticks, text
from targets.units import bytes_text, time_text

ROOM = Box(40, 26, WIDTH - 8, 268)
_LEAST = 1e-6  # a nanosecond, in ms; bytes are whole


class Cost(NamedTuple):
    """What stands on the x axis: its value in a row, its texts, the ends of its spread or ()."""

    title: str
    axis: str
    of: Callable[[Row], float | None]
    text: Callable[[float], str]
    tick: Callable[[float], str]
    spread: Callable[[Row], tuple[float, ...]]


def _download(row: Row) -> float:
    return row.download_bytes


def _no_spread(_: Row) -> tuple[float, ...]:
    return ()


def _deciles(row: Row) -> tuple[float, ...]:
    return () if row.latency_ms is None else (row.latency_ms.p10, row.latency_ms.p90)


def _tick_time(ms: float) -> str:
    return f"{ms:g} ms" if ms >= 1 else f"{1000 * ms:g} µs"


SIZE = Cost(
    title="Accuracy against size",
    axis="download size (log)",
    of=_download,
    text=bytes_text,
    tick=bytes_text,
    spread=_no_spread,
)
LATENCY = Cost(
    title="Accuracy against latency",
    axis="median latency (log)",
    of=latency_of,
    text=time_text,
    tick=_tick_time,
    spread=_deciles,
)


class Heights:
    """Shares to y coordinates, with room at both ends."""

    def __init__(self, shares: Sequence[float]) -> None:
        low, high = min(shares), max(shares)
        pad = 0.08 * (high - low) or 0.01
        self.low, self.high = low - pad, high + pad

    def __call__(self, share: float) -> float:
        part = (share - self.low) / (self.high - self.low)
        return ROOM.bottom - part * (ROOM.bottom - ROOM.top)

    def axis(self, what: str) -> list[str]:
        parts = [text(0, 10, f"{what}, %", "axis")]
        ticks = linear_ticks(100 * self.low, 100 * self.high)
        decimals = 2
        if len(ticks) > 1:
            decimals = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
        for tick in ticks:
            y = self(tick / 100)
            parts.append(line(ROOM.left, y, ROOM.right, y, "grid"))
            parts.append(text(ROOM.left - 6, y + 4, f"{tick:.{decimals}f}", "tick", "end"))
        return parts


class Scale:
    """Costs to x coordinates, logarithmically, with room at both ends: a factor of 2 at least."""

    def __init__(self, values: Sequence[float]) -> None:
        low, high = max(_LEAST, min(values)), max(_LEAST, *values)
        pad = max((high / low) ** 0.10, 1.4)
        self.low, self.high = low / pad, high * pad

    def __call__(self, value: float) -> float:
        share = math.log(max(_LEAST, value) / self.low) / math.log(self.high / self.low)
        return ROOM.left + share * (ROOM.right - ROOM.left)

    def axis(self, cost: Cost) -> list[str]:
        ticks = log_ticks(self.low, self.high)
        if len(ticks) < 2:
            ticks = linear_ticks(self.low, self.high, 4)
        parts: list[str] = []
        for tick in ticks[:: math.ceil(len(ticks) / 7)]:  # labels of more would touch
            parts.append(line(self(tick), ROOM.top, self(tick), ROOM.bottom, "grid"))
            parts.append(text(self(tick), ROOM.bottom + 15, cost.tick(tick), "tick", "middle"))
        middle = (ROOM.left + ROOM.right) / 2
        return [*parts, text(middle, 302, cost.axis, "axis", "middle")]
