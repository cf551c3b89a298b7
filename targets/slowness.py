"""Whether a file is slower than the untouched one by more than chance and the rule allow."""

from __future__ import annotations

from targets.measurement import Ratio, ratio_of_times
from targets.report_row import Row
from targets.units import times_text

SLOWER = 1.10
"""A file may take this many times the fp32 file's median latency."""
_CONFIDENCE = 0.95


def slowdown(row: Row, reference: Row) -> Ratio:
    """The row's median time / the reference's, with its interval where raw times are known."""
    assert row.latency_ms is not None and reference.latency_ms is not None
    median = row.latency_ms.median / reference.latency_ms.median
    if not row.times_ms or not reference.times_ms:
        return Ratio(median, median, median, _CONFIDENCE)
    of_processes = ratio_of_times(row.times_ms, reference.times_ms, confidence=_CONFIDENCE)
    # All times together are what the report shows; the interval is that of whole processes.
    low, high = min(median, of_processes.low), max(median, of_processes.high)
    return Ratio(median, low, high, _CONFIDENCE)


def too_slow(row: Row, reference: Row) -> str | None:
    """Why it is; None where the interval's lower end does not exceed SLOWER."""
    found = slowdown(row, reference)
    if found.low <= SLOWER:
        return None
    return f"takes {times_text(found.value)} the time of {reference.path}{_interval(found)}"


def unsure(row: Row, reference: Row) -> str | None:
    """What to say of a file that passed though it may be too slow; None where it is not so."""
    found = slowdown(row, reference)
    if found.high <= SLOWER:
        return None
    return (
        f"{row.path} took {times_text(found.value)} the time of {reference.path}"
        f"{_interval(found)}; at most {SLOWER:.2f}× is asked: measure again on a quiet machine."
    )


def _interval(found: Ratio) -> str:
    if found.low == found.high:
        return ""
    return f" (95 % interval {times_text(found.low)} to {times_text(found.high)})"
