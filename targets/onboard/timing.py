"""Calls timed one by one: the warm-up until they are steady, then the times that count."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

_WINDOW = 5
_AGREE = 0.05
_LEAST_WARMUP_S = 0.1


def timed(call: Callable[[], object]) -> int:
    """Nanoseconds of one call."""
    begun = time.perf_counter_ns()
    call()
    return time.perf_counter_ns() - begun


def warm_up(call: Callable[[], object], limit_s: float) -> tuple[int, bool]:
    """Call until the medians of two windows agree within 5 %; (calls, whether they did)."""
    begun, count, previous = time.perf_counter(), 0, 0.0
    while True:
        window: list[int] = []
        while len(window) < _WINDOW:
            if time.perf_counter() - begun > limit_s:
                return count, False
            window.append(timed(call))
            count += 1
        median = statistics.median(window)
        long_enough = time.perf_counter() - begun >= min(_LEAST_WARMUP_S, limit_s)
        if long_enough and abs(median - previous) <= _AGREE * median:
            return count, True
        previous = median


def times_of(call: Callable[[], object], runs: int, limit_s: float) -> list[int]:
    """Up to `runs` times, fewer (at least 3) when they take longer than `limit_s` together."""
    begun = time.perf_counter()
    times: list[int] = []
    while len(times) < runs and (len(times) < 3 or time.perf_counter() - begun < limit_s):
        times.append(timed(call))
    return times
